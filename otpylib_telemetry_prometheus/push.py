"""Metrics to a Pushgateway: for batch jobs, which are over before anybody scrapes them.

The page is the same as a scrape gets. Each push replaces what the gateway had for this job (method ``PUT``,
as https://github.com/prometheus/pushgateway#put-method has it), so that a push that is lost costs nothing but
time: the next one brings everything. There is a last push when the exporter is drained or closed, within the
time it has for that; with an interval there are pushes in between.

A push is a task of its own, one at a time: it holds up neither a scrape nor the events. aiohttp is imported
with the first one, on a thread: it takes a good part of a second.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import logging
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from otpylib_telemetry import otp
from otpylib_telemetry.config.redaction import hide_in_url, scrubber, secret_texts
from otpylib_telemetry.metrics.names import readable
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.proxies import Proxy, ProxyError, proxy_for
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_prometheus.push_failures import failure_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import ModuleType

    from otpylib_telemetry_prometheus.settings import PrometheusSettings


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: What is pushed: the classic text format, the only text every version of the gateway takes.
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: Seconds a push between others may take; the last one has what its exporter has.
_TIMEOUT: Final = 10.0

#: How often the last push is tried when the gateway cannot be reached: no other one will make up for it.
_LAST_ATTEMPTS: Final = 3

#: Seconds before the last push is tried again; twice as long before the time after that.
_LAST_PAUSE: Final = 0.25

#: Share of the time for closing that is left to everything else that has to be closed.
_RESERVE: Final = 0.1

#: Bytes of the gateway's answer that are read: it says in one line what it does not like.
_MAX_ANSWER: Final = 2_000

_FIRST_REFUSAL: Final = 400
_FIRST_SERVER_ERROR: Final = 500

#: Values that mean the same in a path as anywhere else. A dot in front could be one of the names a path has
#: for directories.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~-]*")


class PushError(Exception):
    """The gateway did not take a push; the message says why."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


def group_url(base: str, job: str, grouping: Mapping[str, str]) -> str:
    """Return the URL of a group of metrics at a Pushgateway.

    A value that a path cannot carry as it is (a slash, nothing at all, a blank, other than ASCII) is encoded
    with base64, as https://github.com/prometheus/pushgateway#url says: URL-safe alphabet, padding optional,
    but ``=`` for an empty value.
    """
    parts = [base.rstrip("/"), "metrics"]
    for name, value in {"job": job, **grouping}.items():
        if _PLAIN.fullmatch(value):
            parts += [quote(name, safe=""), value]
        else:
            encoded = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
            parts += [f"{quote(name, safe='')}@base64", encoded or "="]
    return "/".join(parts)


@dataclass(frozen=True, slots=True)
class PushPlan:
    """Where metrics are pushed to, and when; without an interval only once at the end."""

    url: str
    interval: float | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: PrometheusSettings) -> PushPlan | None:
        """Return what the settings ask for; None if they ask for no pushing."""
        if settings.push_url is None:
            return None
        parts = urlsplit(settings.push_url)
        user, at, host = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        base = parts._replace(netloc=host).geturl()
        return cls(
            group_url(base, settings.push_job, settings.push_grouping),
            settings.push_interval,
            (unquote(name), unquote(password)) if at else None,
        )


