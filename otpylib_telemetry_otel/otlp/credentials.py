"""Certificates and keys out of files, read again when the files change.

A file is looked at before an attempt, not watched: that costs a microsecond or two, needs no thread, and no
attempt is made with a certificate that has been replaced.
"""

from __future__ import annotations

import datetime as dt
import logging
import ssl
from typing import TYPE_CHECKING, NamedTuple

from otpylib_telemetry.primitives.pem_files import (
    FollowedFiles,
    PemError,
    certificates_in,
    content_of,
    no_password,
    private_key_in,
)
from otpylib_telemetry_otel.otlp.certificates import complaint, validity_of_pem

if TYPE_CHECKING:
    from collections.abc import Callable


_log = logging.getLogger("otpylib_telemetry")


class CredentialsError(Exception):
    """The files cannot be used as they are; the message says which one and why."""


class Files(NamedTuple):
    """Where certificates and keys lie, as PEM files; None for what is not used."""

    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None


class Credentials(NamedTuple):
    """The content of the files, and a context for Python's TLS; ``warning`` says what will not work."""

    certificate: bytes | None
    client_key: bytes | None
    client_certificate: bytes | None
    context: ssl.SSLContext
    warning: str | None = None


class Watched:
    """Credentials that follow their files."""

    def __init__(
        self, files: Files, now: Callable[[], dt.datetime] = lambda: dt.datetime.now(tz=dt.UTC)
    ) -> None:
        self._files = files
        self._followed = FollowedFiles(files, lambda: read(files, now()), _report)
        if self.credentials.warning:
            _log.warning("%s.", self.credentials.warning)

    @property
    def credentials(self) -> Credentials:
        """What the files said when they could last be used."""
        return self._followed.content

    def renewed(self) -> bool:
        """Look at the files, and take what they say if it is new and can be used; tell whether it was.

        What cannot be used is reported once, and the credentials stay as they were until the files change
        again.
        """
        recovered = self._followed.in_trouble
        if not self._followed.renewed():
            return False
        names = ", ".join(
            path for path in (self._files.certificate, self._files.client_certificate) if path is not None
        )
        _log.info("%s: read again%s.", names, ", and in order now" if recovered else "")
        if self.credentials.warning:
            _log.warning("%s.", self.credentials.warning)
        return True


def _report(error: Exception) -> None:
    _log.warning("%s. The credentials read before stay in use.", error)


def watched(files: tuple[str | None, str | None, str | None]) -> Watched | None:
    """Return the credentials in these files; None where there are none."""
    return None if files == Files() else Watched(Files(*files))


def read(files: Files, now: dt.datetime) -> Credentials:
    """Read credentials, and try whether they can be used."""
    certificate = _part("certificate", files.certificate, certificates_in)
    client_key = _part("client_key", files.client_key, private_key_in)
    client_certificate = _part("client_certificate", files.client_certificate, certificates_in)
    if certificate is None:
        context = ssl.create_default_context()
    else:
        try:
            context = ssl.create_default_context(cadata=certificate.decode())
        except (ssl.SSLError, ValueError) as error:
            raise CredentialsError(
                f"certificate: the file {files.certificate} holds a certificate that is damaged"
            ) from error
    if files.client_certificate is not None:
        try:
            context.load_cert_chain(files.client_certificate, files.client_key, password=no_password)
        except (OSError, ValueError) as error:
            raise CredentialsError(_client_trouble(files, error)) from error
    return Credentials(
        certificate, client_key, client_certificate, context, _warning(files, client_certificate, now)
    )


def _part(key: str, path: str | None, part_of: Callable[[bytes], bytes]) -> bytes | None:
    if path is None:
        return None
    try:
        return part_of(content_of(path))
    except PemError as error:
        raise CredentialsError(f"{key}: the file {path} {error}") from error


def _client_trouble(files: Files, error: Exception) -> str:
    reason = getattr(error, "reason", None)
    if reason == "KEY_VALUES_MISMATCH":
        return (
            f"client_key: the key in {files.client_key} does not belong to the certificate in "
            f"{files.client_certificate}"
        )
    said = str(error) if isinstance(error, ValueError) and reason is None else "one of them is damaged"
    return f"client_certificate, client_key: {files.client_certificate} and {files.client_key}: {said}"


def _warning(files: Files, client_certificate: bytes | None, now: dt.datetime) -> str | None:
    if client_certificate is None:
        return None
    try:
        wrong = complaint(validity_of_pem(client_certificate), now)
    except ValueError:
        return None
    return wrong and f"client_certificate: the certificate in {files.client_certificate} {wrong}"
