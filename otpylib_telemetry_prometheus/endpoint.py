"""The HTTP endpoint a Prometheus server scrapes.

It lives on the event loop of whoever starts it, in tasks of its own: a client that is slow, or silent, holds
up its own connection and nothing else. It moves while it serves: the new address is bound before the old one
is given up, and where that cannot be (another host, the same port) the old one is taken again if the new one
fails.

aiohttp is imported when an endpoint starts, on a thread: it takes a good part of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import importlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from types import ModuleType

__all__ = ["Endpoint", "EndpointError", "Scrape"]

_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Returns the body of an answer.
Scrape: TypeAlias = "Callable[[], Awaitable[bytes]]"

#: Connections the system may keep waiting for us. Prometheus opens one per server that scrapes.
_BACKLOG: Final = 128

#: Seconds a client may take to read an answer before it is cut off; Prometheus itself gives up after ten.
_SEND_TIMEOUT: Final = 30.0

#: Seconds scrapes that are being answered get when the endpoint has moved on.
_MOVE_GRACE: Final = 5.0

#: Seconds for what has been cancelled to come to an end.
_CANCEL_TIMEOUT: Final = 0.5

_TEXT: Final = "text/plain; charset=utf-8"


class EndpointError(Exception):
    """The endpoint cannot be had; the message says which, why, and what can be done."""


@dataclass(frozen=True, slots=True)
class _Address:
    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


class _Answers:
    """Counts the answers under way."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __enter__(self) -> None:
        self._count += 1
        self._none.clear()

    def __exit__(self, *_error: object) -> None:
        self._count -= 1
        if self._count == 0:
            self._none.set()

    async def done(self, seconds: float) -> None:
        """Wait until there are none, for so many seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()


@dataclass(frozen=True, slots=True, eq=False)
class _Listener:
    """One set of listening sockets with the connections they accepted.

    Attributes:
        host: The host as it was asked for.
        port: The port that is bound.
        sockets: The listening sockets.
        servers: asyncio's servers, one for each.
        http: aiohttp's server, which has the connections.
        answers: The answers under way on them.
    """

    host: str
    port: int
    sockets: list[socket.socket]
    servers: list[asyncio.Server]
    http: Any
    answers: _Answers

    def stop_accepting(self) -> None:
        """Close the listening sockets; what has been accepted goes on."""
        for server in self.servers:
            server.close()

    async def finish(self, grace: float) -> None:
        """Let the answers under way get done within ``grace`` seconds, then close every connection."""
        self.stop_accepting()
        self.http.pre_shutdown()
        await self.answers.done(grace)
        for connection in self.http.connections:
            connection.force_close()
        # This cancels what is left, and makes aiohttp forget it; the outer limit is for the case that
        # something does not let itself be cancelled.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_TIMEOUT):
                await self.http.shutdown(timeout=0.01)


class Endpoint:
    """Serves one page, which can be moved to another address, and stopped.

    Args:
        scrape: Makes the page.
        content_type: Its content type.
        send_timeout: Seconds a client may take to read it.

    Attributes:
        scrape: As above; may be replaced at any time.
        served: How many scrapes were answered.
        failed: How many scrapes could not be, because making the page failed.
        cut_off: How many clients took longer than ``send_timeout``.
        unintelligible: How many requests were none: whoever scans ports must not fill the application's log.
    """

    def __init__(self, scrape: Scrape, content_type: str, *, send_timeout: float = _SEND_TIMEOUT) -> None:
        self.scrape = scrape
        self.served = 0
        self.failed = 0
        self.cut_off = 0
        self._content_type = content_type
        self._send_timeout = send_timeout
        self.unintelligible = 0
        self._quiet = self._quiet_logger()
        self._path = ""
        self._failing = False
        self._wanted: tuple[str, int] | None = None
        self._listener: _Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._web: ModuleType | None = None
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def _quiet_logger(self) -> logging.Logger:
        """Make what the HTTP server logs to: it counts bad requests and passes on everything else."""

        def count(record: logging.LogRecord) -> bool:
            error = record.exc_info[1] if record.exc_info else None
            if error is None or not type(error).__module__.startswith("aiohttp"):
                _log.handle(record)
            else:
                self.unintelligible += 1
            return False

        logger = logging.Logger(f"{_log.name}.http", logging.WARNING)  # noqa: LOG001  # one of this endpoint's own
        logger.addFilter(count)
        return logger

    @property
    def serving(self) -> bool:
        """Whether it serves, on the event loop that runs now."""
        if self._listener is None or self._loop is None or self._loop.is_closed():
            return False
        return all(server.is_serving() for server in self._listener.servers)

    @property
    def port(self) -> int | None:
        """The port it serves on, which for port 0 is the one that was found; None if it does not serve."""
        return self._listener.port if self._listener is not None else None

    @property
    def host(self) -> str | None:
        """The host it serves on; None if it does not serve."""
        return self._listener.host if self._listener is not None else None

    @property
    def path(self) -> str:
        """The path of the page."""
        return self._path

    @property
    def url(self) -> str | None:
        """Where to scrape; None if it does not serve."""
        if self._listener is None:
            return None
        return f"http://{_joined(_reachable(self._listener.host), self._listener.port)}{self._path}"

    async def place(self, host: str, port: int, path: str) -> None:
        """Serve there: start, or move if it serves elsewhere. Nothing happens if it serves there already.

        Args:
            host: An address or a name of this machine; empty for every address.
            port: The port; 0 for any that is free.
            path: The path of the page.

        Raises:
            EndpointError: It cannot be. What it served before, it still serves.
        """
        await _afresh(self._place(host, port, path))

    async def stop(self, grace: float) -> None:
        """Stop serving.

        Args:
            grace: Seconds that answers under way get; whatever is not done by then is cut off.
        """
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

    async def _place(self, host: str, port: int, path: str) -> None:
        async with self._lock:
            if self._web is None:
                self._web = await _aiohttp_web()
            old = self._listener if self.serving else None
            if old is None or self._wanted != (host, port):
                addresses = await _resolve(host, port)
                self._listener = await self._listen(old, host, port, addresses)
                self._loop = asyncio.get_running_loop()
                self._wanted = (host, port)
                if old is not None:
                    self._leave(old)
            self._path = path

    async def _listen(
        self, old: _Listener | None, host: str, port: int, addresses: list[_Address]
    ) -> _Listener:
        try:
            sockets = _bind(host, port, addresses)
        except EndpointError:
            if old is None or port != old.port:
                raise
            sockets = await self._swap(old, host, port, addresses)
        return await self._serve(host, sockets)

    async def _swap(
        self, old: _Listener, host: str, port: int, addresses: list[_Address]
    ) -> list[socket.socket]:
        """Bind a port of which this endpoint itself holds another address."""
        previous = [_Address(sock.family, sock.getsockname()) for sock in old.sockets]
        old.stop_accepting()
        try:
            return _bind(host, port, addresses)
        except EndpointError as refused:
            try:
                sockets = _bind(old.host, old.port, previous)
            except EndpointError:
                self._listener, self._wanted = None, None
                self._leave(old)
                raise EndpointError(
                    f"{refused}; and {_joined(old.host, old.port)}, which was served until now, could not be "
                    f"taken back"
                ) from refused
            restored = await self._serve(old.host, sockets)
            self._listener = restored
            self._leave(old)
            raise

    async def _serve(self, host: str, sockets: list[socket.socket]) -> _Listener:
        assert self._web is not None  # noqa: S101 - set before anything is bound
        answers = _Answers()

        async def answer(request: Any) -> Any:
            with answers:
                return await self._answer(request)

        http = self._web.Server(answer, access_log=None, logger=self._quiet)
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(http, sock=sock, backlog=_BACKLOG) for sock in sockets]
        return _Listener(host, sockets[0].getsockname()[1], sockets, servers, http, answers)

    def _leave(self, listener: _Listener) -> None:
        """Give up an address without keeping whoever moved the endpoint waiting."""
        listener.stop_accepting()
        task = asyncio.get_running_loop().create_task(listener.finish(_MOVE_GRACE))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _answer(self, request: Any) -> Any:
        assert self._web is not None  # noqa: S101 - a request came in, so there is a server
        if self._path not in {request.path, request.rel_url.raw_path}:
            return self._say(404, f"not found; the metrics are at {self._path}")
        if request.method not in {"GET", "HEAD"}:
            return self._say(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        try:
            body = await self.scrape()
        except Exception as error:  # noqa: BLE001 - the scraper is told, and the next scrape may go well
            self.failed += 1
            if not self._failing:
                _log.exception(
                    "The metrics at %s could not be collected; a scrape gets status 500.", self.url
                )
            self._failing = True
            return self._say(500, f"the metrics could not be collected: {type(error).__name__}")
        self._failing = False
        response = self._web.StreamResponse(headers={"Content-Type": self._content_type})
        response.content_length = len(body)
        try:
            async with asyncio.timeout(self._send_timeout):
                await response.prepare(request)
                if request.method == "GET":
                    await response.write(body)
                await response.write_eof()
        except TimeoutError:
            self.cut_off += 1
            if request.transport is not None:
                request.transport.abort()
        else:
            self.served += 1
        return response

    def _say(self, status: int, text: str, headers: dict[str, str] | None = None) -> Any:
        assert self._web is not None  # noqa: S101 - as above
        return self._web.Response(
            status=status, text=text + "\n", headers={"Content-Type": _TEXT, **(headers or {})}
        )


async def _afresh(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work`` in a context of its own.

    Tasks and callbacks inherit the context of whoever starts them. The endpoint's would otherwise carry the
    span, or be taken for the process, that happened to start it.
    """
    await asyncio.create_task(work, context=contextvars.Context())