class Pusher:
    """Pushes a page, again and again or once at the end.

    Nothing is pushed before :meth:`configure`. Everything happens on the event loop.
    """

    def __init__(
        self, page: Callable[[], Awaitable[bytes]], name: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.page = page
        self.pushes = 0
        self.failures = 0
        self.trouble: str | None = None
        self._name = name
        self._clock = clock
        self._plan: PushPlan | None = None
        self._due = float("inf")
        self._running: asyncio.Task[bool] | None = None

    def configure(self, plan: PushPlan | None) -> None:
        """Take a plan into use; a push under way ends as it began."""
        if plan == self._plan:
            return
        if plan is None or self._plan is None or plan.url != self._plan.url:
            # What the other gateway said is of no interest any more.
            self.trouble = None
        self._plan = plan
        self._set_due()

    def tick(self) -> None:
        """Begin a push if one is due. To be called at least as often as the interval is long."""
        busy = self._running is not None and not self._running.done()
        if self._plan is not None and self._clock() >= self._due and not busy:
            self._set_due()
            # Tasks inherit the context of whoever starts them: the span or the process of that moment has
            # nothing to do with the push.
            self._running = asyncio.get_running_loop().create_task(
                self.push_now(), context=contextvars.Context()
            )

    async def push_now(self, seconds: float = _TIMEOUT) -> bool:
        """Push once; a failure is counted, and said if it is the first one in a row."""
        return (plan := self._plan) is None or await self._attempt(plan, seconds) is None

    async def stop(self, seconds: float) -> bool:
        """Push the last time, and no more after that.

        Being cancelled does not cut it short: that is how an application ends, and there is no other push.
        """
        if self._plan is None and self._running is None:
            return True
        work = otp.run_in_background(
            asyncio.get_running_loop(), self._stop(seconds), name=f"{self._name} last push", outlasting=True
        )
        return await otp.persist(work, seconds) and bool(work.result())

    async def _stop(self, seconds: float) -> bool:
        plan, end = self._plan, self._clock() + seconds * (1 - _RESERVE)
        await self._interrupt()
        if plan is None:
            return True
        taken = False
        try:
            taken = await self._last_chance(plan, end)
        finally:
            # Also when it is cancelled because time is up: what is not at the gateway is to be known.
            self._plan, self._due = None, float("inf")
            if not taken:
                _log.warning(
                    "%s ends without its last push to %s (%s): what was measured since the push before is "
                    "not there.",
                    self._name,
                    hide_in_url(plan.url),
                    self.trouble or "time is up",
                )
        return taken

    def stats(self) -> dict[str, Any]:
        """Return how pushing goes; nothing if there is nowhere to push to."""
        if self._plan is None:
            return {}
        return {
            "url": hide_in_url(self._plan.url),
            "pushes": self.pushes,
            "failures": self.failures,
            "failing": self.trouble is not None,
            "trouble": self.trouble,
        }

    def _set_due(self) -> None:
        interval = self._plan.interval if self._plan is not None else None
        self._due = float("inf") if interval is None else self._clock() + interval

    async def _interrupt(self) -> None:
        """End a push under way: the one to come has everything that it has."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.wait({running})

    async def _last_chance(self, plan: PushPlan, end: float) -> bool:
        pause = _LAST_PAUSE
        for attempt in range(1, _LAST_ATTEMPTS + 1):
            failure = await self._attempt(plan, max(0.0, end - self._clock()), last=True)
            if failure is None:
                return True
            if failure.refused or attempt == _LAST_ATTEMPTS or self._clock() + pause >= end:
                break
            await asyncio.sleep(pause)
            pause *= 2
        return False

    async def _attempt(self, plan: PushPlan, seconds: float, *, last: bool = False) -> PushError | None:
        """Push once, and keep the account; return what went wrong."""
        failure: PushError | None = None
        try:
            async with asyncio.timeout(seconds):
                await _put(plan, await self._page())
        except TimeoutError:
            failure = PushError(f"it took longer than {seconds:.1f} s")
        except PushError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  # telemetry never fails an application
            failure = PushError(_private(plan, describe(error)))
        if plan == self._plan:
            self._account(plan, failure, last=last)
        return failure

    async def _page(self) -> bytes:
        try:
            return await self.page()
        except Exception as error:
            raise PushError(f"the page could not be made: {describe(error)}") from error

    def _account(self, plan: PushPlan, failure: PushError | None, *, last: bool) -> None:
        before, self.trouble = self.trouble, None if failure is None else str(failure)
        if failure is None:
            self.pushes += 1
            if before is not None:
                _log.info("%s pushes its metrics to %s again.", self._name, hide_in_url(plan.url))
            return
        self.failures += 1
        if before is None and not last:
            _log.warning(
                "%s cannot push its metrics to %s: %s. It is tried again %s; they can still be scraped.",
                self._name,
                hide_in_url(plan.url),
                failure,
                "at the end" if plan.interval is None else f"every {plan.interval:g} s",
            )


def _private(plan: PushPlan, text: str) -> str:
    """Return a text without the password of the gateway, whoever wrote it."""
    return scrubber(secret_texts(plan.credentials))(text)


async def _aiohttp() -> ModuleType:
    try:
        return await run_in_thread(import_module, "aiohttp")
    except ImportError as error:
        raise PushError(
            f"pushing needs aiohttp, which cannot be imported ({error}): "
            "install otpylib-telemetry[prometheus]",
            refused=True,
        ) from error


def _proxy_of(plan: PushPlan) -> Proxy | None:
    """Return the proxy that the environment names for a gateway."""
    try:
        proxy = proxy_for(plan.url, getproxies())
    except ProxyError as error:
        raise PushError(str(error), refused=True) from error
    if proxy is not None and proxy.is_socks:
        raise PushError(
            f"the proxy {proxy.name} speaks SOCKS: expected one that speaks HTTP, or the gateway in no_proxy",
            refused=True,
        )
    return proxy


async def _put(plan: PushPlan, body: bytes) -> None:
    """Send a page, through a proxy if there is one."""
    proxy = _proxy_of(plan)
    try:
        await _send(plan, proxy, body)
    except PushError as error:
        if proxy is not None:
            raise PushError(f"{error} (through the proxy {proxy.name})", refused=error.refused) from error
        raise


async def _send(plan: PushPlan, proxy: Proxy | None, body: bytes) -> None:
    aiohttp = await _aiohttp()
    yarl = import_module("yarl")  # imported by aiohttp already
    headers = {"Content-Type": _CONTENT_TYPE}
    if plan.credentials is not None:
        # RFC 7617, section 2; aiohttp's own helper differs from version to version.
        token = base64.b64encode(":".join(plan.credentials).encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    told = {"Proxy-Authorization": proxy.authorization} if proxy and proxy.authorization else {}
    if not plan.url.startswith("https:"):
        # The proxy reads the request itself; else it is asked for a connection, and hears no more.
        headers |= told
    try:
        # A session for each push: between two of them no connection has to be kept, nor closed at the end.
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.put(
                yarl.URL(plan.url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
                proxy=proxy and proxy.url,
                proxy_headers=told,
            ) as answer,
        ):
            if answer.status >= _FIRST_SERVER_ERROR:
                raise PushError(_answer_words(answer.status, _private(plan, await _said(answer))))
            # A redirection is none either: following it would turn the PUT into a GET.
            if not answer.ok or answer.status in range(300, _FIRST_REFUSAL):
                words = _answer_words(answer.status, _private(plan, await _said(answer)))
                raise PushError(words, refused=True)
    except (OSError, aiohttp.ClientError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise PushError(_private(plan, failure_words(error, plan.url))) from error


async def _said(answer: Any) -> str:
    said = b""
    with contextlib.suppress(Exception):  # a gateway that says no more has still said the status
        said = await answer.content.read(_MAX_ANSWER)
    return readable(" ".join(said.decode("utf-8", "replace").split()))


def _answer_words(status: int, said: str) -> str:
    return f"the gateway answers with status {status}" + (f": {said}" if said else "")
