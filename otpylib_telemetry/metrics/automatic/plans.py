"""What is known of an event by its name, and by its labels: worked out once for each, then remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.metrics import conventions as _conventions  # noqa: F401 - it declares
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.metrics.event_values import is_of_an_operation
from otpylib_telemetry.metrics.labels import LabelCache, LabelRules, Place
from otpylib_telemetry.metrics.names import MAX_NAME, Naming
from otpylib_telemetry.metrics.standard import ERROR_TYPE, standard_of
from otpylib_telemetry.tracing.phases import Phase, classify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.aggregation.metric import Counter, Exponential, Gauge, Histogram, UpDown
    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.metrics.automatic.nowhere import (
        AnyCounter,
        AnyGauge,
        AnyHistogram,
        AnyLevel,
        NoMetric,
    )

#: Event names whose plans are kept. Applications have hundreds.
_MAX_PLANS: Final = 10_000

#: Label sets kept over all event names, about half a kilobyte each. Beyond this they are collected anew.
_MAX_REMEMBERED: Final = 200_000

#: What an ending is labelled with.
OUTCOMES: Final[Mapping[Phase, str]] = {Phase.OK: "success", Phase.ERROR: "error"}


@dataclass(slots=True, eq=False)
class Bound:
    """Series that the events of one name and one set of labels change; each is looked up when first needed.

    One of these is also what is kept with an open operation, so that the gauge lowered at its end is the very
    one that was raised at its beginning.
    """

    labels: Labels
    #: Whether the metadata says which operation it is part of: the keys are the same each time.
    traced: bool
    count: AnyCounter | None = None
    duration: AnyHistogram | None = None
    value: AnyGauge | None = None
    in_flight: AnyLevel | None = None
    #: By what the operation began with (None: it is not known to have begun).
    timings: dict[Bound | None, AnyHistogram] = field(default_factory=dict)
    #: Of the successes that end with the labels with which they began.
    timing: AnyHistogram | None = None
    #: The same for how long they waited before they began.
    waits: dict[Bound | None, AnyHistogram] | None = None
    wait: AnyHistogram | None = None
    #: Where it is to be remembered, once it has its series.
    place: Place[Bound] | None = None
    #: Whether later events find this one again; if not, nothing may be remembered for it either.
    kept: bool = False
    #: Whether one of its series is shared with other labels, for want of room: that of a folded label, or the
    #: overflow series.
    overflown: bool = False


class Plan:
    """What follows from an event's name alone."""

    __slots__ = (
        *("begins", "bindings", "by_size", "count", "duration", "ends", "error_label", "event", "in_flight"),
        *("in_flight_labels", "operation", "outcome", "plain", "standard", "timing", "value", "wait"),
    )

    def __init__(self, event: str, rules: LabelRules, naming: Naming) -> None:
        self.event = event
        self.operation, phase = classify(event)
        self.begins = phase is Phase.START
        self.outcome = OUTCOMES.get(phase, "")
        self.ends = bool(self.outcome)
        self.standard = standard = standard_of(event, self.operation)
        #: The label that tells an error by itself, if there is one; empty where settings leave it out.
        self.error_label: str | None = None
        #: Which labels those in flight have; None for all.
        self.in_flight_labels: frozenset[str] | None = None
        self.bindings: LabelCache[Bound]
        if (renamed := standard.labels) is None:
            self.bindings = LabelCache(rules, naming.label)
        else:
            among = rules.among(renamed)
            self.bindings = LabelCache(among, lambda key: naming.label(renamed[key]), joined=False)
            if standard.by_error_type:
                kept = any(among.keep(key) for key, label in renamed.items() if label == ERROR_TYPE)
                self.error_label = naming.label(ERROR_TYPE) if kept else ""
            if standard.in_flight_labels is not None:
                self.in_flight_labels = frozenset(map(naming.label, standard.in_flight_labels))
        self.plain, self.by_size = self.bindings.plain, self.bindings.by_size
        # The metrics of the event, each declared when first needed.
        self.count: Counter | NoMetric | None = None
        self.duration: Histogram | Exponential | NoMetric | None = None
        self.value: Gauge | NoMetric | None = None
        self.in_flight: UpDown | NoMetric | None = None
        self.timing: Histogram | Exponential | NoMetric | None = None
        self.wait: Histogram | Exponential | NoMetric | None = None


class Plans:
    """The plans by event, and by operation those of its start, its success and its error; what is remembered.

    Attributes:
        by_event: The plans of events.
        by_operation: Three plans for each operation.
        remembered: How much is remembered of labels, over all plans.
        rules: Which metadata keys become labels.
        exemplars: Whether a series remembers the trace of a recent measurement.
    """

    def __init__(self, store: SeriesStore, naming: Naming, rules: LabelRules, *, exemplars: bool) -> None:
        self.by_event: dict[str, Plan] = {}
        self.by_operation: dict[str, tuple[Plan, Plan, Plan]] = {}
        self.remembered = 0
        self.rules = rules
        self.exemplars = exemplars
        self._store = store
        self._naming = naming
        self._made_at = self._generations()

    def renew(self) -> None:
        """Forget everything if series have gone, if other events leave elsewhere, or if it is too much."""
        if self._made_at != self._generations() or self.remembered > _MAX_REMEMBERED:
            self.forget()

    def forget(self) -> None:
        """Remember nothing."""
        self.by_event.clear()
        self.by_operation.clear()
        self.remembered = 0
        self._made_at = self._generations()

    def of(self, event: str) -> Plan:
        """Return the plan of an event, a new one if need be."""
        plan = self.by_event.get(event)
        if plan is None:
            plan = Plan(event, self.rules, self._naming)
            if len(event) <= MAX_NAME:
                if len(self.by_event) >= _MAX_PLANS:
                    self.forget()
                self.by_event[event] = plan
        return plan

    def of_operation(self, operation: str) -> tuple[Plan, Plan, Plan]:
        """Return the plans of an operation."""
        start, success, error = (self.of(f"{operation}.{suffix}") for suffix in ("start", "success", "error"))
        if len(operation) <= MAX_NAME:
            self.by_operation[operation] = (start, success, error)
        return start, success, error

    def bind(self, plan: Plan, metadata: Any) -> Bound:
        """Find what the labels of metadata lead to, or begin with it: that has a place to be kept at."""
        try:
            found = plan.bindings.find(metadata)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - metadata of any kind whatever
            found = None
        if found is not None:
            return found
        labels, place = plan.bindings.resolve(metadata)
        return Bound(labels, self.exemplars and is_of_an_operation(metadata), place=place)

    def keep(self, plan: Plan, binding: Bound) -> None:
        """Remember what has its series by now, unless one of them is shared with other labels."""
        place, binding.place = binding.place, None
        if place is not None and not binding.overflown:
            binding.kept = True
            self.remembered += 1
            plan.bindings.keep(place, binding)

    def _generations(self) -> tuple[int, int]:
        return self._store.generation, elsewhere.generation
