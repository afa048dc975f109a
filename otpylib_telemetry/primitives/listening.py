"""Sockets that listen on every address a host stands for, and refusals put into words."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Address(NamedTuple):
    """One address to listen on, as the system has it."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses of a host. For a thread: a name server may take long."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(Address(family, sockaddr) for family, _, _, _, sockaddr in found))


def bind_all(
    addresses: Iterable[Address], port: int, *, backlog: int, shared: bool = False, both: bool = False
) -> list[socket.socket]:
    """Listen on every address; none stays bound if one that this machine has is refused.

    ``shared`` lets other processes listen on the same port. With ``both``, one of IPv6 takes IPv4 as well.
    """
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for address in addresses:
            # With port 0 all addresses get the port that was found for the first one.
            wanted = bound[0].getsockname()[1] if bound else port
            try:
                bound.append(_bound(address, wanted, backlog, shared=shared, both=both))
            except OSError as error:
                # A name such as localhost often stands for an IPv6 address, too, where there is no IPv6.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                missing = error
        if not bound:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def _bound(address: Address, port: int, backlog: int, *, shared: bool, both: bool) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name == "posix":
            # Elsewhere this option lets two programs share a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared and hasattr(socket, "SO_REUSEPORT"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            # An IPv4 address that is written as one of IPv6 is served over IPv4 alone.
            only = not both and not address.sockaddr[0].startswith("::ffff:")
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        sock.bind((address.sockaddr[0], port, *address.sockaddr[2:]))
        # Listening here, not later, finds out about a port that is taken while it can still be refused.
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def reason(error: OSError, *, taken: str = "the port is taken by another program") -> str:
    """Return why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return taken
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "the system does not permit it; ports below 1024 need a privilege"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the host is not an address of this machine"
    return error.strerror or str(error)


def reachable(host: str) -> str:
    """Return a host one can connect to, for one that stands for every address."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def joined(host: str, port: int) -> str:
    """Return host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
