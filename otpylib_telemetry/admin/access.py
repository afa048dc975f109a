"""Who may ask: whoever has the token, and no page of another site that a browser on this machine shows.

A port on the loopback is open to every page that a browser of this machine shows. Its name may be made to
resolve to 127.0.0.1 (DNS rebinding), or it may send a form here. So a ``Host`` has to be an address or a name
of this machine, an ``Origin`` this one, and what changes anything needs what no form can send.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.admin.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

    from otpylib_telemetry.admin.routing import Request, Route
    from otpylib_telemetry.admin.settings import AdminSettings

#: Methods that change nothing.
_SAFE: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Access:
    """To whom a port is open.

    ``hosts``: names that a client may call it by, in lower case, beside addresses and localhost; None for
    any.
    """

    token: SecretStr | None = None
    hosts: frozenset[str] | None = frozenset()

    def check(self, request: Request, route: Route) -> None:
        """Raise ProblemError where a request is not to be answered."""
        if request.is_private:
            # Somebody may have made a port of the socket (ssh -L), which a browser reaches.
            _check_forwarded(request.headers)
            return
        self._check_host(request.headers)
        _check_origin(request.headers)
        if self.token is not None and not route.is_open:
            self._check_token(self.token, request.headers)
        if request.method not in _SAFE:
            _check_intention(request.headers)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        if self.hosts is None or _is_ours(host, self.hosts):
            return
        raise _misdirected(host)

    @staticmethod
    def _check_token(token: SecretStr, headers: Mapping[str, str]) -> None:
        scheme, _, given = headers.get("authorization", "").strip().partition(" ")
        shown = given.strip() if scheme.lower() == "bearer" else ""
        # Digests, because the comparison of texts of unequal length ends early.
        digests = (_digest(shown), _digest(token.get_secret_value()))
        if not hmac.compare_digest(*digests):
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "the token is wrong" if shown else "a token is needed",
                where="header: Authorization",
                expected="Bearer and telemetry.admin.token",
                headers={"WWW-Authenticate": 'Bearer realm="telemetry"'},
            )


def access_of(settings: AdminSettings) -> Access:
    """Return to whom the port is open under these settings."""
    # What others can reach they call by names that only they know, and there is a token.
    hosts = frozenset({settings.host.lower().rstrip(".")}) if is_loopback(settings.host) else None
    return Access(settings.token, hosts)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    name = _name_of(host)
    if name is None:
        return False
    try:
        # What is written as an address was not resolved by anybody.
        ipaddress.ip_address(name)
    except ValueError:
        return is_loopback(name) or name in hosts
    return True


def _name_of(host: str) -> str | None:
    """Return the host of a ``Host`` header in lower case, without the port."""
    try:
        found = urlsplit(f"//{host.strip()}")
        return None if found.username is not None or not found.hostname else found.hostname.rstrip(".")
    except ValueError:
        return None


def _check_forwarded(headers: Mapping[str, str]) -> None:
    """Refuse what a browser sends for a page of another site; clients of a socket name any host they like."""
    _check_origin(headers)
    host = headers.get("host", "")
    if "." in (_name_of(host) or "") and not _is_ours(host, frozenset()):
        raise _misdirected(host)


def _misdirected(host: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.MISDIRECTED_REQUEST,
        f"this is not {host[:200]!r}: a page of another site may have sent this",
        where="header: Host",
        expected="an address, localhost, or telemetry.admin.host",
    )


def _check_origin(headers: Mapping[str, str]) -> None:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none").lower()
    is_here = origin is None or urlsplit_netloc(origin) == headers.get("host", "").strip().lower()
    if is_here and site in {"none", "same-origin"}:
        return
    raise ProblemError(
        HTTPStatus.FORBIDDEN,
        "a page of another site asks for this",
        where="header: Origin" if not is_here else "header: Sec-Fetch-Site",
        expected="none, or this very server",
    )


def urlsplit_netloc(origin: str) -> str | None:
    """Return host and port of an origin, None if it is none."""
    try:
        return urlsplit(origin.strip()).netloc.lower() or None
    except ValueError:
        return None


def _check_intention(headers: Mapping[str, str]) -> None:
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json" or headers.get("x-telemetry-by", "").strip():
        return
    raise ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "a form of another site could have sent this",
        where="header: Content-Type",
        expected="application/json, or a header X-Telemetry-By that says who asks",
    )