async def _aiohttp_web() -> ModuleType:
    try:
        return await run_in_thread(importlib.import_module, "aiohttp.web")
    except ImportError as error:
        raise EndpointError(
            "the metrics endpoint needs aiohttp, which cannot be imported "
            f"({error}): install otpylib-telemetry[prometheus]"
        ) from error


async def _resolve(host: str, port: int) -> list[_Address]:
    """Return the addresses a host stands for. Names are looked up on a thread: that can take long."""

    def look_up() -> list[Any]:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)

    try:
        found = await run_in_thread(look_up)
    except (OSError, UnicodeError) as error:
        raise EndpointError(
            f"cannot serve metrics on {_joined(host, port)}: the host cannot be resolved ({error}). Expected "
            f"an address or a name of this machine, such as 127.0.0.1, 0.0.0.0 or localhost"
        ) from error
    return list(dict.fromkeys(_Address(family, sockaddr) for family, _, _, _, sockaddr in found))


def _bind(host: str, port: int, addresses: list[_Address]) -> list[socket.socket]:
    """Bind every address; none stays bound if one that this machine has is refused.

    Raises:
        EndpointError: With the reason.
    """
    bound: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for address in addresses:
            # With port 0 all addresses get the port that was found for the first one.
            wanted = bound[0].getsockname()[1] if bound else port
            try:
                bound.append(_bound(address, wanted))
            except OSError as error:
                # A name such as localhost often stands for an IPv6 address, too, where there is no IPv6.
                if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                    raise
                missing = error
        if not bound:
            raise missing or OSError(errno.EADDRNOTAVAIL, "no address")
    except OSError as error:
        for sock in bound:
            sock.close()
        raise EndpointError(f"cannot serve metrics on {_joined(host, port)}: {_reason(error)}") from error
    return bound


def _bound(address: _Address, port: int) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if os.name == "posix":
            # Elsewhere this option lets two programs share a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.sockaddr[0], port, *address.sockaddr[2:]))
        # Listening here, not later, finds out about a port that is taken while it can still be refused.
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is taken by another program, or by another exporter of this one"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "the system does not permit it; ports below 1024 need a privilege"
    if error.errno == errno.EADDRNOTAVAIL:
        return "the host is not an address of this machine"
    return error.strerror or str(error)


def _reachable(host: str) -> str:
    """Return a host one can connect to, for one that stands for every address."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
