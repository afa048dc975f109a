"""Events into series, for whichever exit: the automatic metrics, the defined ones, or both.

Both exporters of metrics run one of these over a store; they differ in how names are spelt, in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.automatic.operations import MAX_OPEN, OPEN_TTL_NS
from otpylib_telemetry.metrics.automatic.series import OWNER
from otpylib_telemetry.metrics.defined.events import DefinedMetrics
from otpylib_telemetry.metrics.labels import LabelRules, label_text
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.operation import as_event, is_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.metrics.automatic.plans import Bound
    from otpylib_telemetry.metrics.definition import Definition
    from otpylib_telemetry.metrics.names import Naming


#: How often series are looked through for idle ones, as a part of the time they may be idle; and the longest
#: and the shortest time between two looks, in nanoseconds.
_LOOKS: Final = 10

_SELDOM: Final = 60 * 1_000_000_000

_OFTEN: Final = 1_000_000_000


class MetricRecorder:
    """Turns events into changes of a store's series."""

    def __init__(self, store: SeriesStore, naming: Naming) -> None:
        self._store = store
        # Nothing is made before it is known how.
        self._automatic_on = False
        self._operations: OpenOperations[Bound] = OpenOperations(MAX_OPEN, OPEN_TTL_NS)
        self._automatic = AutomaticMetrics(store, self._operations, MetricOptions(LabelRules(), ()), naming)
        self._defined = DefinedMetrics(store, (), naming)
        self._ttl_ns: int | None = None
        self._look_at_ns = 0
        #: Events that a metric was made of.
        self.updated = 0

    @property
    def unused(self) -> int:
        """Events no metric was made of."""
        if not self._defined.definitions:
            return self._automatic.unused
        return (
            min(self._defined.unused, self._automatic.unused) if self._automatic_on else self._defined.unused
        )

    def configure(
        self,
        options: MetricOptions,
        definitions: Sequence[Definition] = (),
        *,
        automatic: bool | None = None,
        series_ttl: float | None = None,
    ) -> None:
        """Go on with other settings: all of them, or none."""
        wanted = is_automatic(definitions, automatic)
        with self._store.lock:
            self._defined.reconfigure(definitions, replaces="" if wanted else OWNER)
            self._defined.exemplars = options.exemplars
            if self._automatic_on and not wanted:
                self._automatic.retire()
            self._automatic_on = wanted
            self._automatic.configure(options)
        self._ttl_ns = None if series_ttl is None else int(series_ttl * 1_000_000_000)
        self._look_at_ns = 0

    def check(self, definitions: Sequence[Definition] = (), *, automatic: bool | None = None) -> None:
        """Do nothing, but raise what :meth:`configure` would raise."""
        self._defined.check(definitions, "" if is_automatic(definitions, automatic) else OWNER)

    def record(self, events: Sequence[Entry]) -> tuple[int, int]:
        """Add events to the series; return how many were taken or of no use, and how many wholly refused."""
        if not self._defined.definitions and not self._automatic_on:
            return len(events), 0
        unused = self.unused
        if not self._defined.definitions:
            taken, rejected = self._automatic.record(events)
        else:
            taken, rejected = self._defined.record(
                [event if is_event(event) else as_event(event) for event in events]
            )
            if self._automatic_on:
                also = self._automatic.record(events)
                taken, rejected = max(taken, also[0]), min(rejected, also[1])
        self.updated += taken - (self.unused - unused)
        return taken, rejected

    def expire(self, now_ns: int, alive: Callable[[object], bool]) -> None:
        """Give up what will not come to an end any more, and series nobody measures."""
        self._automatic.expire(now_ns, alive)
        self._store.advance(now_ns)
        if self._ttl_ns is None:
            return
        if now_ns >= self._look_at_ns and not self._store.expiring:
            self._look_at_ns = now_ns + min(_SELDOM, max(_OFTEN, self._ttl_ns // _LOOKS))
            self._store.expire(now_ns, self._ttl_ns)
        elif self._store.expiring:
            self._store.expire(now_ns, self._ttl_ns)

    def give_up_held(self) -> None:
        """Give up every open operation: their ends will not be seen."""
        self._automatic.operations.give_up_held()

    def stats(self) -> dict[str, Any]:
        """Return what is in the store, and what was left out of it."""
        store = self._store
        with store.lock:
            shared = dict(store.shared)
        return {
            "metrics": len(store),
            "series": store.series_count(),
            "series_expired": store.expired,
            "labels_folded": store.folded(),
            "overflowing": store.overflowing(),
            "cardinality": store.cardinality(),
            "samples_refused": dict(store.refused),
            "metrics_refused": dict(store.refusals),
            "open_operations": len(self._automatic.operations),
            "operations_given_up": dict(self._automatic.operations.given_up),
            **({"metrics_shared": {name: list(one) for name, one in shared.items()}} if shared else {}),
            **({"measurements_missing": missing} if (missing := self._defined.missing) else {}),
        }


def is_automatic(definitions: Sequence[Definition], automatic: bool | None) -> bool:  # noqa: FBT001 - a setting
    """Tell whether metrics are made of every event, without a definition."""
    return not definitions if automatic is None else automatic


def answer_removal(store: SeriesStore, request: tuple[Any, ...]) -> bool:
    """Answer ``("remove", metric)`` and ``("remove", metric, labels)``: forget a metric, or one series.

    Returns whether there was such a thing.
    """
    match request:
        case ("remove", str(name)):
            removed = [store.remove(key) for key in store.keys_of(name)]
        case ("remove", str(name), dict(labels)):
            wanted = sorted((str(key), _text(value)) for key, value in labels.items())
            with store.lock:
                found = [
                    (key, series)
                    for key in store.keys_of(name)
                    if (metric := store.find(key)) is not None
                    for series in metric.series
                    if sorted((label, _text(text)) for label, text in series) == wanted
                ]
                removed = [store.remove(key, series) for key, series in found]
        case _:
            raise LookupError(request)
    return any(removed)


def _text(value: Any) -> str:
    """Return a label as it reads, whatever it stands for."""
    told = getattr(value, "value", value) if isinstance(value, str) else value
    return label_text(told) or str.__str__(str(told))
