"""Metrics that somebody else keeps: asked for at every reading, and sent beside our own.

OpenTelemetry's SDK specification has a ``MetricProducer`` for what bridges other sources of metrics; the
SDK for Python does not. A producer is anything with ``produce(timeout_millis)``. Each is asked on a thread,
within a limit of time. One that fails, or is late, costs the others nothing: it is told of once, and
once more when it is well again, and what comes late is not used. One that has not come back is not asked
again before it has.

Importing this imports neither OpenTelemetry nor prometheus_client.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter.registry import memory_of
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.polling import Outcome, Round, Watch
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence

    from otpylib_telemetry.aggregation.points import MetricPoint
    from otpylib_telemetry_otel.metrics.producer import MetricProducer


_log = logging.getLogger("otpylib_telemetry")


_DEFAULT: Final = "otel_exporter"

_KEY: Final = "metric_producers"


_MS_PER_SECOND: Final = 1_000


#: What happened to a producer that has not come back.
_LATE: Final = "it did not answer within {:.3g} s"

_BUSY: Final = "it has not come back from an earlier call"


def add_metric_producer(producer: MetricProducer, exporter: str = _DEFAULT) -> None:
    """Have a producer's metrics exported beside an exporter's own, from the next reading on.

    Before or after the exporter starts; it stays until it is removed, whatever becomes of the process.

    Args:
        producer: The producer; added twice it is asked once.
        exporter: The exporter's registered name.

    Raises:
        TypeError: It has no method ``produce``.
    """
    if not callable(getattr(producer, "produce", None)):
        raise TypeError(
            "expected a metric producer, an object with produce(timeout_millis), not "
            f"{type(producer).__name__}"
        )
    producers_in(memory_of(exporter), exporter).add(producer)


def remove_metric_producer(producer: MetricProducer, exporter: str = _DEFAULT) -> bool:
    """Undo :func:`add_metric_producer`.

    Args:
        producer: The producer.
        exporter: The exporter's registered name.

    Returns:
        Whether it was there.
    """
    return producers_in(memory_of(exporter), exporter).remove(producer)


def producers_in(memory: MutableMapping[str, Any], name: str) -> Producers:
    """Return the producers of an exporter, out of the memory that its server lends it."""
    found: Producers | None = memory.get(_KEY)
    if found is None:
        found = memory[_KEY] = Producers(name)
    return found


@dataclass(eq=False)
class _Asked:
    """One producer and how it does."""

    producer: MetricProducer
    watch: Watch
    readings: int = 0
    failures: int = 0
    points: int = 0
    failed_since: int = 0


class Producers:
    """All producers of one exporter."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked: list[_Asked] = []

    def add(self, producer: MetricProducer) -> None:
        """Ask this one too."""
        if not any(one.producer is producer for one in self._asked):
            self._asked = [*self._asked, _Asked(producer, Watch(functools.partial(_produce, producer)))]

    def remove(self, producer: MetricProducer) -> bool:
        """Ask this one no more; returns whether it was there."""
        left = [one for one in self._asked if one.producer is not producer]
        gone = len(left) < len(self._asked)
        self._asked = left
        return gone

    def use(self, producers: Sequence[MetricProducer]) -> None:
        """Ask these and no others."""
        self._asked = [one for one in self._asked if any(one.producer is other for other in producers)]
        for producer in producers:
            self.add(producer)

    def start(self, seconds: float, others: Producers, *, beside: bool = False) -> Reading:
        """Ask all of them and the others, but nobody twice; each may take so many seconds.

        ``beside`` the exporter's own reading, one that is being asked already is left out without a word.
        """
        known = [one.producer for one in self._asked]
        further = [one for one in others._asked if not any(one.producer is other for other in known)]
        asked = [*self._asked, *further]
        return Reading(self, [one for one in asked if not (beside and one.watch.busy)], seconds)

    def stats(self) -> list[dict[str, Any]]:
        """Return how each does."""
        return [
            {
                "producer": type(one.producer).__name__,
                "readings": one.readings,
                "failures": one.failures,
                "points": one.points,
                **({"left_out": left_out} if (left_out := _left_out(one.producer)) else {}),
            }
            for one in self._asked
        ]

    def failed(self, asked: _Asked, reason: str) -> None:
        """Count a failure, and tell of the first of several."""
        asked.failures += 1
        asked.failed_since += 1
        if asked.failed_since == 1:
            _log.warning(
                "%s gets no metrics from the producer %s: %s. All other metrics are sent; it is asked again "
                "each time, and further failures are only counted.",
                self._name,
                type(asked.producer).__name__,
                reason,
            )

    def succeeded(self, asked: _Asked, points: int) -> None:
        """Count what was produced, and tell if it follows a failure."""
        asked.readings += 1
        asked.points += points
        failed, asked.failed_since = asked.failed_since, 0
        if failed:
            _log.info(
                "%s gets metrics from the producer %s again after %d failures.",
                self._name,
                type(asked.producer).__name__,
                failed,
            )


class Reading:
    """All producers asked once."""

    def __init__(self, producers: Producers, asked: list[_Asked], seconds: float) -> None:
        self._producers = producers
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._asked = [one for one in asked if not one.watch.busy]
        for one in asked:
            if one.watch.busy:
                producers.failed(one, _BUSY)
        self._round: Round | None = None
        try:
            self._round = Round([one.watch for one in self._asked], seconds * _MS_PER_SECOND, seconds)
        except RuntimeError as error:
            for one in self._asked:
                producers.failed(one, describe(error))

    async def within(self, seconds: float) -> list[list[MetricPoint]]:
        """Return what has been produced by then, or by the end of the producers' own time."""
        if not self._asked or self._round is None:
            return []
        return self._gathered(await run_in_thread(self._round.wait, self._left(seconds)))

    def wait(self, seconds: float) -> list[list[MetricPoint]]:
        """Return what :meth:`within` does, on a thread that may block."""
        if not self._asked or self._round is None:
            return []
        return self._gathered(self._round.wait(self._left(seconds)))

    def _left(self, seconds: float) -> float:
        return min(seconds, self._end - time.monotonic())

    def _gathered(self, outcomes: dict[Watch, Outcome | None]) -> list[list[MetricPoint]]:
        return [list(points) for one in self._asked if (points := self._points(one, outcomes)) is not None]

    def _points(self, asked: _Asked, outcomes: dict[Watch, Outcome | None]) -> Sequence[MetricPoint] | None:
        outcome = outcomes[asked.watch]
        if outcome is None:
            self._producers.failed(asked, _LATE.format(self._seconds))
        elif outcome.error is not None:
            self._producers.failed(asked, describe(outcome.error))
        else:
            self._producers.succeeded(asked, len(outcome.observations))
            return outcome.observations
        return None


def _left_out(producer: MetricProducer) -> int:
    """Return how often a producer did without a part of what it should have brought, if it counts that."""
    count = getattr(producer, "left_out", 0)
    return count if isinstance(count, int) else 0


def _produce(producer: MetricProducer, timeout_millis: float) -> Iterable[MetricPoint]:
    # On a thread: also taking the result apart, which may be large, and may be anything.
    with importing():
        from otpylib_telemetry_otel.metrics.conversion import points_of  # noqa: PLC0415 - it needs OpenTelemetry

    return points_of(producer.produce(timeout_millis))
