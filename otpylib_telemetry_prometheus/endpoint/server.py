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
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.listening import Address, joined, reachable
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_prometheus.endpoint import sockets
from otpylib_telemetry_prometheus.endpoint.access import CHALLENGE, WITHHELD, Access, Guard
from otpylib_telemetry_prometheus.endpoint.connections import Connections, Counts, Limits, Patience
from otpylib_telemetry_prometheus.endpoint.listener import Listener
from otpylib_telemetry_prometheus.endpoint.sockets import EndpointError
from otpylib_telemetry_prometheus.endpoint.tls import Tls
from otpylib_telemetry_prometheus.page import Page, ScrapeRequest

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine
    from types import ModuleType

    from otpylib_telemetry_prometheus.page import Scrape


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Answers as long as the endpoint serves at all.
HEALTH: Final = "/healthz"

#: Answers well as long as what is served is kept up to date.
READINESS: Final = "/readyz"

#: Seconds scrapes that are being answered get when the endpoint has moved on.
_MOVE_GRACE: Final = 5.0

#: Seconds that sending an answer may take at least, when making it has used up the time.
_SHORT_ANSWER: Final = 1.0

#: Bytes handed over for sending at a time: what a client does not read is not copied for it.
_CHUNK: Final = 128 * 1024

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class _Where:
    """Where to serve, as it was asked for."""

    host: str
    port: int
    shared: bool

    def bind(self, addresses: list[Address]) -> list[socket.socket]:
        """Bind the addresses the host stands for; see :func:`.sockets.bind`."""
        return sockets.bind(self.host, self.port, addresses, shared=self.shared)


class Endpoint:
    """Serves one page, which can be moved to another address, and stopped.

    Attributes:
        scrape: Makes the page; may be replaced at any time.
        ready: Says why what is served is not kept up to date, None if it is; may be replaced at any time.
        served: How many scrapes were answered.
        failed: How many scrapes could not be, because making the page failed or took too long.
        cut_off: How many clients took too long to read an answer.
        abandoned: How many went away before they had read theirs.
        unauthorized: How many requests came without the right password.
        unintelligible: How many requests were none: whoever scans ports must not fill the application's log.
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
        self.scrape = scrape
        self.ready = ready
        self.served = 0
        self.failed = 0
        self.cut_off = 0
        self.abandoned = 0
        self.unauthorized = 0
        self.unintelligible = 0
        self.counts = Counts()
        self._patience = patience or Patience()
        self._quiet = self._quiet_logger()
        self._path = ""
        self._guard = guard or Guard()
        self._limits = Limits()
        self._failing = False
        self._wanted: _Where | None = None
        self._listener: Listener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: The module ``aiohttp.web``, once it is imported.
        self._web: Any = None
        self._lock = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    def _quiet_logger(self) -> logging.Logger:
        """Make what the HTTP server logs to: it counts bad requests and passes on everything else."""

        def count(record: logging.LogRecord) -> bool:
            error = record.exc_info[1] if record.exc_info else None
            if isinstance(error, ConnectionError):
                self.abandoned += 1
            elif error is None or not type(error).__module__.startswith("aiohttp"):
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
    def path(self) -> str:
        """The path of the page."""
        return self._path

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

    # --- answers --------------------------------------------------------------------------------------------

    async def _answer(self, request: Any) -> Any:
        """Answer a request, and send the answer: whoever does not read it is cut off whatever it is."""
        deadline = asyncio.get_running_loop().time() + self._limits.scrape_timeout
        answer = await self._page_for(request, deadline)
        is_page = isinstance(answer, Page)
        body, response = self._response(answer)
        try:
            async with asyncio.timeout_at(max(deadline, asyncio.get_running_loop().time() + _SHORT_ANSWER)):
                await response.prepare(request)
                if request.method != "HEAD":
                    for start in range(0, len(body), _CHUNK):
                        await response.write(body[start : start + _CHUNK])
                await response.write_eof()
                # Short answers are handed on without waiting: who asks on and on and reads none of them must
                # not have them piled up here.
                await request.writer.drain()
        except ConnectionError:
            # It has gone away: a scraper whose time is up does, and one that has read as much as it may.
            self.abandoned += 1
        except TimeoutError:
            self.cut_off += 1
            if request.transport is not None:
                request.transport.abort()
        else:
            self.served += is_page
        return response

    def _response(self, answer: Page | _Said) -> tuple[memoryview, Any]:
        if isinstance(answer, Page):
            status, headers, body = 200, answer.headers(), answer.body
        else:
            status, headers = answer.status, {"Content-Type": _TEXT, **answer.headers}
            body = f"{answer.text}\n".encode()
        response = self._web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        return memoryview(body), response

    async def _page_for(self, request: Any, deadline: float) -> Page | _Said:
        wants_page = self._path in {request.path, request.rel_url.raw_path}
        is_known = self._guard.admits(request.headers.get("Authorization"))
        if not wants_page and request.path in {HEALTH, READINESS} and request.method in {"GET", "HEAD"}:
            return self._health(request.path, is_known=is_known)
        if not is_known:
            self.unauthorized += 1
            return _Said(401, "name and password are needed", {"WWW-Authenticate": CHALLENGE})
        if not wants_page:
            return _Said(404, f"not found; the metrics are at {self._path}")
        if request.method not in {"GET", "HEAD"}:
            return _Said(405, "only GET and HEAD", {"Allow": "GET, HEAD"})
        if self._is_withheld(request):
            return _Said(503, WITHHELD)
        return await self._scrape(request, deadline)

    def _is_withheld(self, request: Any) -> bool:
        """Tell whether the page must not leave over this connection: what is to protect it is not there."""
        found = request.transport
        tls = None if found is None else found.get_extra_info("ssl_object")
        certified = tls is not None and bool(tls.getpeercert())
        lacks = self._guard.lacks(encrypted=tls is not None, certified=certified)
        return self._guard.withheld is not None or lacks is not None

    def _health(self, path: str, *, is_known: bool) -> _Said:
        if path == HEALTH:
            return _Said(200, "ok")
        reason = self.ready()
        if reason is None:
            return _Said(200, "ready")
        # The reason may name hosts and files: not for somebody who may not even see the metrics.
        return _Said(503, f"not ready: {reason}" if is_known else "not ready")

    async def _scrape(self, request: Any, deadline: float) -> Page | _Said:
        wanted = ScrapeRequest(
            accept=", ".join(request.headers.getall("Accept", ())),
            accept_encoding=", ".join(request.headers.getall("Accept-Encoding", ())),
            names=tuple(request.query.getall("name[]", ())),
        )
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                page = await self.scrape(wanted)
        except Exception as error:  # noqa: BLE001 - the scraper is told, and the next scrape may go well
            self.failed += 1
            report, self._failing = not self._failing, True
            if limit.expired():
                reason = f"the metrics were not ready within {self._limits.scrape_timeout:g} s"
                if report:
                    _log.error("A scrape of %s gets status 503: %s.", self.url, reason)
                return _Said(503, reason)
            if report:
                _log.exception(
                    "The metrics at %s could not be collected; a scrape gets status 500.", self.url
                )
            return _Said(500, f"the metrics could not be collected: {type(error).__name__}")
        self._failing = False
        return page


class _Said:
    """An answer in a few words."""

    __slots__ = ("headers", "status", "text")

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.text = text
        self.headers = headers or {}


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
