"""Events into finished spans: which begin and end what, how spans nest, and what they carry.

Pure: no clock, no I/O and no OpenTelemetry. Times of events are monotonic; a trace is put on the wall clock
once, when its first span here begins, and everything after that is a monotonic difference from it. A wall
clock that is set meanwhile changes no duration, and no order within a trace.

Events may come twice, or an end before its beginning; where they say by their ids that they belong together,
they still make one span. What is remembered for that is bounded (see ``ended.py``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.instrument.log_record import record_in
from otpylib_telemetry.otp import reason_of_end
from otpylib_telemetry.tracing.headers import read_tracestate
from otpylib_telemetry.tracing.operation import NOTHING_CARRIED, Operation
from otpylib_telemetry.tracing.operations import (
    MAX_DURATION_MS,
    MEASURED,
    Opened,
    OpenOperations,
    Phase,
    classified,
    classify,
    identifier,
)
from otpylib_telemetry.tracing.propagation import (
    derive_trace_id,
    id_source,
    parse_span_id,
    parse_trace_id,
    parse_traceparent,
)
from otpylib_telemetry_otel.traces.ended import MAX_ENDED, EarlyEndings, Ending, RecentKeys
from otpylib_telemetry_otel.traces.recorded import RecordedOperations, finished, settle
from otpylib_telemetry_otel.traces.spans import (
    EXIT_REASON,
    IDENTITY,
    MAX_EVENTS,
    FinishedSpan,
    SpanEvent,
    begun,
    told_flags,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry.tracing.propagation import TraceParent


_NS_PER_MS: Final = 1e6

#: Attributes beyond which a start that comes again adds none.
_MAX_MERGED: Final = 1024

#: Why a span is incomplete whose emitter is gone.
_DIED: Final = "emitter_died"

#: An operation that ended so many nanoseconds ago has lost its end, for want of room: its record knows it.
_LOST_NS: Final = 5 * 1_000_000_000

# The entries of the log, by their lengths: an event, or an operation that has ended.
_EVENT: Final = 5
_ENDED: Final = 1
_WITHIN: Final = 6

# Up to Python 3.11, looking a member up in its enumeration costs as much as a tenth of opening a span.
_START: Final = Phase.START
_NONE: Final = Phase.NONE
_ERROR: Final = Phase.ERROR


@dataclass(slots=True)
class Assembled:
    """What became of a number of events.

    Attributes:
        spans: Those that are finished now.
        unused: How many events belong to no span.
        rejected: How many events could not be used.
        surplus: How many events found no place on the open span they belong to, or only repeat its start.
        repeated: How many of the unused say again, or too late, what is known of a span by its id.
        others: The unused that are not repeated, each with the span to which it belongs all the same.
    """

    spans: list[FinishedSpan] = field(default_factory=list)
    unused: int = 0
    rejected: int = 0
    surplus: int = 0
    repeated: int = 0
    others: list[tuple[Entry, FinishedSpan | Place | None]] = field(default_factory=list)


class Assembler:
    """Keeps the open spans and finishes them.

    Attributes:
        trace_id_from_correlation: As above; a new value counts from the next start.
        apart: Names of events that are not put on the open span to which they belong.
        span_events: What becomes of other events that belong to an open span, unless they are measurements:
            ``event`` (they are put on it), ``log`` (they are not), or ``both`` (they are, and are among
            the unused all the same).
        max_held: How many events open spans may be made of before they take none but their starts and ends.
        max_events: How many events a span has at most.
    """

    def __init__(
        self,
        limit: int,
        ttl_ns: int,
        trace_ids: Callable[[], int] | None = None,
        span_ids: Callable[[], int] | None = None,
        *,
        trace_id_from_correlation: bool = False,
    ) -> None:
        self.trace_id_from_correlation = trace_id_from_correlation
        self.apart: Container[str] = ()
        self.span_events = "event"
        self.max_held = sys.maxsize
        self.max_events = MAX_EVENTS
        #: How many spans may be open; a new value counts from the next start.
        self.limit = limit
        self._open: OpenOperations[FinishedSpan] = OpenOperations(sys.maxsize, ttl_ns)
        self._recorded = RecordedOperations()
        self._given_ids = (trace_ids, span_ids)
        self._trace_ids, self._span_ids = id_source()
        self._held = 0
        #: Events on open spans that are counted elsewhere.
        self._copies = 0
        self._latest_ns = 0
        self._wall_offset_ns = 0
        #: By the span id that was given: operation, trace, and what makes wall-clock time of the trace's.
        self._ended: RecentKeys[tuple[str, int, int]] = RecentKeys(MAX_ENDED)
        self._early = EarlyEndings()

    @property
    def ttl_ns(self) -> int:
        """How long a span may stay open, in nanoseconds; a new value counts from the next tick."""
        return self._open.ttl_ns

    @ttl_ns.setter
    def ttl_ns(self, ttl_ns: int) -> None:
        self._open.ttl_ns = ttl_ns

    @property
    def held(self) -> int:
        """How many events the open spans are made of so far."""
        return self._held

    def __len__(self) -> int:
        return len(self._open) + len(self._recorded)

    def collect(  # noqa: C901, PLR0912, PLR0915 - the loop that everything goes through: a call costs a tenth of it
        self, events: Iterable[Entry], wall_offset_ns: int
    ) -> Assembled:
        """Take entries of the log, in the order in which they came.

        Returns:
            What became of them, and the spans that ended by them. Every event is in a finished span, in an
            open one (:attr:`held`), unused, surplus or rejected.
        """
        result = Assembled()
        spans = result.spans
        opened_spans = self._open
        # Held on to, and looked into without a call: every event with a span id asks for it here.
        open_ids, young_ids, old_ids = opened_spans.span_ids, self._ended.young, self._ended.old
        early = self._early
        # Once for all events: another source may have been chosen since.
        (trace_ids, span_ids), source = self._given_ids, id_source()
        self._trace_ids = trace_ids or source.trace_id
        self._span_ids = span_ids or source.span_id
        self._wall_offset_ns = wall_offset_ns
        latest_ns = self._latest_ns
        recorded = self._recorded.open
        begun_early = self._recorded.begun
        limit, numbers = self.limit, opened_spans.numbers
        for event in events:
            at_stake = 1
            try:
                if type(event) is Operation:
                    if event.carried is not None:
                        settle(event, self._local_caller(event), wall_offset_ns)
                    elif event.trace.wall_offset_ns is None:
                        event.trace.wall_offset_ns = wall_offset_ns
                    recorded[event.span_id] = event
                    self._held += 1
                    if event.at_ns > latest_ns:  # noqa: PLR1730 - max() costs nine times as much
                        latest_ns = event.at_ns
                    while len(recorded) + len(numbers) > limit:
                        spans.append(self._evict(event.at_ns))
                    continue
                parts = len(event)
                if parts == _EVENT:
                    name, measurements, metadata, at_ns, emitter = event
                    within = None
                elif parts == _ENDED:
                    ended_operation: Operation = event[0]
                    if recorded.pop(ended_operation.span_id, None) is not None:
                        span = begun_early.pop(ended_operation.span_id, None) if begun_early else None
                        if span is None:
                            self._held -= 1
                            at_stake = 2
                        else:
                            self._let_go(span)
                            at_stake = span.weight + 1
                        spans.append(finished(ended_operation, span, wall_offset_ns))
                    else:
                        self._end_unheard(ended_operation, result)
                    continue
                else:
                    name, measurements, metadata, at_ns, emitter, within = event
                    if not within.is_parent:
                        # There is no span of it: what happened in it happened in the one around it.
                        within = within.beyond
                try:
                    operation, phase = classified[name]
                except KeyError:
                    operation, phase = classify(name)
                if phase is _START:
                    is_taken = False
                    if "span_id" in metadata and (given := metadata["span_id"]) is not None:
                        if type(given) is not str:
                            given = identifier(given)
                        if given in open_ids or given in young_ids or given in old_ids:
                            if self._is_repeated(operation, event, result):
                                continue
                            is_taken = True
                    span = self._begin(operation, metadata, at_ns, is_taken, within)
                    if measurements:
                        span.attributes = {**metadata, **measurements}
                    if early.latest_ns >= at_ns or early.has_span_ids:
                        ending = early.take(operation, metadata, at_ns)
                        if ending is not None:
                            self._end_early(span, event, ending, result)
                            continue
                    opened_spans.open(operation, metadata, emitter, at_ns, span)
                    self._held += 1
                    while len(recorded) + len(numbers) > limit:
                        spans.append(self._evict(at_ns))
                    if at_ns > latest_ns:  # noqa: PLR1730 - max() costs nine times as much
                        latest_ns = at_ns
                elif phase is not _NONE:
                    ended = opened_spans.close(operation, metadata, emitter)
                    if ended is None:
                        self._end_unopened(operation, event, result, within)
                        continue
                    span = ended.value
                    self._held -= span.weight
                    if self._copies:
                        self._copies -= span.copies
                    span.weight += 1
                    at_stake = span.weight
                    measured = measurements.get("duration_ms")
                    duration_ns = (
                        int(measured * _NS_PER_MS)
                        if type(measured) is float and 0.0 <= measured <= MAX_DURATION_MS
                        else _duration_ns(measurements)
                    )
                    if duration_ns is None:
                        duration_ns = at_ns - ended.at_ns
                    if "links" in metadata:
                        span.early_links = span.attributes.get("links")
                    span.attributes = {**span.attributes, **metadata, **measurements}
                    span.end_ns = span.start_ns + duration_ns if duration_ns > 0 else span.start_ns
                    if phase is _ERROR:
                        _fail(span, name, metadata)
                    if ended.span_id is not None:
                        self._remember(ended)
                    spans.append(span)
                else:
                    self._happened(event, result, within)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever is in an event, it costs that event only
                result.rejected += at_stake
        self._latest_ns = latest_ns
        return result

    def open_traces(self) -> dict[int, int]:
        """Return the traces that have open spans, and at which monotonic time the first of these began."""
        traces: dict[int, int] = {}
        for opened in self._open:
            trace_id = opened.value.trace_id
            traces[trace_id] = min(opened.at_ns, traces.get(trace_id, opened.at_ns))
        for operation in self._recorded:
            trace_id = operation.trace.trace_id
            traces[trace_id] = min(operation.at_ns, traces.get(trace_id, operation.at_ns))
        return traces

    def tick(self, now_ns: int, alive: Callable[[object], bool]) -> list[FinishedSpan]:
        """End the spans whose time is up and those whose emitter is gone."""
        self._latest_ns = max(self._latest_ns, now_ns)
        ttl_ns = self._open.ttl_ns
        given_up = [self._abandon(opened, ttl_ns, "ttl") for opened in self._open.overdue(now_ns)]
        given_up += [
            _of_the_dead(self._abandon(opened, now_ns - opened.at_ns, _DIED), opened.emitter)
            for opened in self._open.orphaned(alive)
        ]
        for operation in self._recorded.lost(now_ns - _LOST_NS):
            span = self._recorded.end_lost(operation, self._wall_offset_ns)
            self._held -= span.weight
            given_up.append(span)
        given_up += [
            self._give_up(operation, ttl_ns, "ttl") for operation in self._recorded.overdue(now_ns - ttl_ns)
        ]
        given_up += [
            _of_the_dead(self._give_up(operation, now_ns - operation.at_ns, _DIED), operation.emitter)
            for operation in self._recorded.orphaned(alive)
        ]
        return given_up

    def end_open(self) -> list[FinishedSpan]:
        """End every span that is still open: nothing more will come.

        They end at the latest time heard of, by an event or a tick.
        """
        return [
            self._abandon(opened, self._latest_ns - opened.at_ns, "shutdown") for opened in self._open.drain()
        ] + [
            self._give_up(operation, self._latest_ns - operation.at_ns, "shutdown")
            for operation in list(self._recorded)
        ]

    def _local_caller(self, operation: Operation) -> Operation | None:
        """Return the operation in this process by whose ``traceparent`` it joined its trace, if it did so."""
        caller = operation.caller
        if caller is None or operation.parent_span_id != caller.span_id:
            return None
        found = self._recorded.open.get(caller.span_id)
        return found if found is not None and found.trace.trace_id == caller.trace_id else None

    def _evict(self, now_ns: int) -> FinishedSpan:
        """Give up what has been open for longest."""
        operation = next(iter(self._recorded), None)
        opened = next(iter(self._open), None)
        if operation is not None and (opened is None or operation.at_ns <= opened.at_ns):
            return self._give_up(operation, now_ns - operation.at_ns, "evicted")
        opened = self._open.give_up_oldest()
        return self._abandon(opened, now_ns - opened.at_ns, "evicted")

    def _give_up(self, operation: Operation, after_ns: int, reason: str) -> FinishedSpan:
        span = self._recorded.give_up(operation, after_ns, reason, self._wall_offset_ns)
        self._let_go(span)
        return span

    def _let_go(self, span: FinishedSpan) -> None:
        """Count no more what is on a span that was open."""
        self._held -= span.weight
        self._copies -= span.copies

    def _end_unheard(self, operation: Operation, result: Assembled) -> None:
        """Handle the end of an operation whose beginning did not come here, or which was given up."""
        if self._recorded.was_given_up(operation):
            result.unused += 1
            result.repeated += 1
            return
        settle(operation, self._local_caller(operation), self._wall_offset_ns)
        span = finished(operation, None, self._wall_offset_ns)
        span.weight = 1
        result.spans.append(span)

    def _is_repeated(self, operation: str, event: Entry, result: Assembled) -> bool:
        """Whether a start repeats one of the same operation and span id; it then only adds its metadata."""
        measurements, metadata = event[1], event[2]
        given = metadata["span_id"]
        twin = self._open.find_span(given, operation)
        if twin is not None:
            span = twin.value
            # Each copies all there are: what comes again and again must not cost more every time.
            if len(span.attributes) < _MAX_MERGED:
                span.attributes = {**span.attributes, **metadata, **measurements}
            result.surplus += 1
            return True
        past = self._ended.get(identifier(given))
        if past is not None and past[0] == operation:
            result.unused += 1
            result.repeated += 1
            return True
        return False

    def _begin(  # noqa: C901, PLR0912, PLR0915 - the rules in their order, and in one piece for the sake of speed
        self,
        operation: str,
        metadata: Mapping[Any, Any],
        at_ns: int,
        is_taken: bool,  # noqa: FBT001 - by position, because a call by keyword costs half as much again
        within: Place | None,
    ) -> FinishedSpan:
        """Start a span: decide on its trace, its id and the span around it.

        Ids given in the metadata are used as they are; only a span id that another operation has used
        (``is_taken``) is not. A span around it is, in this order: the one named by ``parent_span_id``; the
        innermost one open under the same correlation id; the caller's, named by ``traceparent``. Where a
        ``traceparent`` is not the one by which the span open under the correlation id came to its trace, it
        names a closer parent and goes first. Where nothing is named, it is the one in which it was emitted.
        """
        hidden = IDENTITY
        trace_id = span_id = parent_id = 0
        caller = around = None
        wall_offset_ns = self._wall_offset_ns
        # Most have none of these, and to ask whether one is there is cheaper than to get it.
        if (
            "trace_id" in metadata
            and (given := metadata["trace_id"]) is not None
            and not (trace_id := parse_trace_id(given) or 0)
        ):
            hidden -= {"trace_id"}
        if (
            "span_id" in metadata
            and (given := metadata["span_id"]) is not None
            and (is_taken or not (span_id := parse_span_id(given) or 0))
        ):
            hidden -= {"span_id"}
        if (
            "traceparent" in metadata
            and (given := metadata["traceparent"]) is not None
            and not (caller := parse_traceparent(given))
        ):
            hidden -= {"traceparent"}
        if "parent_span_id" in metadata and (given := metadata["parent_span_id"]) is not None:
            around = self._named(given)
            if around is not None and trace_id and around.trace_id != trace_id:
                around = None
            parent_id = parse_span_id(given) or 0
            if not parent_id:
                hidden -= {"parent_span_id"}
            if around is not None:
                parent_id = around.span_id
            elif parent_id and (past := self._ended.get(identifier(given))) is not None:
                _, trace, offset_ns = past
                if not trace_id or trace_id == trace:
                    trace_id, wall_offset_ns = trace, offset_ns
        remote = False
        if around is None and not (trace_id and parent_id):
            correlation_id = metadata.get("correlation_id")
            found = None if correlation_id is None else self._correlated(correlation_id)
            if found is None and within is not None and caller is None and not parent_id:
                found = _around_in(within)
            if (
                found is not None
                and (caller is None or caller == found.caller)
                and (not trace_id or trace_id == found.trace_id)
            ):
                around = found
                parent_id = parent_id or found.span_id
            elif caller is not None and (not trace_id or trace_id == caller.trace_id):
                trace_id = caller.trace_id
                parent_id = parent_id or caller.span_id
            elif not trace_id:
                trace_id = (
                    self._new_trace_id(correlation_id)
                    if self.trace_id_from_correlation
                    else self._trace_ids()
                )
        if around is not None:
            trace_id = around.trace_id
            remote = around.is_remote and parent_id == around.span_id
            caller = caller or around.caller
            # The clock of its trace, which may have been set since.
            if around.wall_offset_ns is not None:
                wall_offset_ns = around.wall_offset_ns
        elif caller is not None:
            remote = parent_id == caller.span_id and trace_id == caller.trace_id
        if not span_id:
            span_id = self._span_ids()
        if parent_id == span_id:
            parent_id, remote = 0, False
        start_ns = at_ns + wall_offset_ns
        span = begun(
            operation,
            trace_id,
            span_id,
            parent_id,
            caller,
            start_ns if start_ns > 0 else 0,  # noqa: FURB136 - as above
            metadata,
            hidden,
            remote,
        )
        if around is not None or caller is not None or "tracestate" in metadata:
            _carry(span, around, caller)
        return span

    def _named(self, span_id: object) -> _Around | None:
        """Return what is open under a span id."""
        opened = self._open.find_span(span_id)
        if opened is not None:
            return _around(opened)
        operation = self._recorded.find_span(span_id)
        return None if operation is None else _around_in(operation)

    def _correlated(self, correlation_id: object) -> _Around | None:
        """Return the innermost that is open under a correlation id."""
        opened = self._open.find(correlation_id)
        operation = self._recorded.find(correlation_id)
        if operation is not None and (opened is None or operation.at_ns > opened.at_ns):
            return _around_in(operation)
        return None if opened is None else _around(opened)

    def _host(
        self, measurements: Mapping[Any, Any], metadata: Mapping[Any, Any], within: Place | None
    ) -> Opened[FinishedSpan] | Operation | None:
        """Return the open operation to which an event belongs.

        That is the one which its ``span_id`` names, or the innermost under its correlation id, or the one in
        which it was emitted; a measurement taken in it is none of its events.
        """
        found: Opened[FinishedSpan] | Operation | None = None
        if (given := metadata.get("span_id")) is not None:
            found = self._open.find_span(given) or self._recorded.find_span(given)
        if found is None and (given := metadata.get("correlation_id")) is not None:
            opened, operation = self._open.find(given), self._recorded.find(given)
            found = (
                operation
                if operation is not None and (opened is None or operation.at_ns > opened.at_ns)
                else opened
            )
        if found is None and within is not None and MEASURED.isdisjoint(measurements):
            found = self._recorded.open.get(within.span_id)
        return found

    def _span_of(self, host: Opened[FinishedSpan] | Operation) -> FinishedSpan:
        if isinstance(host, Operation):
            return self._recorded.span_of(host, self._wall_offset_ns)
        return host.value

    def _is_open(self, host: Opened[FinishedSpan] | Operation) -> bool:
        if isinstance(host, Operation):
            return host.span_id in self._recorded.open
        return host in self._open

    def _new_trace_id(self, correlation_id: object) -> int:
        if (known := identifier(correlation_id)) is not None:
            return derive_trace_id(known)
        return self._trace_ids()

    def _end_unopened(self, operation: str, event: Entry, result: Assembled, within: Place | None) -> None:
        """Handle an ending that ends nothing that is open."""
        name, measurements, metadata, at_ns = event[:4]
        if (span_id := identifier(metadata.get("span_id"))) is not None:
            past = self._ended.get(span_id)
            is_taken = past is not None or self._open.find_span(span_id) is not None
            if past is not None and past[0] == operation:
                result.unused += 1
                result.repeated += 1
                return
        else:
            is_taken = False
        duration_ns = _duration_ns(measurements)
        ending = Ending(event, is_finished=duration_ns is not None)
        if duration_ns is None:
            self._happened(event, result, within, ending)
        else:
            span = self._begin(operation, metadata, at_ns - duration_ns, is_taken, within)
            _end(span, measurements, metadata, duration_ns)
            if classify(name)[1] is _ERROR:
                _fail(span, name, metadata)
            result.spans.append(span)
            if span_id is not None:
                # Its start, should it come, is known by that.
                self._ended.put(span_id, (operation, span.trace_id, span.end_ns - at_ns))
                return
        self._early.put(operation, span_id, ending)

    def _end_early(self, span: FinishedSpan, start: Entry, ending: Ending, result: Assembled) -> None:
        """End a span whose end came before its start."""
        if ending.is_finished:
            result.unused += 1
            result.repeated += 1
            return
        metadata, at_ns = start[2:4]
        name, measurements, ended_with, ended_ns = ending.event[:4]
        _end(span, measurements, ended_with, ended_ns - at_ns)
        if classify(name)[1] is _ERROR:
            _fail(span, name, ended_with)
        host = ending.host
        if host is not None and self._is_open(host):
            # What was an event of that span is this one's end now.
            around = self._span_of(host)
            if ending.noted is None:
                around.dropped_events -= 1
            else:
                if around.events is not None:
                    around.events.remove(ending.noted)
                if ending.noted.is_copy:
                    around.copies -= 1
                    self._copies -= 1
                else:
                    around.weight -= 1
                    self._held -= 1
                    span.weight = 2
        if (span_id := identifier(metadata.get("span_id"))) is not None:
            operation, _ = classify(start[0])
            self._ended.put(span_id, (operation, span.trace_id, span.start_ns - at_ns))
        result.spans.append(span)

    def _happened(
        self, event: Entry, result: Assembled, within: Place | None, ending: Ending | None = None
    ) -> None:
        """Put an event that begins and ends nothing on the span it belongs to, or leave it to others."""
        name, measurements, metadata, at_ns = event[:4]
        host = self._host(measurements, metadata, within)
        is_apart = host is None or name in self.apart or record_in(metadata) is not None
        # What measures something becomes no log record, and stays where it is.
        is_copy = not is_apart and self.span_events != "event" and MEASURED.isdisjoint(measurements)
        if is_apart or is_copy:
            result.unused += 1
            around = host.value if isinstance(host, Opened) else host or within
            # Where nobody tells of the operation either: it still ties together what was emitted in it.
            result.others.append((event, around or (event[5] if len(event) == _WITHIN else None)))
        if host is None or is_apart or (is_copy and self.span_events == "log"):
            return
        carried = {**metadata, **measurements}
        span = self._span_of(host)
        if span.events is None:
            span.events = []
        noted = None
        # One place is kept for the exception by which the span may end.
        if len(span.events) < self.max_events - 1 and self._held + self._copies < self.max_held:
            noted = SpanEvent(name, span.start_ns + max(at_ns - host.at_ns, 0), carried, is_copy=is_copy)
            span.events.append(noted)
            if is_copy:
                span.copies += 1
                self._copies += 1
            else:
                span.weight += 1
                self._held += 1
        else:
            # Not held: an operation may go on for ever, and what is finished needs the room.
            span.dropped_events += 1
            if not is_copy:
                result.surplus += 1
        if ending is not None:
            ending.host, ending.noted = host, noted

    def _remember(self, opened: Opened[FinishedSpan]) -> None:
        span = opened.value
        self._ended.put(opened.span_id, (opened.operation, span.trace_id, span.start_ns - opened.at_ns))

    def _abandon(self, opened: Opened[FinishedSpan], after_ns: int, reason: str) -> FinishedSpan:
        span = opened.value
        self._let_go(span)
        span.end_ns = span.start_ns + max(after_ns, 0)
        span.incomplete = reason
        if opened.span_id is not None:
            self._remember(opened)
        return span


def _of_the_dead(span: FinishedSpan, emitter: object) -> FinishedSpan:
    """Say on a span why the process has ended that had begun it, if that is known."""
    reason = reason_of_end(emitter)
    if reason is not None:
        span.attributes = {**span.attributes, EXIT_REASON: reason}
    return span


class _Around(NamedTuple):
    """What a span begins in: its trace, its id, and what makes wall-clock time of the trace's."""

    trace_id: int
    span_id: int
    caller: TraceParent | None
    wall_offset_ns: int | None
    tracestate: str
    flags: int
    is_remote: bool = False


