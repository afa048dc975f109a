"""The signal "traces" of one exporter: events into spans, what sampling keeps of them, and what sends them.

Open spans, and finished ones whose traces are not decided about yet, live in the memory that the server
lends, so they outlast a crash and a change of endpoint.

Where no spans are sent but log records are, events are put together all the same: a record made during an
operation bears its ids, and the end of an operation is no record. What comes of it is not sampled, and is
done with as soon as it has ended. Where there are no log records either, nothing is put together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter.collected import Collected, ExportOutcome
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.exporter.state import HELD_SHARE
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.scrubbing.settings import SCRUB_KEYS
from otpylib_telemetry.tracing.operation import time_of
from otpylib_telemetry.tracing.parts import keep_at_least
from otpylib_telemetry.tracing.propagation import IdSource, use_ids_of, use_own_ids
from otpylib_telemetry_otel.destinations import build
from otpylib_telemetry_otel.sampling.explaining import NOT_SENT, Fate, explain
from otpylib_telemetry_otel.sampling.head import SAMPLING_WEIGHT
from otpylib_telemetry_otel.sampling.installed import InstalledSampler, load
from otpylib_telemetry_otel.sampling.policy import Policy, Sampler
from otpylib_telemetry_otel.sampling.rules import rules_from
from otpylib_telemetry_otel.sampling.tail import Decided, Tail
from otpylib_telemetry_otel.sdk.plugins import load_id_generator
from otpylib_telemetry_otel.settings.given import Given
from otpylib_telemetry_otel.settings.limits import SPAN_LIMITS
from otpylib_telemetry_otel.signals.base import Batch, Signal
from otpylib_telemetry_otel.signals.scrubbing import scrub_span
from otpylib_telemetry_otel.traces import api_spans
from otpylib_telemetry_otel.traces.assembly import Assembler
from otpylib_telemetry_otel.traces.limits import UNLIMITED, SpanLimits
from otpylib_telemetry_otel.traces.spans import MAX_EVENTS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry_otel.settings.model import OtelSettings
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_NS_PER_SECOND: Final = 1_000_000_000
_NS_PER_MILLISECOND: Final = 1_000_000

# Keys into the memory that survives the exporter.
_ASSEMBLER: Final = "assembler"
_TAIL: Final = "tail"

# Keys into the counts that survive the exporter.
_FINISHED: Final = "finished"
_EXPORTED: Final = "exported"
_INCOMPLETE: Final = "incomplete."


class Traces(Signal):
    """Makes spans of events, samples them and sends them."""

    name = "traces"
    lane = "spans"
    in_place = frozenset(
        {
            *("sampling_rate", "always_keep_errors", "always_keep_slower_than_ms", "sampling_parent_based"),
            *("sampling_rules", "max_spans_per_second", "sampling_wait", "max_held_spans"),
            *("max_active_spans", "span_ttl", "trace_id_from_correlation"),
            *SPAN_LIMITS,
            *SCRUB_KEYS,
        }
    )

    def __init__(self, exporter: Exporter[OtelSettings], counts: Counter[str]) -> None:
        super().__init__(exporter, counts)
        settings, memory = exporter.settings, exporter.context.memory
        # Under settings that send nothing at all, spans are what is made.
        self._wanted = self._wanted or not (settings.sends("logs") or settings.sends("metrics"))
        self._policy = policy_from(settings, None)
        self._sampler: Sampler | None = None
        self._id_source: IdSource | None = None
        self._assembler: Assembler = memory.setdefault(
            _ASSEMBLER, Assembler(settings.max_active_spans, _ttl_ns(settings))
        )
        self._tail: Tail = memory.setdefault(_TAIL, Tail(self._policy))
        self._limits = _limits(settings)
        self._take_limits(settings)

    async def open(self, resource: Mapping[str, Any]) -> None:
        """Build what sends spans, and load what is named."""
        settings = self._settings
        if settings.sampler is not None:
            self._sampler = await _sampler_of(settings.sampler, settings.sampler_argument)
            self._policy = policy_from(settings, self._sampler)
        if settings.id_generator is not None:
            generator = await run_in_thread(load_id_generator, settings.id_generator)
            self._id_source = use_ids_of(generator)
        if self._wanted:
            self._destination = await run_in_thread(build, settings, self.name, resource)

    def collect(self, batch: Batch) -> None:
        """Make spans of the events that begin, end or happen during operations."""
        collected, tail = batch.collected, self._sampling()
        now_ns = time_of(batch.events[-1]) if batch.events else 0
        batch.events, finished, unreadable = api_spans.sort(batch.events)
        if not self._wanted and not batch.apart:
            self._forget(finished, collected)
            self._forget_held(collected)
            batch.others, batch.unused = [(event, None) for event in batch.events], len(batch.events)
            collected.rejected += unreadable
            return
        assembler = self._assembler
        assembler.apart, assembler.span_events = batch.apart, batch.span_events
        assembled = assembler.collect(batch.events, batch.wall_offset_ns)
        batch.others, batch.unused = assembled.others, assembled.unused
        collected.rejected += assembled.rejected + unreadable
        collected.exported += assembled.surplus
        spans = assembled.spans
        if finished:
            spans = sorted([*spans, *finished], key=lambda span: span.end_ns)
        if not self._wanted:
            self._forget(spans, collected)
            return
        if tail.passing:
            # By far the most common case, and the cheapest: whatever is finished is sent.
            self._send_all(spans, collected)
        else:
            self._keep(tail.take(self._counted(spans), now_ns, self._open_traces), collected)

    @property
    def held(self) -> int:
        """How many events the spans are made of that are open, or wait for the end of their traces."""
        return self._assembler.held + self._tail.held

    def tick(self, now_ns: int, alive: Callable[[object], bool], collected: Collected) -> None:
        """End spans whose time is up or whose emitter is gone, and decide about traces that are over."""
        tail = self._sampling()
        # The length of the queue is the server's business, and may have changed without a word to us.
        self._take_limits(self._settings)
        ended = self._assembler.tick(now_ns, alive)
        if not self._wanted:
            self._forget(ended, collected)
            return
        self._keep(tail.take(self._counted(ended), now_ns, self._open_traces), collected)
        self._keep(tail.sweep(now_ns, self._open_traces), collected)

    def give_up_held(self, collected: Collected) -> None:
        """End every span that is open, as incomplete, and decide about all traces."""
        if not self._wanted:
            self._forget_held(collected)
            return
        tail = self._sampling()
        self._keep(tail.take(self._counted(self._assembler.end_open()), 0, self._open_traces), collected)
        self._keep(tail.decide_all(), collected)

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Send spans; a backend that does not take them is in trouble."""
        if not self._wanted:
            return ExportOutcome(len(batch), "traces are switched off")
        if self._destination is None:
            raise ExportError("the exporter is not open")
        outcome = await self._send(self._destination, batch)
        self._counts[_EXPORTED] += len(batch) - (0 if outcome is None else outcome.rejected)
        return outcome

    async def apply(self, settings: OtelSettings, changed: frozenset[str]) -> None:
        """Take sampling and limits into use at once: what has begun by now began under the old ones."""
        await super().apply(settings, changed)
        self._policy = policy_from(settings, self._sampler)
        self._limits = _limits(settings)
        self._take_limits(settings)
        self._sampling()

    async def close(self) -> None:
        """Release the connection, and make ids of our own again."""
        source, self._id_source = self._id_source, None
        if source is not None:
            use_own_ids(source)
        await super().close()

    def stats(self) -> Mapping[str, Any]:
        """Return how many spans are open, finished and incomplete, and what sampling holds if anything."""
        sampling = self._tail.stats()
        return {
            "open_spans": len(self._assembler),
            "finished_spans": self._counts[_FINISHED],
            "spans_created": self._counts[_FINISHED] + len(self._assembler),
            "spans_exported": self._counts[_EXPORTED],
            "incomplete_spans": {
                reason.removeprefix(_INCOMPLETE): count
                for reason, count in self._counts.items()
                if reason.startswith(_INCOMPLETE)
            },
            **({"sampling": sampling} if sampling else {}),
        }

    def explain(self, trace_id: int) -> Fate:
        """Return what is known of what becomes of a trace."""
        if not self._wanted:
            return NOT_SENT
        return explain(self._sampling(), trace_id, is_open=trace_id in self._open_traces())

    def _sampling(self) -> Tail:
        """Have sampling go by the settings of this exporter: whoever collects is the one in force."""
        tail = self._tail
        if tail.policy is not self._policy:
            tail.use(self._policy, self._open_traces)
        return tail

    def _open_traces(self) -> Mapping[int, int]:
        return api_spans.with_open_traces(self._assembler.open_traces())

    def _counted(self, spans: Sequence[FinishedSpan]) -> Sequence[FinishedSpan]:
        self._counts[_FINISHED] += len(spans)
        for span in spans:
            if span.incomplete is not None:
                self._counts[_INCOMPLETE + span.incomplete] += 1
        return spans

    def _send_all(self, spans: Sequence[FinishedSpan], collected: Collected) -> None:
        """Count spans that are sent whatever they are, and make them exportable; in one loop, for speed."""
        self._counts[_FINISHED] += len(spans)
        add, limits, scrubber = collected.items.append, self._limits, self._scrubber
        for span in spans:
            if span.incomplete is not None:
                self._counts[_INCOMPLETE + span.incomplete] += 1
            if not span.seal(limits, scrubber) and scrubber is not None:
                scrub_span(span, scrubber, limits)
            add((span, span.weight))

    def _keep(self, decided: Decided, collected: Collected) -> None:
        """Make exportable what sampling kept."""
        collected.sampled_out += decided.sampled_out
        for span, stands_for in decided.kept:
            if not span.seal(self._limits, self._scrubber) and self._scrubber is not None:
                scrub_span(span, self._scrubber, self._limits)
            if stands_for is not None and stands_for != 1:
                span.attributes = {**span.attributes, SAMPLING_WEIGHT: stands_for}
            collected.items.append((span, span.weight))

    def _forget(self, spans: Sequence[FinishedSpan], collected: Collected) -> None:
        """Be done with spans that nobody wants."""
        collected.exported += sum(span.weight for span in self._counted(spans))

    def _forget_held(self, collected: Collected) -> None:
        """Be done with everything that is held."""
        if self.held:
            self._forget(self._assembler.end_open(), collected)
            decided = self._tail.decide_all()
            collected.exported += decided.sampled_out + sum(span.weight for span, _ in decided.kept)

    def _take_limits(self, settings: OtelSettings) -> None:
        assembler, tail = self._assembler, self._tail
        assembler.limit = settings.max_active_spans
        events = settings.span_event_count_limit or 0
        assembler.max_events = max(MAX_EVENTS, events)
        keep_at_least(
            attributes=self._limits.span.most or 0, events=events, links=settings.span_link_count_limit or 0
        )
        assembler.trace_id_from_correlation = settings.trace_id_from_correlation
        assembler.ttl_ns = tail.max_age_ns = _ttl_ns(settings)
        tail.max_spans = settings.max_held_spans
        tail.max_events = assembler.max_held = int(settings.queue_limit * HELD_SHARE)


async def _sampler_of(named: str | Given, argument: str | None) -> Sampler:
    if isinstance(named, Given):
        return InstalledSampler(named.objects[0], repr(named))
    return await run_in_thread(load, named, argument)


def policy_from(settings: OtelSettings, sampler: Sampler | None) -> Policy:
    """Return what the settings ask for; ``sampler`` is the one they name, if it is there already."""
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


def _limits(settings: OtelSettings) -> SpanLimits:
    said = settings.span_limits()
    # Nothing is to be looked for where nothing is limited.
    return UNLIMITED if said == UNLIMITED else said


def _ttl_ns(settings: OtelSettings) -> int:
    return int(settings.span_ttl * _NS_PER_SECOND)
