"""Events into finished spans: which begin and end what, how spans nest, and what they carry.

Pure: no clock, no I/O and no OpenTelemetry. Times of events are monotonic; a trace is put on the wall clock
once, when its first span here begins, and everything after that is a monotonic difference from it. A wall
clock that is set meanwhile changes no duration, and no order within a trace.

Here is the straight way of an event. The files beside have the rest: ``parents.py`` how a span begins,
``happenings.py`` what is put on it, ``out_of_order.py`` events that come twice or too early, and
``incomplete.py`` spans whose end does not come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otpylib_telemetry.tracing.identifiers import identifier
from otpylib_telemetry.tracing.operation import Operation
from otpylib_telemetry.tracing.phases import MAX_DURATION_MS, Phase, classified, classify
from otpylib_telemetry_otel.traces.assembled import Assembled
from otpylib_telemetry_otel.traces.endings import duration_ns
from otpylib_telemetry_otel.traces.happenings import happened
from otpylib_telemetry_otel.traces.incomplete import evict, give_up_all, give_up_hopeless
from otpylib_telemetry_otel.traces.open_spans import OpenSpans
from otpylib_telemetry_otel.traces.out_of_order import end_early, end_unheard, end_unopened, is_repeated
from otpylib_telemetry_otel.traces.parents import begin
from otpylib_telemetry_otel.traces.recorded import finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


_NS_PER_MS: Final = 1e6

# The entries of the log, by their lengths: an operation that has ended, and an event emitted during one.
_ENDED: Final = 1
_WITHIN: Final = 6

# Up to Python 3.11, looking a member up in its enumeration costs as much as a tenth of opening a span.
_START: Final = Phase.START
_NONE: Final = Phase.NONE
_ERROR: Final = Phase.ERROR


class Assembler(OpenSpans):
    """Keeps the open spans and finishes them."""

    def collect(  # noqa: C901, PLR0912, PLR0915 - the loop that everything goes through: a call costs a hundredth
        self, events: Iterable[Entry], wall_offset_ns: int
    ) -> Assembled:
        """Take entries of the log, in the order in which they came; return what became of them."""
        result = Assembled()
        spans = result.spans
        self.refresh_ids()
        self.wall_offset_ns = wall_offset_ns
        recorded, begun_early, numbers = self.recorded.open, self.recorded.begun, self.paired.numbers
        limit, latest_ns = self.limit, 0
        for event in events:
            held = self.held
            try:
                if type(event) is Operation:
                    if event.carried is not None:
                        self.recorded.settle(event, wall_offset_ns)
                    elif event.trace.wall_offset_ns is None:
                        event.trace.wall_offset_ns = wall_offset_ns
                    recorded[event.span_id] = event
                    self.held = held + 1
                    if event.at_ns > latest_ns:  # noqa: PLR1730 - max() costs nine times as much
                        latest_ns = event.at_ns
                    while len(recorded) + len(numbers) > limit:
                        spans.append(evict(self, event.at_ns))
                    continue
                parts = len(event)
                if parts == _ENDED:
                    operation: Operation = event[0]
                    if recorded.pop(operation.span_id, None) is None:
                        end_unheard(self, operation, result)
                        continue
                    span = begun_early.pop(operation.span_id, None) if begun_early else None
                    if span is None:
                        self.held = held - 1
                    else:
                        self.let_go(span)
                    spans.append(finished(operation, span, wall_offset_ns))
                    continue
                within = None
                if parts == _WITHIN and not (within := event[5]).is_parent:
                    # There is no span of it: what happened in it happened in the one around it.
                    within = within.beyond
                try:
                    name, phase = classified[event[0]]
                except KeyError:
                    name, phase = classify(event[0])
                if phase is _START:
                    self._start(name, event, within, result)
                    while len(recorded) + len(numbers) > limit:
                        spans.append(evict(self, event[3]))
                elif phase is not _NONE:
                    self._stop(name, phase, event, within, result)
                else:
                    happened(self, event, result, within)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - it costs that event only, and those of a span that is lost
                result.rejected += 1 + held - self.held
        self.latest_ns = max(self.latest_ns, latest_ns)
        return result

    def _start(self, operation: str, event: Entry, within: Place | None, result: Assembled) -> None:
        """Begin the span of an event that begins an operation."""
        metadata, at_ns = event[2], event[3]
        is_taken = False
        if "span_id" in metadata and (given := metadata["span_id"]) is not None:
            if type(given) is not str:
                given = identifier(given)
            if given in self.paired.span_ids or given in self.ended.young or given in self.ended.old:
                if is_repeated(self, operation, event, result):
                    return
                is_taken = True
        span = begin(self, operation, metadata, at_ns, is_taken, within)
        if event[1]:
            span.attributes = {**metadata, **event[1]}
        early = self.early
        if early.latest_ns >= at_ns or early.has_span_ids:
            ending = early.take(operation, metadata, at_ns)
            if ending is not None:
                end_early(self, span, event, ending, result)
                return
        self.paired.open(operation, metadata, event[4], at_ns, span)
        self.held += 1
        if at_ns > self.latest_ns:  # noqa: PLR1730 - as above
            self.latest_ns = at_ns

    def _stop(
        self, operation: str, phase: Phase, event: Entry, within: Place | None, result: Assembled
    ) -> None:
        """End the span of an event that ends an operation: as ``endings.end()``, in one piece for speed."""
        measurements, metadata = event[1], event[2]
        ended = self.paired.close(operation, metadata, event[4])
        if ended is None:
            end_unopened(self, operation, event, result, within)
            return
        span = ended.value
        self.held -= span.weight
        if self.copies:
            self.copies -= span.copies
        span.weight += 1
        measured = measurements.get("duration_ms")
        took_ns = (
            int(measured * _NS_PER_MS)
            if type(measured) is float and 0.0 <= measured <= MAX_DURATION_MS
            else duration_ns(measurements)
        )
        if took_ns is None:
            took_ns = event[3] - ended.at_ns
        if "links" in metadata:
            span.early_links = span.attributes.get("links")
        span.attributes = {**span.attributes, **metadata, **measurements}
        span.end_ns = span.start_ns + took_ns if took_ns > 0 else span.start_ns
        if phase is _ERROR:
            span.error = True
            span.failure = (event[0], metadata)
        if ended.span_id is not None:
            self.remember(ended)
        result.spans.append(span)

    def tick(self, now_ns: int, alive: Callable[[object], bool]) -> list[FinishedSpan]:
        """End the spans whose time is up and those whose emitter is gone."""
        self.latest_ns = max(self.latest_ns, now_ns)
        return give_up_hopeless(self, now_ns, alive)

    def end_open(self) -> list[FinishedSpan]:
        """End every span that is still open: nothing more will come."""
        return give_up_all(self)
