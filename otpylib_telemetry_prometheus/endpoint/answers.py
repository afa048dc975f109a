"""What the endpoint answers: the page, whether it is well, or why there is nothing to see."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry_prometheus.endpoint.access import CHALLENGE, WITHHELD, Guard
from otpylib_telemetry_prometheus.endpoint.connections import Limits
from otpylib_telemetry_prometheus.page import Page, ScrapeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry_prometheus.page import Scrape


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Answers as long as the endpoint serves at all.
HEALTH: Final = "/healthz"

#: Answers well as long as what is served is kept up to date.
READINESS: Final = "/readyz"

#: Seconds that sending an answer may take at least, when making it has used up the time.
_SHORT_ANSWER: Final = 1.0

#: Bytes handed over for sending at a time: what a client does not read is not copied for it.
_CHUNK: Final = 128 * 1024

_TEXT: Final = "text/plain; charset=utf-8"


class _Said(NamedTuple):
    """An answer in a few words."""

    status: int
    text: str
    headers: Mapping[str, str] = {}


class Answers:
    """Answers requests, and counts what became of them.

    Attributes:
        scrape: Makes the page; may be replaced at any time.
        ready: Says why what is served is not kept up to date, None if it is; may be replaced at any time.
        served: How many scrapes were answered.
        failed: How many scrapes could not be, because making the page failed or took too long.
        cut_off: How many clients took too long to read an answer.
        abandoned: How many went away before they had read theirs.
        unauthorized: How many requests came without the right password.
        unintelligible: How many requests were none: whoever scans ports must not fill the application's log.
    """

    def __init__(self, scrape: Scrape, guard: Guard, ready: Callable[[], str | None]) -> None:
        self.scrape = scrape
        self.ready = ready
        self._path = ""
        self._limits = Limits()
        #: The module ``aiohttp.web``, once it is imported.
        self._web: Any = None
        self.served = 0
        self.failed = 0
        self.cut_off = 0
        self.abandoned = 0
        self.unauthorized = 0
        self.unintelligible = 0
        self._quiet = self._quiet_logger()
        self._guard = guard
        self._failing = False

    @property
    def url(self) -> str | None:
        """Where to scrape; None if nothing is served."""
        return None

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
