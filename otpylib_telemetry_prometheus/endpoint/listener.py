"""Listening sockets at work: they accept, shake hands, and have requests answered.

Connections are accepted here rather than by an asyncio server, because only so a connection counts before its
handshake, the handshake of each goes on by itself with the certificate of that moment, and the same sockets
can change from HTTP to HTTPS.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_prometheus.endpoint.connections import Connection, Connections

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterator

    from otpylib_telemetry_prometheus.endpoint.tls import Tls


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Seconds for what has been cancelled to come to an end, and for the last bytes to leave.
_CANCEL_TIMEOUT: Final = 0.5

#: Seconds a client gets to agree that an encrypted connection ends.
_FAREWELL: Final = 1.0

#: Seconds to wait where the system has no more file descriptors to give.
_SHORTAGE: Final = 1.0


class _Answers:
    """Counts the answers under way."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def done(self, seconds: float) -> None:
        """Wait until there are none, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()


class Listener:
    """One set of listening sockets with the connections they accepted."""

    def __init__(
        self, host: str, sockets: list[socket.socket], tls: Tls | None, connections: Connections
    ) -> None:
        self.host = host
        self.port: int = sockets[0].getsockname()[1]
        self.sockets = sockets
        self.tls = tls
        self.connections = connections
        self._http: Any = None
        self._answers = _Answers()
        #: Where the event loop cannot watch sockets: one task for each.
        self._accepting: list[asyncio.Task[None]] = []
        self._short = False

    @property
    def is_accepting(self) -> bool:
        """Whether every socket takes connections."""
        if any(task.done() for task in self._accepting):
            return False
        return self._http is not None and all(sock.fileno() >= 0 for sock in self.sockets)

    def start(self, web: Any, answer: Callable[[Any], Awaitable[Any]], log: logging.Logger) -> None:
        """Accept from now on."""

        async def answer_one(request: Any) -> Any:
            connection = self.connections.speaking(request.protocol)
            with self._answers.one(), connection.being_answered() if connection else contextlib.nullcontext():
                return await answer(request)

        # A body that nobody asked for is not waited for.
        self._http = web.Server(answer_one, access_log=None, logger=log, lingering_time=1.0)
        for sock in self.sockets:
            self._watch(sock)

    def stop_accepting(self) -> None:
        """Close the listening sockets; what has been accepted goes on."""
        for task in self._accepting:
            task.cancel()
        for sock in self.sockets:
            self._unwatch(sock)
            sock.close()

    def encrypt(self, tls: Tls | None) -> None:
        """Take another encryption, or none, for every connection from now on."""
        self.tls = tls
        for connection in self.connections:
            connection.retire()

    async def finish(self, grace: float) -> None:
        """Let the answers under way get done within ``grace`` seconds, then close every connection."""
        self.stop_accepting()
        self._http.pre_shutdown()
        for connection in self.connections:
            connection.retire()
        await self._answers.done(grace)
        # This cancels what is left, and makes aiohttp forget it; the outer limit is for the case that
        # something does not let itself be cancelled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                await self._http.shutdown(timeout=0.01)
        await self.connections.end(_CANCEL_TIMEOUT)

    def _watch(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if sock.fileno() < 0:
            return
        try:
            loop.add_reader(sock, self._accept, sock)
        except NotImplementedError:
            # Windows: its event loop accepts, but does not watch.
            self._accepting.append(loop.create_task(self._keep_accepting(sock)))

    def _unwatch(self, sock: socket.socket) -> None:
        with contextlib.suppress(NotImplementedError, ValueError):
            asyncio.get_running_loop().remove_reader(sock)

    def _accept(self, sock: socket.socket) -> None:
        try:
            accepted, _ = sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionError):
            # It has gone away again.
            return
        except OSError as error:
            self._report(error)
            self._unwatch(sock)
            asyncio.get_running_loop().call_later(_SHORTAGE, self._watch, sock)
            return
        self._take(accepted)

    async def _keep_accepting(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while sock.fileno() >= 0:
            try:
                accepted, _ = await loop.sock_accept(sock)
            except ConnectionError:
                continue
            except OSError as error:
                self._report(error)
                await asyncio.sleep(_SHORTAGE)
                continue
            self._take(accepted)

    def _report(self, error: OSError) -> None:
        if not self._short:
            _log.warning("No connection can be accepted for metrics now: %s.", error)
        self._short = True

    def _take(self, accepted: socket.socket) -> None:
        self._short = False
        accepted.setblocking(False)
        connection = Connection(self.connections, self._http)
        if self.connections.admit(connection):
            self._begin(connection, accepted)
        else:
            accepted.close()

    def _begin(self, connection: Connection, accepted: socket.socket) -> None:
        def over(_opening: asyncio.Task[None]) -> None:
            if connection not in self.connections:
                # Given up before anything was there that would close it.
                accepted.close()

        connection.opening = asyncio.get_running_loop().create_task(self._open(connection, accepted))
        connection.opening.add_done_callback(over)

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        encryption: dict[str, Any] = {}
        try:
            if self.tls is not None:
                encryption = {
                    "ssl": await self.tls.context(),
                    "ssl_handshake_timeout": self.connections.patience.handshake,
                    "ssl_shutdown_timeout": _FAREWELL,
                }
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, accepted, **encryption
            )
        except Exception as error:  # noqa: BLE001 - a connection that fails is its client's affair alone
            # It speaks plain HTTP, has no certificate, or went away: that must not fill anybody's log.
            _log.debug("A connection for metrics ended in its handshake: %s.", error)
            self.connections.counts.handshakes += connection in self.connections
            connection.abort()
