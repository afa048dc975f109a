"""The HTTP endpoint a Prometheus server scrapes.

It lives on the event loop of whoever starts it, in tasks of its own: a client that is slow, or silent, holds
up its own connection and nothing else. It moves while it serves: the new address is bound before the old one
is given up, and where that cannot be (another host, the same port) the old one is taken again if the new one
fails. From HTTP to HTTPS it changes without giving up the port at all.

aiohttp is imported when an endpoint starts, on a thread: it takes a good part of a second.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry import otp
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.listening import Address, joined, reachable
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_prometheus.endpoint import sockets
from otpylib_telemetry_prometheus.endpoint.access import Access, Guard
from otpylib_telemetry_prometheus.endpoint.answers import Answers
from otpylib_telemetry_prometheus.endpoint.connections import Connections, Counts, Limits, Patience
from otpylib_telemetry_prometheus.endpoint.listener import Listener
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError
from otpylib_telemetry_prometheus.endpoint.tls import Tls

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine
    from types import ModuleType

    from otpylib_telemetry_prometheus.page import Scrape


#: Seconds scrapes that are being answered get when the endpoint has moved on.
_MOVE_GRACE: Final = 5.0


class _Where(NamedTuple):
    """Where to serve, as it was asked for."""

    host: str
    port: int
    shared: bool

    def bind(self, addresses: list[Address]) -> list[socket.socket]:
        """Bind the addresses the host stands for; see :func:`.sockets.bind`."""
        return sockets.bind(self.host, self.port, addresses, shared=self.shared)


class Endpoint(Answers):
    """Serves one page, which can be moved to another address, and stopped.

    Attributes:
        counts: What became of connections that ended before their time.
    """

    def __init__(
        self,
        scrape: Scrape,
        *,
        guard: Guard | None = None,
        ready: Callable[[], str | None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        super().__init__(scrape, guard or Guard(), ready)
        self.counts = Counts()
        self._patience = patience or Patience()
        self._wanted: _Where | None = None
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def serving(self) -> bool:
        """Whether it serves, on the event loop that runs now."""
        if self._listener is None or self._loop is None or self._loop.is_closed():
            return False
        return self._listener.is_accepting

    @property
    def port(self) -> int | None:
        """The port it serves on, which for port 0 is the one that was found; None if it does not serve."""
        return self._listener.port if self._listener is not None else None

    @property
    def host(self) -> str | None:
        """The host it serves on; None if it does not serve."""
        return self._listener.host if self._listener is not None else None

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._listener.connections) if self._listener is not None else 0

    @property
    def url(self) -> str | None:
        """Where to scrape; None if it does not serve."""
        listener = self._listener
        if listener is None:
            return None
        scheme = "http" if listener.tls is None else "https"
        return f"{scheme}://{joined(reachable(listener.host), listener.port)}{self._path}"

    async def place(  # noqa: PLR0913 - the last three by name
        self,
        host: str,
        port: int,
        path: str,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        shared: bool = False,
    ) -> None:
        """Serve there, to these clients: start, move or change; nothing happens if all is so already."""
        where = _Where(host, port, shared)
        # Before anything that may fail or take time.
        self._guard.want(access or Access())
        await _afresh(self._place(where, path, access or Access(), limits or Limits()))

    async def stop(self, grace: float) -> None:
        """Stop serving."""
        async with self._lock:
            listener, self._listener, self._wanted = self._listener, None, None
            if listener is not None:
                await listener.finish(grace)
            for task in [*self._leaving]:
                task.cancel()
            await asyncio.gather(*self._leaving, return_exceptions=True)

    def abandon(self) -> None:
        """Free the address at once, from outside the loop it was served on: that loop is gone."""
        listener, self._listener, self._wanted = self._listener, None, None
        if listener is not None:
            for sock in listener.sockets:
                sock.close()

    async def _place(self, where: _Where, path: str, access: Access, limits: Limits) -> None:
        async with self._lock:
            if self._web is None:
                self._web = await _aiohttp_web()
            tls = await self._tls(access)
            old = self._listener if self.serving else None
            if old is None or self._wanted != where:
                addresses = await sockets.resolve(where.host, where.port)
                # Nobody else runs between here and the end: no request is let in under the rules of before.
                self._listener = self._listen(old, where, addresses, tls)
                self._loop = asyncio.get_running_loop()
                self._wanted = where
                if old is not None:
                    self._leave(old)
            elif old.tls is not tls:
                old.encrypt(tls)
            self._path, self._limits = path, limits
            self._guard.put_in_force(access)

    async def _tls(self, access: Access) -> Tls | None:
        if access.files is None:
            return None
        present = self._listener.tls if self._listener is not None else None
        if present is not None and present.files == access.files:
            return present
        return await Tls.of(access.files)

    def _listen(
        self, old: Listener | None, where: _Where, addresses: list[Address], tls: Tls | None
    ) -> Listener:
        try:
            bound = where.bind(addresses)
        except EndpointError:
            if old is None or where.port != old.port:
                raise
            bound = self._swap(old, where, addresses)
        return self._serve(where.host, bound, tls)

    def _swap(self, old: Listener, where: _Where, addresses: list[Address]) -> list[socket.socket]:
        """Bind a port of which this endpoint itself holds another address."""
        previous = [Address(sock.family, sock.getsockname()) for sock in old.sockets]
        old.stop_accepting()
        try:
            return where.bind(addresses)
        except EndpointError as refused:
            shared = self._wanted is not None and self._wanted.shared
            try:
                bound = _Where(old.host, old.port, shared).bind(previous)
            except EndpointError:
                self._listener, self._wanted = None, None
                self._leave(old)
                raise EndpointError(
                    f"{refused}; and {joined(old.host, old.port)}, which was served until now, could not be "
                    f"taken back"
                ) from refused
            self._listener = self._serve(old.host, bound, old.tls)
            self._leave(old)
            raise

    def _serve(self, host: str, bound: list[socket.socket], tls: Tls | None) -> Listener:
        connections = Connections(lambda: self._limits, self._patience, self.counts)
        listener = Listener(host, bound, tls, connections)
        listener.start(self._web, self._answer, self._quiet)
        return listener

    def _leave(self, listener: Listener) -> None:
        """Give up an address without keeping whoever moved the endpoint waiting."""
        listener.stop_accepting()
        task = asyncio.get_running_loop().create_task(listener.finish(_MOVE_GRACE))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


async def _afresh(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in a context of its own.

    Tasks and callbacks inherit the context of whoever starts them. The endpoint's would otherwise carry the
    span, or be taken for the process, that happened to start it.
    """
    # Whoever opens the exporter sees to its end, also when the application ends while it is being opened.
    await otp.outlast(asyncio.create_task(work, context=contextvars.Context()))


async def _aiohttp_web() -> ModuleType:
    try:
        return await run_in_thread(import_module, "aiohttp.web")
    except ImportError as error:
        raise EndpointError(
            "the metrics endpoint needs aiohttp, which cannot be imported "
            f"({error}): install otpylib-telemetry[prometheus]"
        ) from error
