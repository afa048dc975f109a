"""Where the endpoint listens: names looked up, addresses bound, and refusals put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.primitives import listening
from otpylib_telemetry.primitives.listening import Address, joined
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    import socket

#: Connections the system may keep waiting for us. Prometheus opens one per server that scrapes.
BACKLOG: Final = 128


class EndpointError(Exception):
    """The endpoint cannot be had; the message says which, why, and what can be done."""


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses a host stands for. Names are looked up on a thread: that can take long."""
    try:
        return await run_in_thread(listening.look_up, host, port)
    except (OSError, UnicodeError) as error:
        raise EndpointError(
            f"cannot serve metrics on {joined(host, port)}: the host cannot be resolved ({error}). Expected "
            f"an address or a name of this machine, such as 127.0.0.1, 0.0.0.0 or localhost"
        ) from error


def bind(host: str, port: int, addresses: list[Address], *, shared: bool = False) -> list[socket.socket]:
    """Bind every address; none stays bound if one that this machine has is refused."""
    # As for other servers, "::" by itself takes IPv4 as well.
    both = [address.sockaddr[0] for address in addresses] == ["::"]
    try:
        return listening.bind_all(addresses, port, backlog=BACKLOG, shared=shared, both=both)
    except OSError as error:
        why = listening.reason(
            error, taken="the port is taken by another program, or by another exporter of this one"
        )
        raise EndpointError(f"cannot serve metrics on {joined(host, port)}: {why}") from error
