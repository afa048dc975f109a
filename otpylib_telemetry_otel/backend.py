"""The OpenTelemetry exporter as the server runs it: three signals behind one exporter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.base import ExportContext, Exporter
from otpylib_telemetry.exporter.collected import Collected, ExportOutcome
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.scrubbing.scrubber import scrubbed_in, scrubber_in
from otpylib_telemetry.scrubbing.settings import SCRUB_KEYS
from otpylib_telemetry_otel.destinations import resource_of
from otpylib_telemetry_otel.errors import SignalRefusedError
from otpylib_telemetry_otel.probes import probes
from otpylib_telemetry_otel.resources import publish
from otpylib_telemetry_otel.settings.effects import told_effects
from otpylib_telemetry_otel.settings.endpoint import SIGNALS
from otpylib_telemetry_otel.settings.environment import OTLP_OPTIONS
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.settings.places import places
from otpylib_telemetry_otel.signals.base import Batch, Signal
from otpylib_telemetry_otel.signals.logs import Logs
from otpylib_telemetry_otel.signals.metrics import Metrics
from otpylib_telemetry_otel.signals.proof import prove, takes_another
from otpylib_telemetry_otel.signals.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.exporter.probe import Probe

#: What the server looks after, and what is taken over here without a new connection.
_IN_PLACE: Final = frozenset(ExporterSettings.model_fields).union(
    Traces.in_place, Logs.in_place, Metrics.in_place
)

# Where it goes and what proves who we are: nobody else is to be shown a key or trusted with the data.
_CONNECTION: Final = frozenset(
    f"{signal}{key}"
    for signal in ("", "logs_", "metrics_")
    for key in (*OTLP_OPTIONS, "endpoint", "exporter", "api_key", "site")
    if key not in {"timeout", "compression"}
)

# Keys into the memory that survives the exporter, and into the counts in it.
_COUNTS: Final = "span_counts"
_UNUSED: Final = "unused"


class OtelBackend(Exporter[OtelSettings]):
    """Makes spans, log records and metrics of events and exports them through exporters of OpenTelemetry."""

    settings_type: ClassVar[type[ExporterSettings]] = OtelSettings
    inseparable: ClassVar[tuple[frozenset[str], ...]] = (_CONNECTION,)
    takes_operations: ClassVar[bool] = True

    def __init__(self, settings: OtelSettings, context: ExportContext) -> None:
        super().__init__(settings, context)
        self._resource: Mapping[str, Any] = {}
        # What detectors add is known later.
        publish(context.name, settings.resource_attributes())
        self._counts: Counter[str] = context.memory.setdefault(_COUNTS, Counter())
        self.traces = Traces(self, self._counts)
        self.logs = Logs(self, self._counts)
        self.metrics = Metrics(self, self._counts)
        #: In this order each makes what it can of the events that the ones before it have left.
        self.signals: tuple[Signal, ...] = (self.traces, self.logs, self.metrics)
        self._by_lane = {signal.lane: signal for signal in self.signals}

    @classmethod
    def tells_of_traces(cls, settings: OtelSettings | None) -> bool:
        """Tell whether spans are sent."""
        return settings is None or (settings.traces and settings.sends("traces"))

    in_place = _IN_PLACE

    @classmethod
    def effects(cls, before: OtelSettings, after: OtelSettings, changed: frozenset[str]) -> Sequence[str]:
        """Return in words what a change would do to connections and spans."""
        return told_effects(before, after, changed, in_place=_IN_PLACE)

    @classmethod
    def probes(cls, settings: OtelSettings) -> Sequence[Probe]:
        """Return what can be tried of the settings: files, names of packages' parts, destinations."""
        return probes(settings)

    def idle_reason(self) -> str | None:
        """Return why nothing is exported under the present settings, or None."""
        settings = self.settings
        if not settings.traces and not settings.logs and not settings.metrics:
            return "traces = false, logs = false and metrics = false: there is no signal to export"
        if not any(settings.sends(signal) for signal in SIGNALS):
            return "no endpoint is set: nothing leaves this machine"
        return None

    @classmethod
    async def prove(cls, settings: OtelSettings, instead_of: OtelSettings | None) -> Sequence[str]:
        """Send empty requests to the destinations that differ; see ``Exporter.prove``."""
        return await prove(settings, instead_of)

    async def open(self) -> None:
        """Build the exporters, load what is named; nothing is connected before the first batch."""
        await self.close()
        self._resource = await run_in_thread(resource_of, self.settings)
        resource = self._told(self._resource, self.settings)
        publish(self.context.name, resource)
        for signal in self.signals:
            await signal.open(resource)

    def _told(self, resource: Mapping[str, Any], settings: OtelSettings) -> Mapping[str, Any]:
        """Return a resource without secrets."""
        scrubber = scrubber_in(self.context.memory, settings.scrub_plan())
        return resource if scrubber is None else scrubber.attributes(resource)

    def collect(self, events: Sequence[Entry], wall_offset_ns: int) -> Collected:
        """Make spans, log records and metrics; see ``Exporter.collect``."""
        batch = Batch(events, wall_offset_ns, self.logs.apart(), self.logs.span_events())
        for signal in self.signals:
            signal.collect(batch)
        self._counts[_UNUSED] += batch.unused
        batch.collected.exported += batch.unused
        return batch.collected

    @property
    def held(self) -> int:
        """How many collected events are neither items nor done with: those of open and undecided spans."""
        return sum(signal.held for signal in self.signals)

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """Do what is due by the clock, such as ending operations whose end will not come."""
        del wall_offset_ns  # a span's times follow from its start
        collected = Collected()
        for signal in self.signals:
            signal.tick(now_ns, alive, collected)
        return collected

    def give_up_held(self, wall_offset_ns: int) -> Collected:
        """Give up every operation that is open, and decide about all traces."""
        del wall_offset_ns  # a span's times follow from its start
        collected = Collected()
        for signal in self.signals:
            signal.give_up_held(collected)
        return collected

    def lane(self, item: Any) -> str:
        """Return the lane of the signal an item belongs to: each has requests of its own."""
        lane: str = item.lane
        return lane

    def urgent(self, item: Any) -> bool:
        """Tell whether an item is an operation that failed: these go first when time may run out."""
        return bool(item.lane == Traces.lane and item.error)

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time to read the series."""
        return any(signal.produce_due(now_ns) for signal in self.signals)

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Make data points of what was measured; see ``Exporter.produce``."""
        for signal in self.signals:
            await signal.produce(book, held, seconds, last_chance=last_chance)

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Send items of one lane."""
        signal = self._by_lane[batch[0].lane]
        try:
            return await signal.export(batch)
        except SignalRefusedError as error:
            if signal is self.traces or not await takes_another(self.settings, signal.name):
                raise
            return signal.give_up(error, len(batch))

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> bool:
        """Take sampling, filters and limits into use at once; everything else needs a new exporter."""
        if not changed <= _IN_PLACE or (changed & SCRUB_KEYS and self._tells_otherwise(settings)):
            return False
        # Metrics first: they alone may refuse, and then nothing has changed.
        for signal in reversed(self.signals):
            await signal.apply(settings, changed)
        self.settings = settings
        return True

    def _tells_otherwise(self, settings: OtelSettings) -> bool:
        """Tell whether other secrets are to be taken out of the resource, which each request has in it."""
        return self._told(self._resource, settings) != self._told(self._resource, self.settings)

    async def close(self) -> None:
        """Release the connections, of each signal whatever happens to the others."""
        failure: BaseException | None = None
        for signal in reversed(self.signals):
            try:
                await signal.close()
            except GeneratorExit:
                # Its event loop is gone, and nothing can be awaited any more.
                raise
            except BaseException as error:  # noqa: BLE001  # raised below, when the others are closed
                failure = failure or error
        if failure is not None:
            raise failure

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer ``("remove", metric)`` and ``("remove", metric, labels)``: forget a metric, or one series.

        What was measured for it and not told yet leaves with the next reading, as its last point. To
        ``("explain", trace_id)``, 32 hexadecimal digits: what is known of what becomes of a trace.
        """
        match request:
            case ("explain", str(trace_id)):
                return self.traces.explain(int(trace_id, 16))._asdict()
        return self.metrics.forget(request)

    def place(self) -> str | None:
        """Return where each signal is sent."""
        return places(self.settings)

    def stats(self) -> Mapping[str, Any]:
        """Return what each signal tells, and how many events nothing was made of.

        Spans are told of always, what sampling holds under ``sampling`` if there is anything, log records
        under ``logs`` and metrics under ``metrics`` if there ever were any.
        """
        told: dict[str, Any] = {_UNUSED: self._counts[_UNUSED]}
        for signal in self.signals:
            told |= signal.stats()
        told["scrubbed"] = scrubbed_in(self.context.memory)
        told["components"] = {each.lane: each.component for each in self.signals if each.taken}
        return told
