"""Streams of what is observed: whole sums and levels, read off when an exit is about to be read.

Knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.refusals import OUT_OF_RANGE
from otpylib_telemetry.aggregation.summation import FLOAT_MAX
from otpylib_telemetry.meters.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from otpylib_telemetry.aggregation.metric import AnyMetric
    from otpylib_telemetry.aggregation.series import Labels, Operation, Traced
    from otpylib_telemetry.aggregation.store import SeriesStore

#: What was observed: attributes, number, and the operation it belongs to, by the labels for the attributes.
Readings: TypeAlias = "Mapping[Labels, tuple[Mapping[Any, Any], float, Traced | None]]"

_Told: TypeAlias = "tuple[float, Operation | None]"


class ObservedStream(Stream):
    """Observations of one instrument on their way into one metric."""

    whole: ClassVar[bool] = True

    def detach(self) -> None:
        """Forget which store it is: it is looked up with the next observation."""
        super().detach()
        self._observed: set[Labels] = set()
        self._overflown = False

    def succeed(self, other: Stream) -> None:
        """Go on with the series of another stream of the same metric and the same shape."""
        super().succeed(other)
        if isinstance(other, ObservedStream):
            self._observed |= other._observed  # noqa: SLF001 - of this class

    def retire(self, shared: Collection[Labels] = ()) -> None:
        """Write no more, and forget the series that were written; an empty metric goes, too."""
        super().retire(shared)
        self._observed = set()

    def observe(self, readings: Readings) -> None:
        """Take what callbacks have observed; a series none of them has seen goes."""
        try:
            totals = self._totals(readings)
            store = self._store or self._attach()
            with store.lock:
                if self._generation != store.generation:
                    self._renew(store)
                refused = self._take(store, totals)
                # What has gone was not in the memory of a stream that only observes.
                self._generation = store.generation
            for reason, amount in refused:
                self._refuse(reason, amount)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail(error)

    def _take(self, store: SeriesStore, totals: Mapping[Labels, _Told]) -> list[tuple[str, float]]:
        """Bring the series to what was observed; returns what was refused, and why."""
        metric = self._metric or (self._declare(store) if totals else None)
        if metric is None:
            self._give_up(store, self._observed)
            self._observed = set()
            return [(self._why_not(), amount) for amount, _ in totals.values()]
        unseen = set(map(metric.as_folded, self._observed)).difference(map(metric.as_folded, totals))
        refused: list[tuple[str, float]] = []
        usable: dict[Labels, _Told] = {}
        for labels, (amount, traced) in totals.items():
            if self._least <= amount <= FLOAT_MAX:
                usable[labels] = amount, traced
            else:
                refused.append((OUT_OF_RANGE, amount))
                unseen.add(labels)
        self._give_up(store, unseen)
        found = self._placed(metric, usable)
        overflow = metric.overflow
        for series, (amount, traced) in found.items():
            if not self._putting(metric, series)(amount, traced):
                refused.append((OUT_OF_RANGE, amount))
            elif series is not overflow:
                self._written.add(series.labels)
        self._observed = {series.labels for series in found if series is not overflow}
        if overflow is not None and overflow not in found and self._overflown:
            metric.overflow = None
            store.generation += 1
        self._overflown = overflow in found
        return refused

    def _placed(self, metric: AnyMetric, totals: Mapping[Labels, _Told]) -> dict[Any, _Told]:
        """Return what was observed by the series it is of; what is of one series is added up, or the last."""
        for labels in totals:
            # Each may be the one for which a label is folded, of those before it as well.
            metric.at(labels)
        return self._added((metric.at(labels), told) for labels, told in totals.items())

    def _give_up(self, store: SeriesStore, every: Iterable[Labels]) -> None:
        for labels in every:
            store.remove(self.key, labels)
            self._written.discard(labels)

    def _totals(self, readings: Readings) -> dict[Labels, _Told]:
        """Return the readings by the labels they have here.

        Where a view leaves out attributes, sums of what differs in these add up.
        """
        return self._added(
            (self._labels(attributes), (amount, traced and self._seen(traced, attributes)))
            for attributes, amount, traced in readings.values()
        )

    def _added(self, told: Iterable[tuple[Any, _Told]]) -> dict[Any, _Told]:
        sums = self.plan.kind is not Kind.GAUGE
        found: dict[Any, _Told] = {}
        for key, (amount, traced) in told:
            before = found[key][0] if sums and key in found else 0
            found[key] = before + amount, traced
        return found
