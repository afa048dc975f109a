"""Who may scrape: over TLS or not, with a certificate, a password, or without anything."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pydantic import SecretStr

from otpylib_telemetry.config.refusals import RefusedError

if TYPE_CHECKING:
    from otpylib_telemetry_prometheus.endpoint.tls import Files


#: What a client without the right password is answered (RFC 7617, section 2).
CHALLENGE: Final = 'Basic realm="metrics", charset="UTF-8"'

#: What a client is told while what should protect the page cannot be used. The reason is for the operator.
WITHHELD: Final = "the metrics are not served: what is to protect them cannot be used"


@dataclass(frozen=True, slots=True)
class Login:
    """Name and password for HTTP basic authentication; the name has no colon."""

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


class Access(NamedTuple):
    """What stands between a client and the page: certificates and a login, None for neither."""

    files: Files | None = None
    login: Login | None = None


class Guard:
    """Whom the page may be shown to at this moment.

    What is wanted counts from the moment it is known where it protects more, and only once it is in force
    where it protects less: so a change that cannot be made leaves nothing open in between.
    """

    def __init__(self) -> None:
        self._wanted = Access()
        self._in_force = Access()
        #: Why the page is shown to nobody; None if it may be.
        self.withheld: str | None = None

    def want(self, access: Access) -> None:
        """Take note of what is wanted."""
        self._wanted = access

    def put_in_force(self, access: Access) -> None:
        """Take note that what was wanted has been done."""
        self._wanted = self._in_force = access

    @property
    def login(self) -> Login | None:
        """The name and the password that are asked for at this moment."""
        return self._wanted.login or self._in_force.login

    def admits(self, authorization: str | None) -> bool:
        """Tell whether a client has shown name and password, if there are any."""
        login = self.login
        return login is None or login.admits(authorization)

    def lacks(self, *, encrypted: bool, certified: bool) -> str | None:
        """Return what a connection lacks of what is wanted, or None: files may not have been read yet."""
        files = self._wanted.files
        # A certificate of the endpoint's own keeps nobody out: a page that was in clear goes on so until
        # there is one, as with every other setting. One that clients must have does.
        if files is None or files.client_ca is None:
            return None
        if not encrypted:
            return "it is to be served over TLS alone, which is not in force"
        return None if certified else "clients need a certificate, which is not in force"


def protection(value: object) -> object:
    """Return a setting that protects: false says that there is none, an empty text says nothing."""
    if value is False:
        return None
    if isinstance(value, str) and not value.strip():
        raise RefusedError("expected the path of a file, not an empty text; false for none")
    return value


_EXPECTED: Final = 'expected { username = "...", password = "..." } or "username:password"'


def login(value: object) -> object:
    """Return the login that a setting says; false and an empty table say that there is none."""
    if value is None or value is False or isinstance(value, Login):
        return value or None
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, str):
        value = _table(value)
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
    if not text.strip():
        raise RefusedError(f"{_EXPECTED}, not an empty text; false for none")
    if not colon:
        raise RefusedError(_EXPECTED)
    # A blank at the end may be one of the password.
    return {"username": username.strip(), "password": password}
