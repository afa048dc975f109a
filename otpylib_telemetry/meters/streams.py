"""Streams: from the measurements of one instrument to the series of one metric of one exporter.

An instrument has a stream for each view that matches it and each exporter it feeds. A measurement costs a
look into a memory of what became of such attributes before, and one addition, under the lock of the store.

Knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation import exporter_stores
from otpylib_telemetry.aggregation.metric import (
    NO_SCOPE,
    OVERFLOW_LABELS,
    AnyMetric,
    Histogram,
    Kind,
    MetricSpec,
    Scope,
)
from otpylib_telemetry.aggregation.store import (
    FAILED,
    NAME_TAKEN,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    VIEW_CHANGED,
    MetricRefusedError,
    SeriesStore,
)
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.meters.attributes import labels_of, scope_labels
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.labels import LabelCache, LabelRules
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Labels, Traced
    from otpylib_telemetry.metrics.names import Naming


_log = logging.getLogger("otpylib_telemetry")

#: Kinds whose series remember by which trace they came about.
_TRACED: Final = frozenset({Kind.COUNTER, Kind.HISTOGRAM, Kind.EXPONENTIAL})


@dataclass(frozen=True, slots=True)
class Feed:
    """An exporter that instruments write for.

    Attributes:
        exporter: Its registered name, for instance ``prometheus_exporter``.
        naming: How it spells names: ``PROMETHEUS`` or ``OPENTELEMETRY`` of
            :mod:`otpylib_telemetry.metrics.names`.
    """

    exporter: str
    naming: Naming


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stream makes of measurements: what a :class:`MetricSpec` has, its name not yet spelled.

    Attributes:
        keys: The attributes that are kept; None for all.
        refuses_negative: Whether a measurement below 0 is refused.
    """

    name: str
    unit: str
    description: str
    kind: Kind
    scope: Scope
    keys: frozenset[str] | None = None
    bounds: tuple[float, ...] = ()
    scale: int = 0
    max_size: int = 0
    max_series: int | None = None
    refuses_negative: bool = False

    @property
    def shape(self) -> tuple[Any, ...]:
        """What its series are made like: those of another shape cannot go on as these."""
        return self.kind, self.keys, self.bounds, self.scale, self.max_size


def identity(plan: Plan, naming: Naming) -> tuple[str, str, str]:
    """Return what the metric of a stream is called.

    Returns the name it has in the store, which tells scopes, kinds and units apart where the exporter does;
    its name; its unit.
    """
    name, unit = naming.instrument(plan.name, plan.unit, plan.kind)
    if not naming.scopes:
        return name, name, unit
    scope = plan.scope
    parts = [plan.kind.value, f"unit {unit}" if unit else "", f"of {scope.name}"]
    parts += [scope.version, scope.schema_url, *(f"{key}={value!r}" for key, value in scope.attributes)]
    return f"{name} ({', '.join(part for part in parts if part)})", name, unit


