"""What every exporter of metrics has in common: events become series, and series leave.

:class:`MetricsExporter` records events and is the base of an exporter whose series are fetched.
:class:`PushedMetricsExporter` also reads them at an interval, and is the base of one that sends them: its
author writes :meth:`~otpylib_telemetry.exporter.base.Exporter.export`, and gets data points.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeVar

from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.aggregation.observers import refresh
from otpylib_telemetry.aggregation.points import Form, MetricPoint
from otpylib_telemetry.aggregation.temporality import Preference
from otpylib_telemetry.exporter.base import ExportContext, Exporter
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.registry import find
from otpylib_telemetry.metrics.automatic.events import MetricOptions
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, Naming
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.metrics.reading import SeriesReader
from otpylib_telemetry.metrics.recorder import MetricRecorder, answer_removal
from otpylib_telemetry.metrics.settings import MetricsSettings, PushedMetricsSettings, definitions_in
from otpylib_telemetry.scrubbing.plan import DEFAULT_PLAN, ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import scrubbed_in, scrubber_in

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.metrics.definition import Definition

__all__ = [
    "OPENTELEMETRY",
    "PROMETHEUS",
    "Form",
    "MetricPoint",
    "MetricsExporter",
    "MetricsPlan",
    "MetricsSettings",
    "Preference",
    "PushedMetricsExporter",
    "PushedMetricsSettings",
    "RecordedMetrics",
]

#: Key into the memory that survives the exporter.
_RECORDER: Final = "metrics_of_events"

#: Where in that memory it is how names are spelt.
_NAMING: Final = "metrics_naming"

#: The part of the time there is that the callbacks of observable instruments may take.
_OBSERVING_SHARE: Final = 0.5


class MetricsPlan(NamedTuple):
    """How events become series, as settings say."""

    options: MetricOptions
    definitions: tuple[Definition, ...]
    automatic: bool | None
    max_series: int
    series_ttl: float | None = None
    scrub: ScrubPlan = DEFAULT_PLAN

    @classmethod
    def of(cls, settings: MetricsSettings) -> MetricsPlan:
        """Return what the keys say that exporters of metrics have."""
        rules = LabelRules.of(settings.labels, settings.drop_labels)
        return cls(
            MetricOptions(rules, settings.buckets, settings.span_metrics, settings.exemplars),
            definitions_in(settings.metrics),
            settings.automatic_metrics,
            settings.max_series,
            settings.series_ttl,
            settings.scrub_plan(),
        )


class RecordedMetrics:
    """The series of one exporter, and the recorder that makes them of events. Both outlive the exporter.

    The plan comes into force with the first events, or with :meth:`use`; ``before_change`` is called before
    series may go.
    """

    def __init__(
        self,
        memory: MutableMapping[str, Any],
        name: str,
        naming: Naming,
        plan: MetricsPlan,
        before_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store_in(memory, name)
        self._memory = memory
        memory[_NAMING] = naming
        if _RECORDER not in memory:
            memory[_RECORDER] = MetricRecorder(self.store, naming.cleaned(self.store.scrub_text))
        self.recorder: MetricRecorder = memory[_RECORDER]
        self._plan = plan
        self._in_force = False
        self._before_change = before_change

    def use(self, plan: MetricsPlan | None = None) -> None:
        """Make metrics under this plan from now on, or under the present one: all of it, or nothing."""
        if plan is None and self._in_force:
            return
        wanted = plan or self._plan
        if not self._in_force or wanted != self._plan:
            with self.store.lock:
                self._before_change()
                if not self._in_force or wanted.scrub != self._plan.scrub:
                    self._scrub(wanted.scrub)
                self.recorder.configure(
                    wanted.options,
                    wanted.definitions,
                    automatic=wanted.automatic,
                    series_ttl=wanted.series_ttl,
                )
            self._plan, self._in_force = wanted, True
        self.store.max_series = wanted.max_series

    def _scrub(self, plan: ScrubPlan) -> None:
        scrubber = scrubber_in(self._memory, plan)
        if scrubber is None:
            self.store.use_scrub(None)
        else:
            self.store.use_scrub(scrubber.labels, scrubber.text)

    def check(self, plan: MetricsPlan) -> None:
        """Do nothing, but raise what :meth:`use` would raise."""
        self.recorder.check(plan.definitions, automatic=plan.automatic)

    def record(self, events: Sequence[Entry]) -> tuple[int, int]:
        """Add events to the series; returns how many were taken or of no use, and how many were rejected."""
        # What clashes is said by ``open``, which is tried again; what can be measured is measured.
        with contextlib.suppress(DefinitionError):
            self.use()
        return self.recorder.record(events)

    def remove(self, request: tuple[Any, ...]) -> bool:
        """Answer ``("remove", metric)`` and ``("remove", metric, labels)``; see :func:`answer_removal`."""
        with self.store.lock:
            self._before_change()
            return answer_removal(self.store, request)


def naming_of(exporter: str) -> Naming | None:
    """Return how an exporter spells names; None where it is none of metrics, or has not started yet."""
    found = find(exporter)
    naming: Naming | None = None if found is None else found.memory.get(_NAMING)
    return naming


MetricsSettingsT = TypeVar("MetricsSettingsT", bound=MetricsSettings)


class MetricsExporter(Exporter[MetricsSettingsT]):
    """Records events as series, automatic and defined ones, as the keys of :class:`MetricsSettings` say.

    An override of a method that is here calls it, too.

    Args:
        settings: The configuration in force.
        context: What the server lends. The series are in its memory, and so outlive the exporter.

    Attributes:
        naming: How names of metrics and labels are spelt: ``PROMETHEUS`` (the default) or ``OPENTELEMETRY``
            of :mod:`otpylib_telemetry.metrics.names`.
        metrics: The series and what makes them.
    """

    settings_type: ClassVar[type[MetricsSettings]] = MetricsSettings
    #: The keys for which nothing is opened anew.
    in_place: ClassVar[frozenset[str]] = frozenset(MetricsSettings.model_fields)
    naming: ClassVar[Naming] = PROMETHEUS
    takes_operations: ClassVar[bool] = True

    def __init__(self, settings: MetricsSettingsT, context: ExportContext) -> None:
        super().__init__(settings, context)
        self.metrics = RecordedMetrics(
            context.memory, context.name, self.naming, self.plan(settings), self.series_may_go
        )

    @classmethod
    def tells_of_traces(cls, settings: MetricsSettingsT | None) -> bool:
        """Return False: there are only metrics."""
        del settings
        return False

    @classmethod
    def effects(
        cls, before: MetricsSettingsT, after: MetricsSettingsT, changed: frozenset[str]
    ) -> Sequence[str]:
        """Return in words what a change would do to the series."""
        del before
        series = changed & type(after).keys_with("remakes", "series")
        return [f"series that {', '.join(sorted(series))} change begin again"] if series else ()

    def series_may_go(self) -> None:
        """Do what is to be done before series go: say the rest of them, for instance."""

    def plan(self, settings: MetricsSettingsT) -> MetricsPlan:
        """Return how events become series under these settings."""
        return MetricsPlan.of(settings)

    async def open(self) -> None:
        """Have the definitions in force."""
        self.metrics.use()

    def collect(self, events: Sequence[Entry], wall_offset_ns: int) -> Collected:
        """Add events to the series."""
        del wall_offset_ns
        taken, rejected = self.metrics.record(events)
        return Collected(exported=taken, rejected=rejected)

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """Give up operations whose end will not come, whose events are accounted for."""
        del wall_offset_ns
        self.metrics.recorder.expire(now_ns, alive)
        return Collected()

    def give_up_held(self, wall_offset_ns: int) -> Collected:
        """Give up every open operation: a gauge must not show for ever what nobody will count down."""
        del wall_offset_ns
        self.metrics.recorder.give_up_held()
        return Collected()

    async def check(self, settings: MetricsSettingsT, changed: frozenset[str]) -> None:
        """Do nothing but raise what :meth:`apply` would raise, if series are made otherwise from now on.

        What was emitted before is measured first, as was the rule then.
        """
        if changed & self.settings_type.keys_with("remakes", "series"):
            await self.context.catch_up()
            self.metrics.check(self.plan(settings))

    async def apply(self, settings: MetricsSettingsT, changed: frozenset[str]) -> bool:
        """Take over all settings, or none; True if all that changed is how series are made."""
        await self.check(settings, changed)
        if changed - self.in_place:
            return False
        self.metrics.use(self.plan(settings))
        self.settings = settings
        return True

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer ``("remove", metric)`` or ``("remove", metric, labels)``: forget a metric, or one series."""
        return self.metrics.remove(request)

    def stats(self) -> dict[str, Any]:
        """Return how many metrics and series there are, and what was left out."""
        return {
            "unused": self.metrics.recorder.unused,
            **self.metrics.recorder.stats(),
            "scrubbed": scrubbed_in(self.context.memory),
        }


