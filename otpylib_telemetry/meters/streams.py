"""Streams: from the measurements of one instrument to the series of one metric of one exporter.

An instrument has a stream for each view that matches it and each exporter it feeds. A measurement costs a
look into a memory of what became of such attributes before, and one addition, under the lock of the store.

Knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from otpylib_telemetry.aggregation import exporter_stores
from otpylib_telemetry.aggregation.metric import AnyMetric, Histogram, is_shared
from otpylib_telemetry.aggregation.metric_spec import NO_SCOPE, Kind, MetricSpec
from otpylib_telemetry.aggregation.refusals import (
    FAILED,
    NAME_TAKEN,
    NOT_A_NUMBER,
    OUT_OF_RANGE,
    VIEW_CHANGED,
    MetricRefusedError,
)
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.meters.attributes import labels_of, scope_labels
from otpylib_telemetry.meters.reservoirs import Reservoir
from otpylib_telemetry.meters.stream_plan import Plan, identity
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.labels import LabelCache, LabelRules
from otpylib_telemetry.primitives.any_value import any_values
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from otpylib_telemetry.aggregation.series import Labels, Operation, Traced
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.metrics.names import Naming

_log = logging.getLogger("otpylib_telemetry")


@dataclass(frozen=True, slots=True)
class Feed:
    """An exporter that instruments write for, and how it spells names."""

    exporter: str
    naming: Naming


class Stream:
    """Measurements of one instrument on their way into one metric."""

    #: Whether it takes sums and levels as they were read off, and not what is added to them.
    whole: ClassVar[bool] = False

    def __init__(self, feed: Feed, plan: Plan) -> None:
        self.feed = feed
        self.plan = plan
        self.key, self.name, self.unit = identity(plan, feed.naming)
        self._rules = LabelRules(plan.keys, frozenset())
        #: Reservoirs are those of the SDK, for what is sent as the SDK would send it.
        self._reservoir = plan.reservoir if feed.naming.scopes else None
        #: Whether exemplars have attributes that their series have not.
        self._selects = plan.keys is not None or self._reservoir is not None
        self._put = _method(plan.kind, whole=self.whole)
        never_negative = plan.refuses_negative or (self.whole and plan.kind is Kind.COUNTER)
        self._least = 0 if never_negative else -FLOAT_MAX
        self._said = Once()
        self._notice: tuple[str, str] | None = None
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
        # The labels that tell its scope, when they are known.
        self._own_labels: Labels | None = None

    @property
    def written(self) -> frozenset[Labels]:
        """The labels of the series it has written to."""
        return frozenset(self._written)

    def succeed(self, other: Stream) -> None:
        """Go on with the series of another stream of the same metric and the same shape."""
        store = self._store or self._attach()
        with store.lock:
            self._written |= other.written
            metric = store.find(self.key)
            if metric is not None:
                metric.description, metric.max_series = self.plan.description, self.plan.max_series
                metric.folds = self.plan.max_series is None
                metric.reservoirs.clear()

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
            metric = store.find(self.key)
            if wrote and metric is not None and not metric.series:
                # What is beyond the limit is of one metric, and nobody's in particular.
                store.remove(self.key)

    def write(  # noqa: C901 - the hot path, in one piece
        self, amount: Any, attributes: Any, traced: Traced | None
    ) -> None:
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
                try:
                    put = self._cache.find(attributes) if attributes else self._alone
                    if put is None:
                        put = self._resolve(store, attributes or {})
                except KeyboardInterrupt:
                    raise
                except BaseException:  # noqa: BLE001 - attributes of any kind; what can be used of them is
                    attributes = self._mended(attributes)
                    put = self._resolve(store, attributes)
                taken = put(amount, traced and self._seen(traced, attributes))
            if not taken or self._notice is not None:
                self._tell(amount, taken=taken)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not reach the application
            self._fail(error)

    def _seen(self, traced: Traced, attributes: Any) -> Operation:
        return _Told(self, traced, attributes) if self._selects else traced

    def _tell(self, amount: Any, *, taken: bool) -> None:
        """Tell what a person should know of a measurement."""
        if not taken:
            self._refuse(self._why_not(), amount)
        if self._notice is not None:
            self._say(*self._notice)
            self._notice = None

    def told(self, traced: Traced, attributes: Any) -> Traced:
        """Return an operation with the attributes that an exemplar keeps: those that its series has not.

        A reservoir gets all of them, and tells by itself.
        """
        keys = self.plan.keys
        keep = None if keys is None or self._reservoir is not None else lambda key: key not in keys
        try:
            labels = labels_of(attributes or {}, self._naming, keep)
            scrub = (self._store or self._attach()).scrub
            return traced._replace(attributes=labels if scrub is None else scrub(labels))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - they could be read a moment ago
            return traced

    def _labels(self, attributes: Mapping[Any, Any]) -> Labels:
        keys = self.plan.keys
        labels = labels_of(attributes, self._naming, None if keys is None else keys.__contains__)
        own = self._own_labels
        if own is None:
            own = self._own_labels = scope_labels(self.plan.scope, self._naming)
        return tuple(sorted({**dict(labels), **dict(own)}.items())) if own else labels

    def _mended(self, attributes: Any) -> dict[str, Any]:
        """Return what can be used of attributes that raise when they are looked at, or are none."""
        mended, _ = any_values(attributes)
        message = (
            f"the attributes of a measurement of {self.plan.name} ({self.plan.scope.name}) cannot be read: "
            f"expected a mapping, got {type(attributes).__name__}. It counts {_with(mended)}, and so do "
            f"others like it; this is said once"
        )
        self._notice = "attributes", message
        return mended

    def _putting(self, metric: AnyMetric, series: Any) -> Callable[..., bool]:
        """Return what puts a measurement into a series."""
        put: Callable[..., bool] = getattr(series, self._put)
        if self._reservoir is None:
            return put
        reservoir = metric.reservoirs.get(series)
        if reservoir is None:
            reservoir = metric.reservoirs[series] = Reservoir(self._reservoir, metric, self._say)
        return functools.partial(reservoir.put, put)

    def _resolve(self, store: SeriesStore, attributes: Mapping[Any, Any]) -> Callable[..., bool]:
        """Return what puts measurements with these attributes into their series."""
        metric = self._metric or self._declare(store)
        if metric is None:
            return _nowhere
        labels = self._labels(attributes)
        series: Any = metric.at(labels)
        put = self._putting(metric, series)
        if series is metric.overflow:
            return put
        self._written.add(series.labels)
        if is_shared(series, labels):
            return put
        if not attributes:
            self._alone = put
            return put
        _, place = self._cache.resolve(attributes)
        # A list is not known again by its type alone, nor bytes by their text: two of them are two series. A
        # key that is no text is not looked at again at all.
        if place is not None and place[1].is_faithful and all(type(key) is str for key in place[0].all_keys):
            self._cache.keep(place, put)
        return put

    @property
    def _naming(self) -> Naming:
        """How labels are named: without secrets, which are not seen to be any afterwards."""
        naming = self.feed.naming
        return naming if naming.scopes else naming.cleaned((self._store or self._attach()).scrub_text)

    def _attach(self) -> SeriesStore:
        store = self._store = exporter_stores.store_of(self.feed.exporter)
        return store

    def _renew(self, store: SeriesStore) -> None:
        """Forget the series: some are gone, or others by now."""
        self._cache = LabelCache(self._rules)
        self._alone = None
        metric = store.find(self.key)
        self._written = (
            set() if metric is None else {*map(metric.as_folded, self._written)} & metric.series.keys()
        )
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
        name, unit = self.name, self.unit
        clean = store.scrub_text(plan.name), store.scrub_text(plan.unit)
        if clean != (plan.name, plan.unit):
            name, unit = naming.instrument(*clean, plan.kind)
        spec = MetricSpec(
            kind=plan.kind,
            name=name,
            key=self.key,
            description=plan.description,
            unit=unit,
            claims=naming.claims(plan.kind, name),
            scope=plan.scope if naming.scopes else NO_SCOPE,
            observed=self.whole,
            max_series=plan.max_series,
            # Who gives a view a limit knows what OpenTelemetry does beyond it.
            folds=plan.max_series is None,
            bounds=plan.bounds,
            scale=plan.scale,
            max_size=plan.max_size,
            extremes=plan.extremes,
            multiprocess_mode=plan.multiprocess_mode,
            # What observes is there with every reading: it would come and go with each of them.
            passing=not self.whole,
        )
        try:
            metric = store.declare(spec)
        except MetricRefusedError:
            return None
        if isinstance(metric, Histogram) and metric.bounds != plan.bounds and not metric.series:
            store.rebucket(plan.bounds, [metric])
        elif getattr(metric, "bounds", plan.bounds) != plan.bounds:
            message = (
                f"metric {self.name} has two sets of buckets: {_listed(plan.bounds)} of {plan.scope.name} "
                f"are not used, because it came second. A view can give both the same"
            )
            self._notice = "buckets", message
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

    def _fail(self, error: BaseException) -> None:
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


def _nowhere(_amount: float, _traced: Operation | None = None) -> bool:
    return False


class _Told:
    """An operation during which something was measured with attributes that its series has not."""

    __slots__ = ("_attributes", "_stream", "_traced", "at_ns")

    def __init__(self, stream: Stream, traced: Traced, attributes: Any) -> None:
        self._stream = stream
        self._traced = traced
        self._attributes = attributes
        self.at_ns = traced.at_ns

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        return self._stream.told(self._traced, self._attributes)


def _with(attributes: Mapping[str, Any]) -> str:
    return f"with {', '.join(attributes)}" if attributes else "without any"


def _listed(bounds: tuple[float, ...]) -> str:
    return ", ".join(map(str, bounds)) or "none"


def _shown(amount: Any) -> str:
    return repr(amount) if type(amount) in {int, float} else f"of type {type(amount).__name__}"