def _carry(span: FinishedSpan, around: _Around | None, caller: TraceParent | None) -> None:
    """Have a span say what its trace carries: as the one around it, or as its own metadata says."""
    if around is not None:
        span.tracestate, span.flags = around.tracestate, around.flags
    elif caller is not None and caller.trace_id == span.trace_id:
        span.tracestate, span.flags = (
            read_tracestate(span.attributes.get("tracestate")),
            told_flags(caller.flags),
        )
    if not span.tracestate and "tracestate" in span.attributes:
        # None that goes on: it stays to be seen.
        span.hidden -= {"tracestate"}


def _around(opened: Opened[FinishedSpan]) -> _Around:
    span = opened.value
    return _Around(
        span.trace_id,
        span.span_id,
        span.caller,
        span.start_ns - opened.at_ns,
        span.tracestate,
        span.flags,
    )


def _around_in(place: Place) -> _Around:
    trace = place.trace
    caller, flags, tracestate, _ = place.carried or NOTHING_CARRIED
    remote = caller is not None and caller.span_id == place.span_id and not isinstance(place, Operation)
    return _Around(
        trace.trace_id, place.span_id, caller, trace.wall_offset_ns, tracestate, told_flags(flags), remote
    )


def _end(
    span: FinishedSpan, measurements: Mapping[Any, Any], metadata: Mapping[Any, Any], duration_ns: int
) -> None:
    """End a span with what its ending carries, so many nanoseconds after its start."""
    if "links" in metadata:
        span.early_links = span.attributes.get("links")
    span.attributes = {**span.attributes, **metadata, **measurements}
    span.end_ns = span.start_ns + duration_ns if duration_ns > 0 else span.start_ns


def _fail(span: FinishedSpan, name: str, metadata: Mapping[Any, Any]) -> None:
    span.error = True
    span.failure = (name, metadata)


def _duration_ns(measurements: Mapping[Any, Any]) -> int | None:
    """The measured duration, or None where there is none that can be believed."""
    measured: Any = measurements.get("duration_ms")
    kind = type(measured)
    if kind is not float and kind is not int:
        if kind is bool or not issubclass(kind, int | float):
            return None
        # A subclass compares and multiplies as it likes.
        measured = int.__int__(measured) if issubclass(kind, int) else float.__float__(measured)
    # Not a number compares false with everything.
    return int(measured * 1_000_000) if 0 <= measured <= MAX_DURATION_MS else None
