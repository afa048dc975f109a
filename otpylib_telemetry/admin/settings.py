"""``[telemetry.admin]``: where the admin API is served, and to whom."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from otpylib_telemetry.config.field_types import OptionalPath, WholeNumber, none_if_blank
from otpylib_telemetry.config.refusals import Conflict, RefusedError
from otpylib_telemetry.config.settings import SectionSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: A token shorter than this is guessed.
SHORTEST_TOKEN = 16


class AdminSettings(SectionSettings):
    """Where the admin API is served, and to whom."""

    kind: ClassVar[str] = "admin"

    enabled: bool = Field(
        False,
        description="Whether the admin API is served: the state and the configuration of everything in "
        "`telemetry`, to be read and changed from outside the process.",
    )
    socket: OptionalPath = Field(
        None,
        description="Path of the Unix socket to serve it on. Only the user that the process runs as can "
        "open it.",
        examples=["/run/shop/telemetry.sock"],
    )
    host: str = Field(
        "127.0.0.1",
        description="Address to serve it on over TCP, where there is a `port`. Anything but an address of "
        "the loopback needs a `token`.",
    )
    port: Annotated[WholeNumber | None, BeforeValidator(none_if_blank)] = Field(
        None,
        ge=0,
        le=65_535,
        description="Port to serve it on over TCP; none: the socket alone. 0 picks a free one, which "
        "`get_stats` tells.",
        examples=[9465],
    )
    token: Annotated[SecretStr | None, BeforeValidator(none_if_blank)] = Field(
        None,
        description="What a client over TCP has to show, as `Authorization: Bearer TOKEN`; at least "
        f"{SHORTEST_TOKEN} characters. The socket asks for none: its permissions do.",
        examples=["${TELEMETRY_ADMIN_TOKEN}"],
    )

    @field_validator("host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        value = value.strip()
        if not value:
            raise RefusedError("expected an address or a name of this machine; leave out port for none")
        return value

    @field_validator("token")
    @classmethod
    def _is_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value().strip()
        if len(text) < SHORTEST_TOKEN or not (text.isascii() and text.isprintable()) or " " in text:
            raise RefusedError(
                f"expected at least {SHORTEST_TOKEN} characters of ASCII without blanks, such as "
                "openssl rand -hex 32 prints"
            )
        return SecretStr(text)

    def conflicts(self) -> Iterable[Conflict]:
        """Return that a port which others can reach has no token."""
        if self.port is not None and self.token is None and not is_loopback(self.host):
            reason = (
                "expected an address of the loopback, such as 127.0.0.1, because others can reach this one "
                "and there is no telemetry.admin.token"
            )
            yield Conflict(("host", "token"), reason)

    def exposed(self, wished: frozenset[str]) -> Mapping[str, str]:
        """Return that the port would be open to everybody on the machine, though a token was wished for."""
        if "token" in wished and self.token is None:
            return {"port": "The admin API is not served over TCP until this is mended."}
        return {}

    @classmethod
    def meant_protection(cls, name: str) -> str | None:
        """Return the token for a key that seems to mean it."""
        return "token" if name.lower().replace("-", "_").removesuffix("s") in _MEANT else None


_MEANT = frozenset(
    {"token", "tokn", "toke", "bearer", "bearer_token", "auth_token", "admin_token", "password"}
)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine alone, whatever anybody's name server says."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")
