"""Certificates and keys in PEM files (RFC 7468), read again when another program replaces the files."""

from __future__ import annotations

import binascii
import os
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeAlias, TypeVar

from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


T = TypeVar("T")

_BEGIN: Final = b"-----BEGIN "
_DASHES: Final = b"-----"
_CERTIFICATES: Final = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE"})
_PRIVATE_KEY: Final = b"PRIVATE KEY"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
#: The first byte of everything that a certificate or a key is in DER form.
_DER: Final = b"\x30"


class PemError(ValueError):
    """A file cannot be used; the message is what comes after its name."""


def content_of(path: str) -> bytes:
    """Read a file."""
    try:
        # Opening a named pipe would wait for a writer, and a device may never end.
        regular = stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - as below
        content = Path(path).read_bytes() if regular else b""
    except (OSError, ValueError) as error:
        raise PemError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not regular:
        raise PemError("cannot be read: Is no regular file")
    return content


def certificates_in(content: bytes) -> bytes:
    """Return the certificates of a PEM file without the text around them, in whatever encoding that is."""
    found = [body for label, body in _blocks(content, "certificate") if label in _CERTIFICATES]
    if not found:
        raise PemError(_none_of("certificate", content))
    return b"".join(map(_whole, found))


def private_key_in(content: bytes) -> bytes:
    """Return the private key of a PEM file without the text around it."""
    for label, body in _blocks(content, "private key"):
        if label.endswith(_PRIVATE_KEY):
            return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, body, label)
    raise PemError(_none_of("private key", content))


def _blocks(content: bytes, what: str) -> list[tuple[bytes, bytes]]:
    """Return label and body of every block; the text around them may be anything."""
    found: list[tuple[bytes, bytes]] = []
    label, body = b"", list[bytes]()
    for line in content.removeprefix(_BYTE_ORDER_MARK).splitlines():
        if line.startswith(_BEGIN):
            if label:
                break
            label, body = line.rstrip().removeprefix(_BEGIN).removesuffix(_DASHES), []
        elif label and line.rstrip() == b"-----END %b-----" % label:
            found.append((label, b"\n".join(body)))
            label = b""
        elif label:
            body.append(line)
    if label:
        # What comes before the cut may be the wrong half: nothing of such a file is used.
        raise PemError(f"holds a {what} without its end: the file is cut short")
    return found


def _none_of(what: str, content: bytes) -> str:
    if not content.strip():
        return f"is empty; a {what} in PEM form was expected"
    in_der = "; it seems to be in DER form" if content.startswith(_DER) and b"\0" in content else ""
    return f"holds no {what} in PEM form{in_der}"


def _whole(body: bytes) -> bytes:
    try:
        der = binascii.a2b_base64(b"".join(body.split()), strict_mode=True)
    except ValueError:
        raise PemError("holds a certificate that is damaged") from None
    return ssl.DER_cert_to_PEM_cert(der).encode()


_Signature: TypeAlias = "tuple[tuple[int, int, int, int] | None, ...]"


class FollowedFiles(Generic[T]):
    """What was last read out of files that could be used; errors later on are reported once. Thread-safe."""

    def __init__(
        self,
        paths: Sequence[str | None],
        read: Callable[[], T],
        report: Callable[[Exception], None],
    ) -> None:
        self._paths = paths
        self._read = read
        self._report = report
        self._lock = new_lock()
        self._signature = _signature(paths)
        self.content = read()
        #: Whether the files as they are now cannot be used.
        self.in_trouble = False

    def renewed(self) -> bool:
        """Look at the files, which costs a microsecond or two; return whether there is new content."""
        if _signature(self._paths) == self._signature:
            return False
        with self._lock:
            signature = _signature(self._paths)
            if signature == self._signature:
                return False
            error: Exception | None = None
            try:
                content = self._read()
            except Exception as caught:  # noqa: BLE001 - whatever it is, the earlier content stays
                error = caught
            if _signature(self._paths) != signature:
                # Still being replaced: this may be half of the old and half of the new.
                return False
            self._signature = signature
            first_trouble = error is not None and not self.in_trouble
            self.in_trouble = error is not None
            if error is None:
                self.content = content
        if error is not None and first_trouble:
            self._report(error)
        return error is None


def no_password() -> NoReturn:
    """Refuse a key with a password. Without this, OpenSSL would ask for it on the terminal."""
    raise ValueError("the private key is encrypted with a password, which is not supported")


def _signature(paths: Sequence[str | None]) -> _Signature:
    """Return what changes when one of the files is replaced or written."""
    return tuple(_stat(path) for path in paths)


def _stat(path: str | None) -> tuple[int, int, int, int] | None:
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - a call of its own costs a tenth of what a Path does
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
