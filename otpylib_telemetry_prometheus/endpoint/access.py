"""Who may scrape: over TLS or not, with a certificate, a password, or without anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from otpylib_telemetry.config.settings import RefusedError

if TYPE_CHECKING:
    from otpylib_telemetry_prometheus.endpoint.tls import Files


#: What a client without the right password is answered (RFC 7617, section 2).
CHALLENGE: Final = 'Basic realm="metrics", charset="UTF-8"'


@dataclass(frozen=True, slots=True)
class Login:
    """Name and password for HTTP basic authentication.

    Attributes:
        username: The name; it has no colon.
        password: The password.
    """

    username: str
    password: SecretStr

    def admits(self, authorization: str | None) -> bool:
        """Tell whether a client has shown this name and this password.

        How long the answer takes says nothing about how much of them was right.
        """
        scheme, _, encoded = (authorization or "").strip().partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        expected = f"{self.username}:{self.password.get_secret_value()}".encode()
        # Digests, because the comparison of texts of unequal length ends early.
        return hmac.compare_digest(hashlib.sha256(given).digest(), hashlib.sha256(expected).digest())


@dataclass(frozen=True, slots=True)
class Access:
    """What stands between a client and the page.

    Attributes:
        files: Certificates; None for plain HTTP.
        login: Name and password; None if nobody is asked.
    """

    files: Files | None = None
    login: Login | None = None


_EXPECTED: Final = 'expected { username = "...", password = "..." } or "username:password"'


def login(value: object) -> object:
    """Return the login that a setting says."""
    if value is None or isinstance(value, Login):
        return value
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        # A blank at the end may be one of the password.
        value = _table(value) if value.strip() else {}
    if not isinstance(value, Mapping):
        raise RefusedError(_EXPECTED)
    if not value:
        return None
    return _login_of(value)


def _login_of(table: Mapping[str, object]) -> Login:
    if set(table) != {"username", "password"}:
        raise RefusedError(f"{_EXPECTED}, with no other keys")
    username, password = table["username"], table["password"]
    if isinstance(password, SecretStr):
        password = password.get_secret_value()
    if not isinstance(username, str) or not isinstance(password, str):
        raise RefusedError(f"{_EXPECTED}, both of them strings")
    if not username or not password:
        raise RefusedError(f"{_EXPECTED}, neither of them empty")
    # RFC 7617, section 2.
    if ":" in username:
        raise RefusedError("expected a user name without a colon, which is where the password begins")
    if not (username + password).isprintable():
        raise RefusedError("expected a user name and a password without control characters")
    return Login(username, SecretStr(password))


def _table(text: str) -> object:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise RefusedError(_EXPECTED) from None
    username, colon, password = text.partition(":")
    if not colon:
        raise RefusedError(_EXPECTED)
    return {"username": username.strip(), "password": password}