PushedSettingsT = TypeVar("PushedSettingsT", bound=PushedMetricsSettings)


class PushedMetricsExporter(MetricsExporter[PushedSettingsT]):
    """Reads the series at every ``interval``, at a flush and at the end; its items are data points.

    Write :meth:`export`: it gets :class:`~otpylib_telemetry.aggregation.points.MetricPoint` objects. As long
    as points wait that were made earlier, the series are not read again: what was measured is part of the
    next.

    Attributes:
        preference: What the numbers of points count from: the beginning of a series (``CUMULATIVE``, the
            default), or the reading before (``DELTA``).
    """

    settings_type: ClassVar[type[PushedMetricsSettings]] = PushedMetricsSettings
    in_place: ClassVar[frozenset[str]] = frozenset(PushedMetricsSettings.model_fields)
    preference: ClassVar[Preference] = Preference.CUMULATIVE

    def __init__(self, settings: PushedSettingsT, context: ExportContext) -> None:
        super().__init__(settings, context)
        self._reader = SeriesReader(context.memory, self.metrics.store)

    def series_may_go(self) -> None:
        """Have the next reading say the rest of series that go now."""
        self._reader.remember()

    def plan(self, settings: PushedSettingsT) -> MetricsPlan:
        """Return how events become series. They go when they were read, and not before."""
        return super().plan(settings)._replace(series_ttl=None)

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether the interval is over."""
        return self._reader.due(now_ns, self.settings.interval)

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Read the series, once what is observed for them is up to date."""
        self._reader.begin(time.monotonic_ns())
        if held and not last_chance:
            return
        await refresh(self.context.name, seconds * _OBSERVING_SHARE)

        def enter(read: Callable[[], list[MetricPoint]]) -> bool:
            return book(lambda: Collected(produced_items=[(point, 1) for point in read()]))

        await self._reader.read(self.preference, enter, self.settings.series_ttl)
