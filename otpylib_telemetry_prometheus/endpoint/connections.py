"""The connections of the endpoint: how many there are, what each may take of time and bytes.

A connection is counted from the moment it is accepted, before any handshake. One that asks for nothing, or
not fast enough, is cut off; where there are too many, those that ask for nothing give way. So a client can
hold up its own connection, and never anybody else's scrape.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: Bytes a client may send from one answer to the next. A request is its line and its headers, and no line of
#: it may be longer than 8 KiB.
_REQUEST_LIMIT: Final = 64 * 1024

#: Seconds until a request that came whole is being answered, when the client has said that there is no more:
#: if that does not happen, it was none.
_HALF: Final = 2.0

#: Seconds for another one that came with it.
_PIPELINED: Final = 0.1


class Limits(NamedTuple):
    """How many connections there may be, and how many seconds one answer may take to its last byte."""

    max_connections: int = 100
    scrape_timeout: float = 30.0


class Patience(NamedTuple):
    """How many seconds a client is waited for: in the handshake, with its first request, and with others."""

    handshake: float = 10.0
    request: float = 10.0
    idle: float = 120.0


@dataclass(slots=True)
class Counts:
    """What became of connections that ended before their time."""

    refused: int = 0
    gave_way: int = 0
    timed_out: int = 0
    oversized: int = 0
    handshakes: int = 0


class Connection(asyncio.Protocol):
    """One connection. What it says goes to the HTTP server, if it does not say too much."""

    def __init__(self, connections: Connections, http: Callable[[], Any]) -> None:
        #: What is done until it stands: the handshake.
        self.opening: asyncio.Task[None] | None = None
        self.answering = False
        self.answered = 0
        self._connections = connections
        self._make_http = http
        self._http: Any = None
        self._transport: asyncio.Transport | None = None
        self._received = 0
        self._last = False
        #: Whether the client sends no more.
        self._is_half = False
        self._deadline: asyncio.TimerHandle | None = None

    # --- what the event loop calls --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to speak HTTP."""
        # It is one by what it does: that of another event loop is of a class of its own.
        transport = cast("asyncio.Transport", transport)
        self._transport = transport
        if self not in self._connections:
            # It was given up while this call was on its way.
            transport.abort()
            return
        self._http = self._make_http()
        self._connections.stands(self, self._http)
        self._http.connection_made(transport)
        self._expect_request(self._connections.patience.request)

    def data_received(self, data: bytes) -> None:
        """Pass on what came."""
        self._received += len(data)
        if self._received > _REQUEST_LIMIT:
            self._connections.counts.oversized += 1
            self.abort()
        elif self._http is not None:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """Answer what was asked before; a client that asks no more may still be waiting for that."""
        if self._http is not None:
            self._http.eof_received()
        owes = self.answering or self._received > 0
        # TLS knows no half-closed connections.
        if not owes or self._transport is None or self._transport.get_extra_info("ssl_object") is not None:
            return None
        self._is_half = True
        if not self.answering:
            self._expect_request(_HALF)
        return True

    def pause_writing(self) -> None:
        """Pass on that the client reads more slowly than it is sent to."""
        if self._http is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it has caught up."""
        if self._http is not None:
            self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._forget()
        if self._http is not None:
            self._http.connection_lost(exc)

    # --- what the endpoint calls ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def being_answered(self) -> Iterator[None]:
        """Mark the time in which it is the endpoint's turn."""
        self.answering, self._received = True, 0
        self._stop_waiting()
        try:
            yield
        finally:
            self.answering, self._received = False, 0
            self.answered += 1
            if self in self._connections:
                self._connections.move_to_end(self)
                self._expect_request(_PIPELINED if self._is_half else self._connections.patience.idle)
                if self._last:
                    self.close()

    def retire(self) -> None:
        """Close it as soon as it has been answered; at once if it asks for nothing."""
        self._last = True
        if not self.answering:
            self.close()

    def close(self) -> None:
        """Close it once what was written has been sent."""
        if self._transport is None:
            self.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once."""
        self._forget()
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def _expect_request(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._is_half:
            self.close()
            return
        self._connections.counts.timed_out += 1
        self.abort()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget(self) -> None:
        self._stop_waiting()
        self._connections.gone(self, self._http)


class Connections:
    """All connections of one listener."""

    def __init__(self, limits: Callable[[], Limits], patience: Patience, counts: Counts) -> None:
        self.patience = patience
        self.counts = counts
        self._limits = limits
        # Those that were answered last come last.
        self._open: dict[Connection, None] = {}
        self._by_http: dict[Any, Connection] = {}
        self._none = asyncio.Event()
        self._none.set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter([*self._open])

    def __contains__(self, connection: object) -> bool:
        return connection in self._open

    def admit(self, connection: Connection) -> bool:
        """Take a connection in, if need be in place of one that asks for nothing."""
        while len(self._open) >= self._limits().max_connections:
            # Whoever was answered before is more likely to be a scraper.
            waiting = [other for other in self._open if not other.answering]
            if not waiting:
                self.counts.refused += 1
                return False
            self.counts.gave_way += 1
            min(waiting, key=lambda other: other.answered > 0).abort()
        self._open[connection] = None
        self._none.clear()
        return True

    def stands(self, connection: Connection, http: object) -> None:
        """Take note of what speaks HTTP on a connection."""
        self._by_http[http] = connection

    def speaking(self, http: object) -> Connection | None:
        """Return the connection on which this speaks HTTP, or None if that has ended."""
        return self._by_http.get(http)

    def move_to_end(self, connection: Connection) -> None:
        """Take note that a connection was of use just now."""
        del self._open[connection]
        self._open[connection] = None

    def gone(self, connection: Connection, http: object) -> None:
        """Take note that a connection has ended."""
        self._open.pop(connection, None)
        self._by_http.pop(http, None)
        if not self._open:
            self._none.set()

    async def end(self, seconds: float) -> None:
        """Wait until there are none; those still there after so many seconds are cut off."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()
        for connection in self:
            connection.abort()
