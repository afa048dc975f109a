"""How to come by the page of an exporter, by its name, from anywhere in the process.

An exporter's backend that has a page says so by an attribute ``page_source``; it is at work whether or not it
has an endpoint of its own. Whoever asks may be a request in somebody else's server, on another event loop or
on a thread: the page is made on the exporter's own loop, in a context of its own, and whoever waits for it
waits for a limited time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.exporter import registry
from otpylib_telemetry_prometheus.endpoint.access import CHALLENGE, WITHHELD, Guard

if TYPE_CHECKING:
    from otpylib_telemetry_prometheus.page import Page, Scrape, ScrapeRequest


_TEXT: Final = "text/plain; charset=utf-8"

#: What a client is answered that wants to do something else than read the page.
ONLY_GET: Final = (
    HTTPStatus.METHOD_NOT_ALLOWED,
    {"Content-Type": _TEXT, "Allow": "GET, HEAD"},
    b"only GET and HEAD\n",
)


class UnavailableError(Exception):
    """There is no page to be had; the message says why."""

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def answer(self) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """What a client is answered: status, headers and body."""
        headers = {"Content-Type": _TEXT}
        if self.status is HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = CHALLENGE
        return self.status, headers, f"{self}\n".encode()


@dataclass(frozen=True, slots=True)
class PageSource:
    """How to get the page of one exporter: ``scrape`` is called on its loop, and waited for."""

    scrape: Scrape
    loop: asyncio.AbstractEventLoop
    timeout: float
    guard: Guard = field(default_factory=Guard)


def page_source_of(exporter: str) -> PageSource:
    """Return how to get the page of an exporter."""
    if not registry.is_running(exporter):
        raise UnavailableError(f"no exporter named {exporter} runs in this process")
    backend = registry.exporter_of(exporter)
    if backend is None:
        status, reason = registry.status_of(exporter)
        raise UnavailableError(f"{exporter} is {status}: {reason or 'it has ended'}")
    found = getattr(backend, "page_source", None)
    if not isinstance(found, PageSource):
        raise UnavailableError(f"{exporter} is no Prometheus exporter")
    return found


def _check(guard: Guard, authorization: str | None) -> None:
    """Raise why the page is not shown to whoever has this authorization, if it is not."""
    if guard.withheld is not None:
        raise UnavailableError(WITHHELD)
    if not guard.admits(authorization):
        raise UnavailableError("name and password are needed", HTTPStatus.UNAUTHORIZED)


async def fetch(exporter: str, request: ScrapeRequest, authorization: str | None = None) -> Page:
    """Get the page on whatever event loop this runs."""
    source = page_source_of(exporter)
    _check(source.guard, authorization)
    future = asyncio.wrap_future(_start(source, request))
    try:
        # Unlike wait_for, this neither cancels nor waits for what does not answer.
        await asyncio.wait({future}, timeout=source.timeout)
    finally:
        future.cancel()
    return _result(exporter, source, future)


def fetch_from_thread(exporter: str, request: ScrapeRequest, authorization: str | None = None) -> Page:
    """Get the page on a thread on which no event loop runs."""
    source = page_source_of(exporter)
    _check(source.guard, authorization)
    with contextlib.suppress(RuntimeError):
        if asyncio.get_running_loop() is source.loop:
            raise UnavailableError(
                f"{exporter} runs on the event loop of the thread that asks, and cannot answer while that "
                f"waits: mount asgi_app there, or run this server on a thread of its own"
            )
    future = _start(source, request)
    with contextlib.suppress(TimeoutError, CancelledError, Exception):
        future.exception(source.timeout)
    future.cancel()
    return _result(exporter, source, future)


def _start(source: PageSource, request: ScrapeRequest) -> Future[Page]:
    async def scrape() -> Page:
        return await source.scrape(request)

    work = scrape()
    try:
        # The page must not be made in the span, or as the process, of whoever happens to ask.
        return contextvars.Context().run(asyncio.run_coroutine_threadsafe, work, source.loop)
    except RuntimeError as error:
        work.close()
        raise UnavailableError("the exporter's event loop has ended") from error


def _result(exporter: str, source: PageSource, future: Future[Page] | asyncio.Future[Page]) -> Page:
    if future.cancelled():
        raise UnavailableError(f"{exporter} has not answered within {source.timeout:g} s")
    error = future.exception()
    if error is not None:
        raise UnavailableError(
            f"the metrics could not be collected: {type(error).__name__}", HTTPStatus.INTERNAL_SERVER_ERROR
        ) from error
    return future.result()
