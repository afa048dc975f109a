"""Observed metrics: numbers asked for when an exit is about to be read, for every exporter of metrics.

A source is a function. Whoever is about to read the series of an exporter, be it one that started after the
source was registered or one of another package, has it called with that exporter's name, on a thread, and
what it returns is what the exporter has of it until the next reading: what it returns no more is gone, from a
page and over OTLP. A source that raises or does not come back in time has no series until it works again;
that is reported once per outage, and costs no other source anything.

Namespace, global labels, limits and files of several workers are the exporter's, as for all its series.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.aggregation.metric_spec import NO_SCOPE, Kind
from otpylib_telemetry.exporter.registry import when_forgotten
from otpylib_telemetry.meters import readings
from otpylib_telemetry.meters.attributes import labels_of
from otpylib_telemetry.meters.observed_streams import ObservedStream
from otpylib_telemetry.meters.stream_plan import Plan
from otpylib_telemetry.meters.streams import Feed
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.exporting import naming_of
from otpylib_telemetry.metrics.names import OPENTELEMETRY
from otpylib_telemetry.primitives.any_value import any_values
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_rlock
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import LATE, Outcome, Watch, call_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

    from otpylib_telemetry.meters.observed_streams import Readings
    from otpylib_telemetry.metrics.names import Naming

_log = logging.getLogger("otpylib_telemetry")

#: Seconds a source may take.
_TIMEOUT: Final = 1.0


@dataclass(frozen=True, slots=True)
class ObservedMetric:
    """A metric whose numbers sources return.

    Attributes:
        kind: ``COUNTER`` (what is returned is the total so far), ``UP_DOWN`` or ``GAUGE``. On a page an
            up-down counter is a gauge.
        name: What it is called over OTLP; empty where it is not told there.
        page_name: What it is called on a page, empty likewise; a counter's ends in ``_total`` there, whether
            that is written here or not.
        unit: Its unit in UCUM: ``By``, ``s``, ``{thread}``.
        description: What it says.
        multiprocess_mode: How the gauges of several worker processes become one on a page.
    """

    kind: Kind
    name: str
    page_name: str
    unit: str = ""
    description: str = ""
    multiprocess_mode: str = "livesum"

    def name_at(self, naming: Naming) -> str:
        """Return its name at an exit that spells names this way; empty where it is not told there."""
        return self.name if naming.scopes else self.page_name

    def plan(self, naming: Naming) -> Plan:
        """Return what it is at such an exit."""
        kind = Kind.GAUGE if self.kind is Kind.UP_DOWN and not naming.scopes else self.kind
        name = self.name_at(naming)
        return Plan(
            name, self.unit, self.description, kind, NO_SCOPE, multiprocess_mode=self.multiprocess_mode
        )


class Observation(NamedTuple):
    """One number of a metric."""

    metric: ObservedMetric
    number: float
    labels: Mapping[str, Any] = {}


#: Is called with the name of the exporter whose series are about to be read.
Source: TypeAlias = "Callable[[str], Iterable[Observation]]"


@dataclass(slots=True)
class _Exit:
    """What one source has at one exporter."""

    watch: Watch
    streams: dict[tuple[ObservedMetric, Naming], ObservedStream] = field(default_factory=dict)


_lock = new_rlock()
_sources: dict[str, Source] = {}
_exits: dict[tuple[str, str], _Exit] = {}
_readings: dict[str, Future[None]] = {}
_troubles = Once()


def observe(name: str, source: Source) -> None:
    """Have a source asked from now on; one of the same name is replaced."""
    with _lock:
        if _sources.get(name) is source:
            return
        withdraw(name)
        _sources[name] = source
        observers.register_for_all(_take_reading)


def withdraw(name: str) -> None:
    """Ask a source no more. Its series are gone at once, at every exporter."""
    with _lock:
        _sources.pop(name, None)
        _troubles.over(name)
        for key in [each for each in _exits if each[0] == name]:
            _take(_exits.pop(key), key[1], {})


def sources() -> list[str]:
    """Return the names of the sources there are."""
    return list(_sources)


def _take_reading(exporter: str) -> Future[None] | None:
    """Begin to ask every source for an exporter that is about to be read."""
    naming = naming_of(exporter)
    with _lock:
        if naming is None or not _sources:
            return None
        present = _readings.get(exporter)
        if present is not None and not present.done():
            return present
        reading = readings.begin(functools.partial(_read, exporter, naming))
        if reading is not None:
            _readings[exporter] = reading
        return reading


def _read(exporter: str, naming: Naming) -> None:
    try:
        with _lock:
            asked = {
                name: _exits.setdefault((name, exporter), _Exit(Watch(source)))
                for name, source in _sources.items()
            }
        outcomes = call_each([each.watch for each in asked.values()], exporter, _TIMEOUT)
        for name, each in asked.items():
            trouble = _bring_up_to_date(name, each, exporter, naming, outcomes[each.watch])
            if trouble is None:
                _troubles.over((name, exporter))
            elif _troubles.is_news((name, exporter)):
                _log.warning(
                    "%s: the source %s of observed metrics cannot be used: %s. Its series are left out until "
                    "it can; it is asked again at every reading, and this is not reported again before it "
                    "has worked.",
                    exporter,
                    name,
                    trouble,
                )
    except BaseException as error:  # noqa: BLE001 - the exit is read all the same
        _log.warning("%s: what is observed could not be read: %s.", exporter, describe(error))


def _bring_up_to_date(
    name: str, each: _Exit, exporter: str, naming: Naming, outcome: Outcome | None
) -> str | None:
    """Let an exporter have what a source told; return what is wrong with it. Never raises."""
    try:
        found, trouble = _observations(outcome, naming)
        with _lock:
            if _exits.get((name, exporter)) is not each:
                return None  # withdrawn meanwhile
            return _take(each, exporter, found) or trouble
    except BaseException as error:  # noqa: BLE001 - of no concern to the other sources
        return describe(error)


def _observations(
    outcome: Outcome | None, naming: Naming
) -> tuple[dict[tuple[ObservedMetric, Naming], Readings], str | None]:
    """Return what a source told by metric, and what is wrong with the rest."""
    found: dict[tuple[ObservedMetric, Naming], dict[Any, Any]] = {}
    if outcome is None:
        return {}, LATE
    if outcome.error is not None:
        return {}, describe(outcome.error)
    trouble = None
    for each in outcome.observations:
        try:
            metric, value, labels = each
            number = number_of(value)
            attributes, _ = any_values(labels)
            if not isinstance(metric, ObservedMetric):
                raise TypeError(f"a metric is to be an ObservedMetric, not a {type(metric).__name__}")  # noqa: TRY301 - as what is wrong otherwise
            if not metric.name_at(naming):
                continue
            numbers = found.setdefault((metric, naming), {})
        except Exception as error:  # noqa: BLE001 - whatever it returned, it is no observation
            trouble = f"it is to return observations ({describe(error)})"
            continue
        if number is None:
            trouble = f"{metric.name} is of type {type(value).__name__}, which is no number"
            continue
        numbers[labels_of(attributes, OPENTELEMETRY)] = attributes, number, None
    return dict(found), trouble


def _take(each: _Exit, exporter: str, found: Mapping[tuple[ObservedMetric, Naming], Readings]) -> str | None:
    """Let an exporter have what a source told, and nothing else of it; return what is wrong with a metric."""
    trouble = None
    for key in [known for known in each.streams if not found.get(known)]:
        each.streams.pop(key).retire()
    for key, numbers in found.items():
        if not numbers:
            continue
        stream = each.streams.get(key)
        if stream is None:
            metric, naming = key
            try:
                stream = ObservedStream(Feed(exporter, naming), metric.plan(naming))
            except Exception as error:  # noqa: BLE001 - one metric must not cost the others theirs
                trouble = f"{metric.name} is no metric ({describe(error)})"
                continue
            each.streams[key] = stream
        stream.observe(numbers)
    return trouble


def _begin_anew(_names: object = None) -> None:
    """Look up anew where series are: of a forked child, and of exporters whose belongings were forgotten."""
    with _lock:
        _exits.clear()
        _readings.clear()


def forget() -> None:
    """Withdraw every source; for tests, which start from nothing."""
    with _lock:
        _sources.clear()
        _troubles.clear()
        _begin_anew()


after_fork_in_child(_begin_anew)
when_forgotten(_begin_anew)
