"""The OpenTelemetry exporter as the server runs it: assembling, sampling and sending put together."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.aggregation.points import MetricPoint
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.base import Collected, ExportContext, Exporter, ExportError, ExportOutcome
from otpylib_telemetry.primitives.threads import run_in_thread, run_in_thread_to_end
from otpylib_telemetry.tracing.propagation import IdSource, use_ids_of, use_own_ids
from otpylib_telemetry_otel.destinations import Destination, build, resource_of
from otpylib_telemetry_otel.log_records import LogItem
from otpylib_telemetry_otel.sampling.head import SAMPLING_WEIGHT
from otpylib_telemetry_otel.sampling.installed import load
from otpylib_telemetry_otel.sampling.policy import Policy, Sampler
from otpylib_telemetry_otel.sampling.rules import rules_from
from otpylib_telemetry_otel.sampling.tail import Decided, Tail
from otpylib_telemetry_otel.sdk.plugins import load_id_generator
from otpylib_telemetry_otel.sdk.suppression import unobserved
from otpylib_telemetry_otel.settings.endpoint import SIGNALS
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals.logs import IN_PLACE, Logs
from otpylib_telemetry_otel.signals.metrics import IN_PLACE as METRICS_IN_PLACE
from otpylib_telemetry_otel.signals.metrics import MAKING as METRICS_MAKING
from otpylib_telemetry_otel.signals.metrics import Metrics
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.assembly import Assembler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_NS_PER_SECOND: Final = 1_000_000_000


#: What the server looks after, and what is taken over here without a new connection.
_IN_PLACE: Final = (
    frozenset(ExporterSettings.model_fields)
    | IN_PLACE
    | METRICS_IN_PLACE
    | {
        "sampling_rate",
        "always_keep_errors",
        "always_keep_slower_than_ms",
        "sampling_parent_based",
        "sampling_rules",
        "max_spans_per_second",
        "sampling_wait",
        "max_held_spans",
        "max_active_spans",
        "span_ttl",
        "trace_id_from_correlation",
    }
)


#: The part of the queue that spans waiting for the end of their traces may take up: what comes in shares it.
_HELD_SHARE: Final = 0.5


#: The transport has its own timeout and keeps it, as a rule; over HTTP it starts again with each part of the
#: answer. Seconds granted beyond it before an attempt is given up from outside.
_GRACE: Final = 1.0


#: Seconds that giving up an attempt waits for the answer that may be on its way: it fits into the time that
#: the chassis grants what it abandons.
_LINGER: Final = 0.2


# Keys into the memory that survives the exporter.
_ASSEMBLER: Final = "assembler"

_TAIL: Final = "tail"

_COUNTS: Final = "span_counts"


class OtelBackend(Exporter[OtelSettings]):
    """Makes spans, log records and metrics of events and exports them through exporters of OpenTelemetry.

    Open spans, and finished ones whose traces are not decided about yet, live in the memory that the server
    lends, so they outlast a crash and a change of endpoint.

    Args:
        settings: The configuration in force.
        context: What the server lends.
    """

    settings_type: ClassVar[type[ExporterSettings]] = OtelSettings

    def __init__(self, settings: OtelSettings, context: ExportContext) -> None:
        super().__init__(settings, context)
        self._assembler: Assembler = context.memory.setdefault(
            _ASSEMBLER, Assembler(settings.max_active_spans, _ttl_ns(settings))
        )
        self._counts: Counter[str] = context.memory.setdefault(_COUNTS, Counter())
        self._tail: Tail = context.memory.setdefault(_TAIL, Tail(policy_from(settings, None)))
        self._sampler: Sampler | None = None
        self._policy = policy_from(settings, None)
        self._destination: Destination | None = None
        self._id_source: IdSource | None = None
        #: Whether other signals alone are sent.
        others = settings.sends("logs") or settings.sends("metrics")
        self._without_spans = others and not settings.sends("traces")
        self._logs = Logs(context.name, settings, self._counts)
        self._metrics = Metrics(context, settings, self._counts)
        self._take_limits(settings)

    def idle_reason(self) -> str | None:
        """Return why nothing is exported under the present settings, or None."""
        settings = self.settings
        if not settings.traces and not settings.logs and not settings.metrics:
            return "traces = false, logs = false and metrics = false: there is no signal to export"
        if not any(settings.sends(signal) for signal in SIGNALS):
            return "no endpoint is set: nothing leaves this machine"
        return None

    async def open(self) -> None:
        """Build the exporter, load what is named; nothing is connected before the first batch.

        Raises:
            BackendUnavailableError: A package or a file is missing, or the exporter or the sampler cannot be
                built.
        """
        await self.close()
        settings = self.settings
        if settings.sampler is not None:
            self._sampler = await run_in_thread(load, settings.sampler, settings.sampler_argument)
            self._policy = policy_from(settings, self._sampler)
        if settings.id_generator is not None:
            generator = await run_in_thread(load_id_generator, settings.id_generator)
            self._id_source = use_ids_of(generator)
        resource = await run_in_thread(resource_of, settings)
        if not self._without_spans:
            self._destination = await run_in_thread(build, settings, "traces", resource)
        await self._logs.open(resource)
        await self._metrics.open(resource)

    def collect(self, events: Sequence[RawEvent], wall_offset_ns: int) -> Collected:
        """Make spans, log records and metrics; see :meth:`otpylib_telemetry.exporter.Exporter.collect`."""
        tail = self._in_force()
        self._assembler.apart = self._logs.apart()
        now_ns = events[-1][3] if events else 0
        events, finished, unreadable = api_spans.sort(events)
        assembled = self._assembler.collect(events, wall_offset_ns)
        if finished:
            assembled.spans = sorted([*assembled.spans, *finished], key=lambda span: span.end_ns)
        assembled.rejected += unreadable
        if tail.passing:
            # By far the most common case, and the cheapest: whatever is finished is sent.
            collected = self._sealed(assembled.spans)
        else:
            collected = self._collected(tail.take(self._counted(assembled.spans), now_ns, self._open_traces))
        if self._without_spans:
            _forget_spans(collected)
        unused, others = assembled.unused, assembled.others
        left: Sequence[RawEvent] = ()
        if others:
            left = self._logs.collect(others, wall_offset_ns, collected)
            unused -= len(others) - len(left)
        measured, refused = self._metrics.record(events, left)
        self._counts["unused"] += unused - measured - refused
        collected.exported += unused - refused
        collected.rejected += refused
        collected.rejected += assembled.rejected
        return collected

    @property
    def held(self) -> int:
        """How many events the spans are made of that are open, or wait for the end of their traces."""
        return self._assembler.held + self._tail.held

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """End spans whose time is up or whose emitter is gone, and decide about traces that are over."""
        del wall_offset_ns  # a span's times follow from its start
        tail = self._in_force()
        # The length of the queue is the server's business, and may have changed without a word to us.
        self._take_limits(self.settings)
        ended = self._counted(self._assembler.tick(now_ns, alive))
        self._metrics.tick(now_ns, alive)
        return self._collected(
            tail.take(ended, now_ns, self._open_traces), tail.sweep(now_ns, self._open_traces)
        )

    def lane(self, item: FinishedSpan | LogItem | MetricPoint) -> str:
        """Return the signal an item belongs to: each has requests of its own."""
        kind = type(item)
        if kind is LogItem:
            return "logs"
        return "metrics" if kind is MetricPoint else "spans"

    def urgent(self, item: FinishedSpan | LogItem | MetricPoint) -> bool:
        """Tell whether an item is an operation that failed: these go first when time may run out."""
        return not isinstance(item, (LogItem, MetricPoint)) and item.error

    def produce_due(self, now_ns: int) -> bool:
        """Tell whether it is time to read the series."""
        return self._metrics.due(now_ns)

    async def produce(
        self, book: Callable[[Callable[[], Collected]], bool], held: int, seconds: float, *, last_chance: bool
    ) -> None:
        """Make data points of what was measured; see ``Exporter.produce``."""
        await self._metrics.produce(book, held, seconds, last_chance=last_chance)

    def give_up_held(self, wall_offset_ns: int) -> Collected:
        """End every span that is open, as incomplete, and decide about all traces."""
        del wall_offset_ns  # a span's times follow from its start
        tail = self._in_force()
        ended = self._counted(self._assembler.end_open())
        self._metrics.give_up_held()
        return self._collected(tail.take(ended, 0, self._open_traces), tail.decide_all())

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Send spans, log records or data points.

        Args:
            batch: Items of one lane, out of :meth:`collect`, :meth:`tick` or :meth:`give_up_held`.

        Returns:
            None if all were taken, or what was refused.

        Raises:
            ExportError: They did not arrive, or will not be taken.
        """
        if batch and type(batch[0]) is LogItem:
            return await self._logs.export(batch, self._send)
        if batch and type(batch[0]) is MetricPoint:
            return await self._metrics.export(batch, self._send)
        if self._without_spans:
            return ExportOutcome(len(batch), "traces are switched off")
        if self._destination is None:
            raise ExportError("the exporter is not open")
        return await self._send(self._destination, batch)

    async def _send(self, destination: Destination, batch: Sequence[Any]) -> ExportOutcome | None:
        # The transport keeps the time-out of its signal; this is the limit on all of them.
        settings = self.settings
        seconds = max(settings.connection(signal).timeout for signal in SIGNALS)
        try:
            return await run_in_thread_to_end(
                unobserved, destination.send, batch, timeout=seconds + _GRACE, linger=_LINGER
            )
        except TimeoutError as error:
            raise ExportError(f"no answer within {seconds:g} s") from error

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> bool:
        """Take sampling, filters and limits into use at once; everything else needs a new exporter.

        Args:
            settings: The settings to come.
            changed: The keys that differ.
        """
        if not changed <= _IN_PLACE:
            return False
        if changed & METRICS_MAKING:
            # What was emitted before the change is measured as was the rule then.
            await self.context.catch_up()
        self._metrics.apply_options(settings, changed)
        self.settings = settings
        self._policy = policy_from(settings, self._sampler)
        self._logs.apply_options(settings, changed)
        self._take_limits(settings)
        # At once: what has begun by now began under the old one.
        self._in_force()
        return True

    async def close(self) -> None:
        """Release the connections."""
        destination, self._destination = self._destination, None
        source, self._id_source = self._id_source, None
        if source is not None:
            use_own_ids(source)
        try:
            if destination is not None:
                await run_in_thread(destination.close)
        finally:
            try:
                await self._logs.close()
            finally:
                await self._metrics.close()

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer ``("remove", metric)`` and ``("remove", metric, labels)``: forget a metric, or one series.

        What was measured for it and not told yet leaves with the next reading, as its last point.

        Args:
            request: The message. ``labels`` is a mapping of every label the series has.

        Returns:
            Whether there was such a thing.

        Raises:
            LookupError: It is another message.
        """
        return self._metrics.forget(request)

    def stats(self) -> Mapping[str, Any]:
        """Return how many spans are open, finished and incomplete, and how many events belong to none.

        What sampling holds, or did out of the ordinary, is there under ``sampling`` if there is anything, log
        records under ``logs``, and metrics under ``metrics``.
        """
        counts = self._counts
        told = self._tail.stats()
        logs, metrics = self._logs.stats(), self._metrics.stats()
        return {
            "open_spans": len(self._assembler),
            "finished_spans": counts["finished"],
            "incomplete_spans": {
                reason.removeprefix("incomplete."): count
                for reason, count in counts.items()
                if reason.startswith("incomplete.")
            },
            "unused": counts["unused"],
            **({"sampling": told} if told else {}),
            **({"logs": logs} if logs else {}),
            **({"metrics": metrics} if metrics else {}),
        }

    def _in_force(self) -> Tail:
        """Have sampling go by the settings of this exporter: whoever collects is the one in force."""
        tail = self._tail
        if tail.policy is not self._policy:
            tail.use(self._policy, self._open_traces)
        return tail

    def _open_traces(self) -> Mapping[int, int]:
        return api_spans.with_open_traces(self._assembler.open_traces())

    def _counted(self, spans: Sequence[FinishedSpan]) -> Sequence[FinishedSpan]:
        for span in spans:
            self._count(span)
        return spans

    def _count(self, span: FinishedSpan) -> None:
        self._counts["finished"] += 1
        if span.incomplete is not None:
            self._counts[f"incomplete.{span.incomplete}"] += 1

    def _sealed(self, spans: Sequence[FinishedSpan]) -> Collected:
        """Count spans that are sent whatever they are, and make them exportable."""
        self._counts["finished"] += len(spans)
        collected = Collected()
        add = collected.items.append
        for span in spans:
            if span.incomplete is not None:
                self._counts[f"incomplete.{span.incomplete}"] += 1
            span.seal()
            add((span, span.weight))
        return collected

    def _collected(self, *sifted: Decided) -> Collected:
        """Make what sampling kept exportable."""
        collected = Collected()
        for part in sifted:
            collected.sampled_out += part.sampled_out
            for span, stands_for in part.kept:
                span.seal()
                if stands_for is not None and stands_for != 1:
                    span.attributes = {**span.attributes, SAMPLING_WEIGHT: stands_for}
                collected.items.append((span, span.weight))
        if self._without_spans:
            _forget_spans(collected)
        return collected

    def _take_limits(self, settings: OtelSettings) -> None:
        self._assembler.limit = settings.max_active_spans
        self._assembler.trace_id_from_correlation = settings.trace_id_from_correlation
        self._assembler.ttl_ns = self._tail.max_age_ns = _ttl_ns(settings)
        self._tail.max_spans = settings.max_held_spans
        self._tail.max_events = int(settings.queue_limit * _HELD_SHARE)


def _forget_spans(collected: Collected) -> None:
    """Be done with spans that nobody wants."""
    collected.exported += sum(weight for _, weight in collected.items)
    collected.items.clear()


def _ttl_ns(settings: OtelSettings) -> int:
    return int(settings.span_ttl * _NS_PER_SECOND)


_NS_PER_MILLISECOND: Final = 1_000_000


def policy_from(settings: OtelSettings, sampler: Sampler | None) -> Policy:
    """Return what the settings ask for.

    Args:
        settings: The settings.
        sampler: The one they name, if it is there already.
    """
    slow = settings.always_keep_slower_than_ms
    return Policy(
        rate=settings.sampling_rate,
        keep_errors=settings.always_keep_errors,
        keep_slower_than_ns=None if slow is None else int(slow * _NS_PER_MILLISECOND),
        parent_based=settings.sampling_parent_based,
        rules=rules_from(settings.sampling_rules),
        sampler=sampler,
        awaits_sampler=settings.sampler is not None and sampler is None,
        spans_per_second=settings.max_spans_per_second,
        wait_ns=int(settings.sampling_wait * _NS_PER_SECOND),
    )
