"""The customers: an HTTP client over real sockets, at a steady rate."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from examples.shop.web import PRICES, TRACE_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Seconds a customer waits.
PATIENCE = 30.0

#: Customers who wait at a time. More come only when one of them has left: the shop is open to all, and a
#: machine that is too busy for so many must not drown in them.
CROWD = 100

#: Seconds by which a customer may be late. Who is held up longer does not come at all.
LATE = 1.0

#: What customers do, and how often.
HABITS = {"list": 40, "item": 38, "unknown": 2, "checkout": 20}

#: The answers each of these may get.
FITTING = {"list": {200}, "item": {200}, "unknown": {404}, "checkout": {201, 503}}


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, as the customer saw it.

    Attributes:
        at: When it was due, in monotonic seconds.
        seconds: From then until the answer was read; a shop that keeps a customer waiting for the chance to
            ask is as slow as one that is slow to answer.
        kind: A key of :data:`HABITS`.
        status: The HTTP status; 0 if there was no answer at all.
        trace_id: What the shop said the request's trace is called.
    """

    at: float
    seconds: float
    kind: str
    status: int
    trace_id: str

    @property
    def fits(self) -> bool:
        """Whether the shop did its job. A bank that fails is none of its faults."""
        return self.status in FITTING[self.kind]

    @property
    def failed(self) -> bool:
        """Whether the shop said that it failed."""
        return self.status >= 500  # noqa: PLR2004  # HTTP's class of server errors


@dataclass(frozen=True, slots=True)
class Summary:
    """Answers of some stretch of time: requests per second, and milliseconds."""

    count: int
    rate: float
    p50: float
    p95: float
    worst: float


def summary(answers: Iterable[Answer], seconds: float) -> Summary:
    """Sum up answers.

    Args:
        answers: Those of a stretch of time.
        seconds: Its length.
    """
    times = sorted(answer.seconds * 1000 for answer in answers)
    if not times:
        return Summary(0, 0.0, 0.0, 0.0, 0.0)
    p95 = times[min(len(times) - 1, int(len(times) * 0.95))]
    return Summary(len(times), len(times) / max(seconds, 1e-9), statistics.median(times), p95, times[-1])


class Load:
    """Sends requests at a steady rate, however long the shop takes to answer.

    Args:
        url: Of the shop.
        rate: Requests per second.
    """

    def __init__(self, url: str, rate: float) -> None:
        self.rate = rate
        self.sent = 0
        self.answers: list[Answer] = []
        self._url = url
        self._dice = random.Random(1)  # noqa: S311  # the same customers every time
        self._task: asyncio.Task[None] | None = None
        #: Requests without an answer yet, and when they were due.
        self._under_way: dict[asyncio.Task[None], float] = {}

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="load")

    async def stop(self) -> None:
        """Send nothing more; returns when every request has its answer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def between(self, begin: float, end: float) -> list[Answer]:
        """Return the answers to requests that were due in a stretch of time, in monotonic seconds."""
        return [answer for answer in self.answers if begin <= answer.at < end]

    def summary(self, begin: float, end: float) -> Summary:
        """Sum up the answers that came in a stretch of time, in monotonic seconds."""
        return summary((a for a in self.answers if begin <= a.at + a.seconds < end), end - begin)

    def recent(self) -> list[Answer]:
        """Return the last few seconds' answers."""
        return self.answers[-int(self.rate * 3) :]

    async def answered(self, end: float) -> None:
        """Wait until every request that was due before a time, in monotonic seconds, has its answer."""
        while any(due < end for due in self._under_way.values()):
            await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)

    def forget(self) -> None:
        """Keep the last few seconds' answers: a demonstration that stays must not grow."""
        self.answers = self.recent()

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(self._url, timeout=timeout) as session:
            try:
                due = time.monotonic()
                while True:
                    while len(self._under_way) >= CROWD:
                        await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
                    task = asyncio.create_task(self._ask(session, due))
                    self._under_way[task] = due
                    task.add_done_callback(self._under_way.pop)
                    due = max(due + 1 / self.rate, time.monotonic() - LATE)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
            finally:
                if self._under_way:
                    await asyncio.wait(self._under_way)

    async def _ask(self, session: aiohttp.ClientSession, due: float) -> None:
        kind = self._dice.choices(list(HABITS), list(HABITS.values()))[0]
        method, path, basket = "GET", "/items", None
        match kind:
            case "item":
                path = f"/items/{self._dice.choice(list(PRICES))}"
            case "unknown":
                path = "/items/gramophone"
            case "checkout":
                items = self._dice.sample(list(PRICES), self._dice.randint(1, 3))
                method, path, basket = "POST", "/checkout", {item: self._dice.randint(1, 3) for item in items}
        self.sent += 1
        status, trace_id = 0, ""
        try:
            async with session.request(method, path, json=basket) as response:
                await response.read()
                status, trace_id = response.status, response.headers.get(TRACE_HEADER, "")
        except (aiohttp.ClientError, TimeoutError):
            pass  # the status says so
        self.answers.append(Answer(due, time.monotonic() - due, kind, status, trace_id))
