"""The endpoint's certificate, and whose clients' certificates it takes: out of files that may be replaced.

Certificates are renewed by programs that know nothing of ours: they put another file in place. Therefore the
files are looked at when somebody connects, once a second at most, on a thread, since a disk may be far away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.primitives.pem_files import (
    FollowedFiles,
    PemError,
    certificates_in,
    content_of,
    no_password,
    private_key_in,
)
from otpylib_telemetry.primitives.threads import run_in_thread, start_in_thread
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Seconds between two looks at the files.
_LOOK_INTERVAL: Final = 1.0

#: Seconds a handshake waits for a look at the files; then it goes on with what was read before.
_LOOK_PATIENCE: Final = 2.0


class Files(NamedTuple):
    """Where the PEM files lie; the key may be in the file of the certificate."""

    certificate: str
    key: str | None = None
    client_ca: str | None = None


class Tls:
    """What new connections are encrypted with: always what the files say, if that can be used."""

    def __init__(self, files: Files, followed: FollowedFiles[ssl.SSLContext]) -> None:
        self.files = files
        self._followed = followed
        self._next_look = time.monotonic() + _LOOK_INTERVAL

    @classmethod
    async def of(cls, files: Files) -> Tls:
        """Read the files."""
        read = partial(context_of, files)
        return cls(files, await run_in_thread(FollowedFiles, files, read, _report))

    async def context(self) -> ssl.SSLContext:
        """Return what to meet the next client with, after a look at the files if one is due."""
        now = time.monotonic()
        if now >= self._next_look:
            # Whoever connects meanwhile is not kept waiting by this look.
            self._next_look = now + _LOOK_INTERVAL
            with contextlib.suppress(RuntimeError):
                await asyncio.wait({start_in_thread(self._look)}, timeout=_LOOK_PATIENCE)
        return self._followed.content

    def _look(self) -> None:
        if self._followed.renewed():
            _log.info("The endpoint uses %s as it is now for every new connection.", self.files.certificate)


def _report(error: Exception) -> None:
    _log.warning("%s. The endpoint goes on with the files as they were read before.", error)


def context_of(files: Files) -> ssl.SSLContext:
    """Make a context out of the files."""
    _part("certificate", files.certificate, certificates_in)
    if files.key is not None:
        _part("key", files.key, private_key_in)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 8996 retires what came before; Prometheus speaks 1.2 at least, too.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except (OSError, ValueError) as error:
        raise EndpointError(_trouble(files, error)) from error
    if files.client_ca is not None:
        authorities = _part("client_ca", files.client_ca, certificates_in)
        try:
            context.load_verify_locations(cadata=authorities.decode())
        except (OSError, ValueError) as error:
            raise EndpointError(
                f"client_ca: {files.client_ca} holds a certificate that is damaged"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _part(key: str, path: str, part_of: Callable[[bytes], bytes]) -> bytes:
    try:
        return part_of(content_of(path))
    except PemError as error:
        raise EndpointError(f"{key}: {path} {error}") from error


def _trouble(files: Files, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        key = files.key or files.certificate
        return f"key: the private key in {key} does not belong to the certificate in {files.certificate}"
    if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
        return f"key: {files.key or files.certificate}: {error}"
    if files.key is None and not _holds_key(files.certificate):
        return f"key: {files.certificate}, and the key named key is not set, holds no private key in PEM form"
    return (
        f"certificate, key: {files.certificate} and {files.key or 'the private key in it'} cannot be used "
        f"({reason or error})"
    )


def _holds_key(path: str) -> bool:
    try:
        return bool(private_key_in(content_of(path)))
    except PemError:
        return False
