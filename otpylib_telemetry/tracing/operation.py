"""One record per operation: it knows its start, its end, its ids and what it carries.

Exporters read the record itself. The two events that tell of it, with ids as text, are made only for those
who read events. Until it has ended, its fields but for those of the end stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.bus.context import Scope
from otpylib_telemetry.tracing.propagation import SAMPLED, SpanContext, format_span_id, format_trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry.bus.table import Route
    from otpylib_telemetry.tracing.propagation import TraceParent


#: What happened during an operation: name, monotonic time in nanoseconds, attributes.
Happening: TypeAlias = "tuple[str, int, Mapping[str, Any]]"

#: A span somewhere, as the metadata ``links`` names one: with ``traceparent`` and, where there are, others.
Linked: TypeAlias = "Mapping[str, Any]"


class LocalTrace:
    """What the operations of one trace in this process have in common.

    Attributes:
        trace_id: The trace.
        text: Its id as 32 hexadecimal digits, once somebody has asked.
        wall_offset_ns: What to add to monotonic times to get nanoseconds since the epoch, once it is settled.
    """

    # On the class, so that making one sets its id and nothing else.
    text: str | None = None
    wall_offset_ns: int | None = None

    def __init__(self, trace_id: int) -> None:
        self.trace_id = trace_id

    def written(self) -> str:
        """Return the trace id as text."""
        if self.text is None:
            self.text = format_trace_id(self.trace_id)
        return self.text


class Carried(NamedTuple):
    """What a request brings along, and what goes on with everything that belongs to it.

    Attributes:
        caller: The ``traceparent`` by which the trace came into this process, if it came from elsewhere.
        flags: The flags of the trace, as they came.
        tracestate: The ``tracestate``; empty where there is none.
        baggage: The ``baggage``; empty where there is none.
    """

    caller: TraceParent | None = None
    flags: int = SAMPLED
    tracestate: str = ""
    baggage: str = ""


#: What is carried where nothing came from elsewhere.
NOTHING_CARRIED: Final = Carried()


class Place(Scope):
    """A place in a trace: code inside of it continues the trace from there.

    Attributes:
        trace: The trace.
        span_id: The span that is the parent of what begins here.
        carried: What came along from elsewhere, if anything did.
        correlation: What ties together the events of one request; None where that is the trace's id.
        is_parent: Whether it is the parent of what begins here, and passed on as such.
        beyond: The place that is so instead, if there is one.
        sent: How many messages have been sent from here, where that is counted.
    """

    trace: LocalTrace
    span_id: int = 0
    carried: Carried | None = None
    correlation: Any = None
    is_parent: bool = True
    beyond: Place | None = None
    sent: int = 0

    @property
    def trace_id(self) -> int:
        """The trace, 128 bits."""
        return self.trace.trace_id

    @property
    def correlation_id(self) -> Any:
        """What ties together the events of one request."""
        return self.trace.written() if self.correlation is None else self.correlation

    @property
    def caller(self) -> TraceParent | None:
        """The ``traceparent`` by which the trace came into this process, if it came from elsewhere."""
        return None if self.carried is None else self.carried.caller

    @property
    def baggage(self) -> str:
        """The ``baggage`` that goes on from here."""
        return "" if self.carried is None else self.carried.baggage

    @property
    def context(self) -> SpanContext:
        """The same as text."""
        caller, flags, tracestate, baggage = self.carried or NOTHING_CARRIED
        return SpanContext(
            self.trace.written(),
            format_span_id(self.span_id),
            self.correlation_id,
            flags,
            tracestate,
            baggage,
            caller is not None and caller.span_id == self.span_id,
        )

    @property
    def parent(self) -> Place | None:
        """The place that is the parent of what begins here, if there is one."""
        return self if self.is_parent else self.beyond


def remote_place(caller: TraceParent, tracestate: str, baggage: str) -> Place:
    """Return the place elsewhere at which a trace has come into this process."""
    place = Place()
    place.trace = LocalTrace(caller.trace_id)
    place.span_id = caller.span_id
    place.carried = Carried(caller, caller.flags, tracestate, baggage)
    return place


def with_baggage(around: Place | None, baggage: str) -> Place:
    """Return the place where the running code is with more baggage: that of no trace, where it is at none."""
    place = Place()
    if around is None or not around.is_place:
        place.is_place = place.is_parent = False
    else:
        place.trace, place.span_id, place.correlation = around.trace, around.span_id, around.correlation
        place.is_parent, place.beyond = around.is_parent, around.beyond
    carried = NOTHING_CARRIED if around is None or around.carried is None else around.carried
    place.carried = carried._replace(baggage=baggage)
    return place


class Operation(Place):
    """An operation that has begun, and may have ended.

    Attributes:
        name: The operation.
        route: Who listened when it began, and the names of its events.
        metadata: What it began with, without its ids.
        at_ns: When, on the monotonic clock, in nanoseconds.
        emitter: The pid of the otpylib process in which it began, or else the thread.
        parent_span_id: The span around it; 0 for none.
        ended_ns: When its end was told, likewise; 0 as long as it is open.
        duration_ms: How long it took, in milliseconds; 0.0 as long as it is open.
        final: What its metadata has become: None where it is what it began with.
        measured: What it measured besides its duration.
        failure: How it failed: what it says in ``error``, ``error_type`` and the like; None where it did not.
        raised: The type of the exception with which it failed, if it was one.
        is_ok: Whether it was said to be well.
        happenings: What happened during it.
        dropped_happenings: What happened beyond those that are kept.
        links: The spans it is linked to, besides those that its metadata names.
        dropped_links: Those beyond these that are kept.
        dropped_attributes: How many attributes were set beyond those that are kept.
        is_plain: Whether it ended well, and with nothing but what it began with.
        parent_is_local: Whether the span that its ``traceparent`` names is one of this process.
        wait_ms: How long it had to wait before it began, in milliseconds; None where nobody knows.
    """

    name: str
    route: Route
    metadata: dict[str, Any]
    at_ns: int
    emitter: object
    parent_span_id: int = 0
    ended_ns: int = 0
    duration_ms: float = 0.0
    final: dict[str, Any] | None = None
    measured: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    raised: str | None = None
    is_ok: bool = False
    happenings: Sequence[Happening] = ()
    dropped_happenings: int = 0
    links: Sequence[Linked] = ()
    dropped_links: int = 0
    dropped_attributes: int = 0
    is_plain: bool = True
    parent_is_local: bool = False
    wait_ms: float | None = None

    @property
    def ids(self) -> dict[str, Any]:
        """Its ids, as events have them."""
        return {
            "parent_span_id": format_span_id(self.parent_span_id) if self.parent_span_id else None,
            "correlation_id": self.correlation_id,
            "trace_id": self.trace.written(),
            "span_id": format_span_id(self.span_id),
        }

    @property
    def outcome(self) -> str:
        """The event that ends it."""
        return self.route.success if self.failure is None else self.route.error

    def start_event(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Return the event that tells of its beginning."""
        return self.route.start, {}, {**self.metadata, **self.ids}

    def end_metadata(self) -> dict[str, Any]:
        """Return the metadata of the event that tells of its end, but for what has happened during it."""
        metadata = {**(self.metadata if self.final is None else self.final), **self.ids}
        if self.failure is not None:
            metadata |= self.failure
        return metadata

    def end_event(self) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Return the event that tells of its end."""
        metadata = self.end_metadata()
        if self.happenings:
            metadata["span_events"] = [
                {"name": name, "at_ms": (at_ns - self.at_ns) / 1e6, "attributes": dict(attributes)}
                for name, at_ns, attributes in [*self.happenings]
            ]
        if self.links:
            given = metadata.get("links")
            named = [*given] if type(given) is list else [] if given is None else [given]
            metadata["links"] = [*named, *self.links]
        measurements = {"duration_ms": self.duration_ms}
        if self.wait_ms is not None:
            measurements["wait_ms"] = self.wait_ms
        if self.measured is not None:
            measurements |= self.measured
        return self.outcome, measurements, metadata


#: An entry of the log that tells of an end.
_ENDED: Final = 1

#: An entry that is an event emitted during an operation, which is its last part.
_WITHIN: Final = 6


def time_of(entry: Entry) -> int:
    """Return when an entry was logged, on the monotonic clock, in nanoseconds."""
    if type(entry) is Operation:
        return entry.at_ns
    return entry[0].ended_ns if len(entry) == _ENDED else entry[3]  # type: ignore[no-any-return]  # a time


def is_event(entry: Entry) -> bool:
    """Tell whether an entry of the log is an event, and tells of no operation of ``span()``."""
    return type(entry) is not Operation and len(entry) != _ENDED


def as_event(entry: Entry) -> RawEvent:
    """Return an entry of the log as an event."""
    if type(entry) is Operation:
        return (*entry.start_event(), entry.at_ns, entry.emitter)
    if len(entry) == _ENDED:
        operation: Operation = entry[0]
        return (*operation.end_event(), operation.ended_ns, operation.emitter)
    return entry if len(entry) < _WITHIN else entry[:5]  # type: ignore[no-any-return]  # an event


def as_own_events(entries: Iterable[Entry]) -> list[RawEvent]:
    """Return entries as events that nobody else has."""
    return [
        (name, {**measurements}, {**metadata}, at_ns, emitter)
        for name, measurements, metadata, at_ns, emitter in map(as_event, entries)
    ]