class Stream:
    """Measurements of one instrument on their way into one metric."""

    __slots__ = (
        "_alone",
        "_cache",
        "_generation",
        "_least",
        "_metric",
        "_notice",
        "_observed",
        "_overflown",
        "_own_labels",
        "_put",
        "_retired",
        "_rules",
        "_said",
        "_store",
        "_traced",
        "_whole",
        "_written",
        "feed",
        "key",
        "name",
        "plan",
        "unit",
    )

    def __init__(self, feed: Feed, plan: Plan, *, whole: bool) -> None:
        self.feed = feed
        self.plan = plan
        self.key, self.name, self.unit = identity(plan, feed.naming)
        self._own_labels = scope_labels(plan.scope, feed.naming)
        self._rules = LabelRules(plan.keys, frozenset())
        self._traced = plan.kind in _TRACED and not whole
        self._whole = whole
        self._put = _method(plan.kind, whole=whole)
        never_negative = plan.refuses_negative or (whole and plan.kind is Kind.COUNTER)
        self._least = 0 if never_negative else -FLOAT_MAX
        self._said = Once()
        self._notice: str | None = None
        self._retired = False
        #: The labels of the series it has written to, as far as they are there.
        self._written: set[Labels] = set()
        self.detach()

    def detach(self) -> None:
        """Forget which store it is: it is looked up with the next measurement."""
        self._store: SeriesStore | None = None
        self._metric: AnyMetric | None = None
        self._generation = -1
        self._cache: LabelCache[Callable[..., bool]] = LabelCache(self._rules)
        self._alone: Callable[..., bool] | None = None
        self._observed: set[Labels] = set()
        self._overflown = False

    @property
    def written(self) -> frozenset[Labels]:
        """The labels of the series it has written to."""
        return frozenset(self._written)

    def succeed(self, other: Stream) -> None:
        """Go on with the series of another stream of the same metric and the same shape."""
        store = self._store or self._attach()
        with store.lock:
            self._written |= other.written
            self._observed |= other._observed
            metric = store.find(self.key)
            if metric is not None:
                metric.description, metric.max_series = self.plan.description, self.plan.max_series

    def retire(self, shared: Collection[Labels] = ()) -> None:
        """Write no more, and forget the series that were written; an empty metric goes, too."""
        store = self._store or self._attach()
        with store.lock:
            wrote = bool(self._written) or self._metric is not None
            self._retired = True
            self._cache = LabelCache(self._rules)
            self._alone = self._metric = None
            for labels in self._written.difference(shared):
                store.remove(self.key, labels)
            self._written.clear()
            self._observed = set()
            metric = store.find(self.key)
            if wrote and metric is not None and not metric.series:
                # What is beyond the limit is of one metric, and nobody's in particular.
                store.remove(self.key)

    def write(self, amount: Any, attributes: Any, traced: Traced | None) -> None:
        """Take a measurement; safe in any thread, and never raises."""
        try:
            kind = type(amount)
            if kind is not int and kind is not float:
                number = number_of(amount)
                if number is None:
                    self._refuse(NOT_A_NUMBER, amount)
                    return
                amount = number
            # Before there is a series: what is refused must not leave an empty one.
            if not self._least <= amount <= FLOAT_MAX:
                self._refuse(OUT_OF_RANGE, amount)
                return
            store = self._store or self._attach()
            with store.lock:
                if self._generation != store.generation:
                    self._renew(store)
                put = self._cache.find(attributes) if attributes else self._alone
                if put is None:
                    put = self._resolve(store, attributes or {})
                taken = put(amount, traced) if self._traced else put(amount)
            if not taken:
                self._refuse(self._why_not(), amount)
            if self._notice is not None:
                self._say("buckets", self._notice)
                self._notice = None
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not reach the application
            self._fail(error)

    def observe(self, readings: Mapping[Labels, tuple[Any, float]]) -> None:
        """Take what callbacks have observed; a series none of them has seen goes."""
        try:
            totals = self._totals(readings)
            store = self._store or self._attach()
            with store.lock:
                if self._generation != store.generation:
                    self._renew(store)
                for labels in self._observed - totals.keys():
                    store.remove(self.key, labels)
                    self._written.discard(labels)
                refused = self._take(store, totals)
                self._observed = set(totals)
                # What has gone was not in the memory of a stream that only observes.
                self._generation = store.generation
            for reason, amount in refused:
                self._refuse(reason, amount)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _take(self, store: SeriesStore, totals: Mapping[Labels, float]) -> list[tuple[str, float]]:
        """Bring the series to what was observed; returns what was refused, and why."""
        metric = self._metric or (self._declare(store) if totals else None)
        if metric is None:
            return [(self._why_not(), amount) for amount in totals.values()]
        refused: list[tuple[str, float]] = []
        beyond: list[float] = []
        for labels, amount in totals.items():
            if not self._least <= amount <= FLOAT_MAX:
                refused.append((OUT_OF_RANGE, amount))
                store.remove(self.key, labels)
                self._written.discard(labels)
                continue
            series = metric.at(labels)
            if series.labels is OVERFLOW_LABELS:
                beyond.append(amount)
            elif getattr(series, self._put)(amount):
                self._written.add(labels)
            else:
                refused.append((OUT_OF_RANGE, amount))
        if beyond and metric.overflow is not None:
            rest = beyond[-1] if self.plan.kind is Kind.GAUGE else sum(beyond)
            if not getattr(metric.overflow, self._put)(rest):
                refused.append((OUT_OF_RANGE, rest))
        elif self._overflown:
            metric.overflow = None
            store.generation += 1
        self._overflown = bool(beyond)
        return refused

    def _totals(self, readings: Mapping[Labels, tuple[Any, float]]) -> dict[Labels, float]:
        """Return the readings by the labels they have here.

        Where a view leaves out attributes, sums of what differs in these add up.
        """
        sums = self.plan.kind is not Kind.GAUGE
        totals: dict[Labels, float] = {}
        for attributes, amount in readings.values():
            labels = self._labels(attributes)
            totals[labels] = totals[labels] + amount if sums and labels in totals else amount
        return totals

    def _labels(self, attributes: Mapping[Any, Any]) -> Labels:
        keys = self.plan.keys
        pairs: Iterable[tuple[Any, Any]] = attributes.items()
        labels = labels_of(pairs if keys is None else _chosen(pairs, keys), self.feed.naming)
        own = self._own_labels
        return tuple(sorted({**dict(labels), **dict(own)}.items())) if own else labels

    def _resolve(self, store: SeriesStore, attributes: Mapping[Any, Any]) -> Callable[..., bool]:
        """Return what puts measurements with these attributes into their series."""
        metric = self._metric or self._declare(store)
        if metric is None:
            return _nowhere
        series = metric.at(self._labels(attributes))
        put: Callable[..., bool] = getattr(series, self._put)
        if series.labels is OVERFLOW_LABELS:
            return put
        self._written.add(series.labels)
        if not attributes:
            self._alone = put
            return put
        _, place = self._cache.resolve(attributes)
        # By its type alone a list is not known again: two of them are two series.
        if place is not None and len(place[1].fields) == len(place[0].keys):
            self._cache.keep(place, put)
        return put

    def _attach(self) -> SeriesStore:
        store = self._store = exporter_stores.store_of(self.feed.exporter)
        return store

    def _renew(self, store: SeriesStore) -> None:
        """Forget the series: some are gone, or others by now."""
        self._cache = LabelCache(self._rules)
        self._alone = None
        metric = store.find(self.key)
        self._written &= metric.series.keys() if metric is not None else set()
        if self._metric is None or store.find(self.key) is not self._metric:
            self._metric = None
            self._declare(store)
        self._generation = store.generation

    def _why_not(self) -> str:
        """Return why a measurement was refused that is a number within range."""
        if self._retired:
            return VIEW_CHANGED
        return NAME_TAKEN if self._metric is None else OUT_OF_RANGE

    def _declare(self, store: SeriesStore) -> AnyMetric | None:
        if self._retired:
            return None
        plan, naming = self.plan, self.feed.naming
        spec = MetricSpec(
            kind=plan.kind,
            name=self.name,
            key=self.key,
            description=plan.description,
            unit=self.unit,
            claims=naming.claims(plan.kind, self.name),
            scope=plan.scope if naming.scopes else NO_SCOPE,
            observed=self._whole,
            max_series=plan.max_series,
            bounds=plan.bounds,
            scale=plan.scale,
            max_size=plan.max_size,
        )
        try:
            metric = store.declare(spec)
        except MetricRefusedError:
            return None
        if isinstance(metric, Histogram) and metric.bounds != plan.bounds and not metric.series:
            store.rebucket(plan.bounds, [metric])
        elif getattr(metric, "bounds", plan.bounds) != plan.bounds:
            self._notice = (
                f"metric {self.name} has two sets of buckets: {_listed(plan.bounds)} of {plan.scope.name} "
                f"are not used, because it came second. A view can give both the same"
            )
        self._metric = metric
        return metric

    def _refuse(self, reason: str, amount: Any) -> None:
        store = self._store or self._attach()
        with store.lock:
            store.refuse(reason)
        if reason not in {NAME_TAKEN, VIEW_CHANGED}:
            self._say(
                reason,
                f"a measurement of {self.plan.name} ({self.plan.scope.name}) is refused: it is "
                f"{reason} ({_shown(amount)}). Such measurements are counted, and not reported again",
            )

    def _fail(self, error: Exception) -> None:
        try:
            store = self._store or self._attach()
            with store.lock:
                store.refuse(FAILED)
            self._say(
                FAILED,
                f"a measurement of {self.plan.name} ({self.plan.scope.name}) could not be taken: "
                f"{describe(error)}. Such failures are counted, and not reported again",
            )
        except Exception:  # noqa: BLE001, S110 - there is nobody left to tell
            pass

    def _say(self, about: str, message: str) -> None:
        """Tell a person, once. Never under the lock: a handler of Python's logging may measure something."""
        if self._said.is_news(about):
            _log.warning("%s: %s.", self.feed.exporter, message)


def _method(kind: Kind, *, whole: bool) -> str:
    if kind in {Kind.HISTOGRAM, Kind.EXPONENTIAL}:
        return "observe"
    if kind is Kind.GAUGE:
        return "set"
    return "advance_to" if whole else "add"


def _nowhere(_amount: float, _traced: Traced | None = None) -> bool:
    return False


def _chosen(pairs: Iterable[tuple[Any, Any]], keys: frozenset[str]) -> list[tuple[Any, Any]]:
    return [(key, value) for key, value in pairs if type(key) is str and key in keys]


def _listed(bounds: tuple[float, ...]) -> str:
    return ", ".join(map(str, bounds)) or "none"


def _shown(amount: Any) -> str:
    return repr(amount) if type(amount) in {int, float} else f"of type {type(amount).__name__}"
