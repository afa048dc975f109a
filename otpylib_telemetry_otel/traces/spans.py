"""Finished spans, as everything between assembling and exporting passes them on.

Pure, and without OpenTelemetry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.tracing.propagation import SAMPLED
from otpylib_telemetry_otel import semantics
from otpylib_telemetry_otel.attributes import (
    are_exportable,
    are_harmless,
    attribute,
    attributes,
    note_harmless,
    sorted_out,
)
from otpylib_telemetry_otel.semantics import MAX_NAME_LENGTH, SpanLink
from otpylib_telemetry_otel.traces.limits import UNLIMITED, SpanLimits, at_least_ours, limited

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.scrubbing.scrubber import Scrubber
    from otpylib_telemetry.tracing.propagation import TraceParent


#: The attribute that marks a span whose end never came. Its value says what ended it: ``ttl`` (it was open
#: for longer than ``span_ttl``), ``evicted`` (more than ``max_active_spans`` were open), ``emitter_died`` or
#: ``shutdown``.
INCOMPLETE: Final = "otpylib.telemetry.incomplete"

#: The attribute that says why the process has ended that had begun a span, where the actors are instrumented.
EXIT_REASON: Final = "otpylib.process.exit_reason"

#: How many events a span has at most. The default of the OpenTelemetry specification ("Span Limits":
#: EventCountLimit).
MAX_EVENTS: Final = 128

#: These are the span's identity, and not repeated among its attributes.
IDENTITY: Final = frozenset({"trace_id", "span_id", "parent_span_id", "traceparent", "tracestate"})

_SPECIAL: Final = IDENTITY | semantics.MEANINGFUL
#: The same where ``kind`` says something else than a kind of span.
_SPECIAL_BUT_KIND: Final = _SPECIAL - {"kind"}

#: There are eight.
_MAX_FLAGS: Final = 0xFF

_new: Final = object.__new__


class Scope(NamedTuple):
    """An instrumentation scope of which more is known than name and version."""

    name: str
    version: str
    schema_url: str = ""
    attributes: tuple[tuple[str, Any], ...] = ()


@dataclass(slots=True, eq=False)
class SpanEvent:
    """Something that happened during a span; its attributes are exportable once the span is sealed."""

    name: str
    at_ns: int
    attributes: Mapping[Any, Any]
    dropped_attributes: int = 0
    #: Whether it is a log record, too, and counted as that.
    is_copy: bool = False


# Without slots: what is as usual stays on the class, so that making a span sets half of it.
@dataclass(eq=False)
class FinishedSpan:
    """A span. The assembler keeps it while it is open and hands it out once it is finished.

    Attributes:
        name: The operation; once sealed, what ``span.name`` says, where that says something.
        trace_id: The trace it belongs to, 128 bits, never zero.
        span_id: Its own id, 64 bits, never zero.
        parent_span_id: The id of the span around it; 0 for none.
        caller: The ``traceparent`` by which it, or the span around it, joined a trace from elsewhere.
        start_ns: When it began, in nanoseconds since the epoch.
        attributes: What it carries; any keys and values until :meth:`seal`, exportable ones after it.
        hidden: Keys out of :data:`IDENTITY` that are not to become attributes.
        parent_is_remote: Whether the span around it was reported by another process.
        weight: How many events it is made of: start, end and those in between.
        copies: How many further events are on it that are counted elsewhere.
        end_ns: When it ended, in nanoseconds since the epoch.
        error: Whether it ended in an error.
        message: What the error said; there once the span is sealed.
        incomplete: Why it was ended without an end of its own, or None; see :data:`INCOMPLETE`.
        kind: Name of its OpenTelemetry ``SpanKind``; there once the span is sealed.
        events: What happened during it.
        dropped_events: How many events did not fit.
        dropped_attributes: How many attributes did not fit.
        scope: Name and version of the instrumentation that reports it, or None for ours; there once sealed.
            A :class:`Scope` where there is more to say.
        links: The spans it is linked to; there once sealed.
        dropped_links: How many links did not fit or could not be read.
        early_links: What its start said in ``links``, where the end has said it anew.
        added_links: Tables that name further spans it is linked to.
        failure: The name and the metadata of the event that ended it in an error.
        tracestate: The ``tracestate`` of its trace.
        flags: Those of its trace, where they say more than whether it is recorded; see :func:`told_flags`.
        processed: Whether processors have been handed it; there once they have.
    """

    #: The lane it goes out on.
    lane: ClassVar[str] = "spans"

    name: str
    trace_id: int
    span_id: int
    parent_span_id: int
    caller: TraceParent | None
    start_ns: int
    attributes: Mapping[Any, Any]
    hidden: frozenset[str] = IDENTITY
    parent_is_remote: bool = False
    weight: int = 1
    copies: int = 0
    end_ns: int = 0
    error: bool = False
    message: str = ""
    incomplete: str | None = None
    kind: str = "INTERNAL"
    events: list[SpanEvent] | None = None
    dropped_events: int = 0
    dropped_attributes: int = 0
    scope: tuple[str, str] | Scope | None = None
    links: list[SpanLink] | None = None
    dropped_links: int = 0
    early_links: object = None
    added_links: Sequence[Mapping[str, Any]] = ()
    failure: tuple[str, Mapping[Any, Any]] | None = None
    #: Whether it was said to be well, which is the last word.
    ok: bool = field(init=False, repr=False, default=False)
    tracestate: str = field(init=False, default="")
    flags: int = field(init=False, default=0)
    processed: bool = field(init=False, repr=False)
    #: Whether there is nothing to it but name and attributes, which nobody else has.
    plain: bool = field(init=False, repr=False, default=False)

    def seal(  # noqa: C901, PLR0912 - one piece: calls cost
        self, limits: SpanLimits = UNLIMITED, scrubber: Scrubber | None = None
    ) -> bool:
        """Read what the metadata means, and make name, attributes and events exportable.

        ``limits`` are those of OpenTelemetry's variables; ours hold where nothing was said. Done once a span
        is known to be exported, so that those left out by sampling do not pay for it, and on the thread that
        runs the application, to which the values belong. Tells whether it is known on the way that there is
        nothing in it that ``scrubber`` would take out. If there may be, nothing is cut off yet: half a secret
        is not seen to be one.
        """
        special_keys = _SPECIAL
        if "kind" in self.attributes and semantics.is_no_kind(self.attributes["kind"]):
            special_keys = _SPECIAL_BUT_KIND
        if limits is UNLIMITED:
            if self.plain:
                # By far the most common case. What is known of a name implies what is looked at without that.
                if scrubber is not None:
                    if self.name in scrubber.known and are_harmless(self.attributes, special_keys, scrubber):
                        return True
                    note_harmless(self.attributes, special_keys, scrubber)
                elif (
                    self.name.isascii()
                    and len(self.name) <= MAX_NAME_LENGTH
                    and are_exportable(self.attributes, special_keys)
                ):
                    return True
                self.plain = False
            made = sorted_out(self.attributes, self.hidden, special_keys)
        else:
            made = sorted_out(self.attributes, self.hidden, special_keys, *at_least_ours(limits.span))
        exportable, dropped, special = made
        self.dropped_attributes += dropped
        if self.events is not None:
            self._seal_events(self.events, limits)
        told: frozenset[str] = frozenset()
        if self.failure is not None:
            told = self._fail(*self.failure, with_stack=limits.stack_traces)
            self.failure = None
        if special:
            self._interpret(special, told, exportable, limits)
        if self.added_links:
            self._link(limits)
        if self.early_links is not None:
            self.early_links = None
        name = self.name
        if not name.isascii() or len(name) > MAX_NAME_LENGTH:
            self.name = text(name, MAX_NAME_LENGTH)
        self.attributes = exportable
        if limits is UNLIMITED:
            self._mark()
        elif scrubber is None:
            self.limit(limits)
        return False

    def _mark(self) -> None:
        if self.incomplete is not None:
            self.attributes = {**self.attributes, INCOMPLETE: self.incomplete}

    def _seal_events(self, events: list[SpanEvent], limits: SpanLimits) -> None:
        # One place is kept for the exception by which it ended.
        count = max(MAX_EVENTS, limits.events or 0) - (self.failure is not None)
        self.dropped_events += max(len(events) - count, 0)
        del events[count:]
        most, longest = at_least_ours(limits.event)
        for event in events:
            if not limits.stack_traces and semantics.STACK_TRACE in event.attributes:
                event.attributes = {**event.attributes, semantics.STACK_TRACE: None}
            event.name = text(event.name, MAX_NAME_LENGTH)
            event.attributes, event.dropped_attributes = attributes(event.attributes, IDENTITY, most, longest)

    def limit(self, limits: SpanLimits) -> None:
        """Leave out what is beyond the limits; of events the first stay, and how the span failed."""
        self.attributes, dropped = limited(self.attributes, limits.span)
        self.dropped_attributes += dropped
        if self.events is not None and limits.events is not None and len(self.events) > limits.events:
            kept = self.events[: limits.events]
            if kept and self.error:
                kept[-1] = self.events[-1]
            self.dropped_events += len(self.events) - len(kept)
            self.events = kept
        if self.links is not None and limits.links is not None and len(self.links) > limits.links:
            self.dropped_links += len(self.links) - limits.links
            self.links = self.links[: limits.links]
        for parts, limit in ((self.events, limits.event), (self.links, limits.link)):
            for part in parts or ():
                part.attributes, dropped = limited(part.attributes, limit)
                part.dropped_attributes += dropped
        self._mark()

    def _interpret(
        self, special: dict[str, Any], told: frozenset[str], exportable: dict[str, Any], limits: SpanLimits
    ) -> None:
        """Use the metadata that means something, and keep as attributes what turns out to mean nothing."""
        most, _ = at_least_ours(limits.span)
        used = set(told)
        if (kind := semantics.span_kind(special)) is not None:
            self.kind = kind
            # "kind" stays visible: it is a common word, and may have been meant otherwise.
            used.add("span.kind")
        if (name := semantics.span_name(special)) is not None:
            self.name = name
            used.add("span.name")
        if (scope := semantics.scope(special)) is not None:
            self.scope = scope
            used |= {"otel.scope.name", "otel.scope.version"}
        if (given := special.get("links")) is not None:
            # An ending often repeats what the start said.
            early = () if self.early_links is None or self.early_links is given else (self.early_links,)
            found, left_out = semantics.links(*early, given, most=max(semantics.MAX_LINKS, limits.links or 0))
            if found:
                self.links = found
                self.dropped_links += left_out
                used.add("links")
        for key, value in special.items():
            if key not in used and not attribute(exportable, key, value, most):
                self.dropped_attributes += 1

    def _link(self, limits: SpanLimits) -> None:
        """Add the links that were put on it one by one to those that its metadata names."""
        added, left_out = semantics.links([*self.added_links], most=len(self.added_links))
        links = self.links or []
        known = {(link.trace_id, link.span_id) for link in links}
        links += [link for link in added if (link.trace_id, link.span_id) not in known]
        most = max(semantics.MAX_LINKS, limits.links or 0)
        self.links, self.added_links = links[:most], ()
        self.dropped_links += left_out + max(len(links) - most, 0)

    def _fail(self, event_name: str, metadata: Mapping[Any, Any], *, with_stack: bool) -> frozenset[str]:
        """Take over how the span failed, with an event; return the metadata keys that were told by it."""
        failed = semantics.failure(event_name, metadata)
        self.message = failed.message
        if self.events is None:
            self.events = []
        details = failed.details
        if not with_stack:
            details = {key: value for key, value in details.items() if key != semantics.STACK_TRACE}
        self.events.append(SpanEvent("exception", self.end_ns, details))
        return failed.told


def told_flags(flags: int) -> int:
    """Return the flags of a trace as they are sent: all of them, or none.

    OpenTelemetry's SDK sends none. What says nothing but that the trace is recorded is sent as by the SDK.
    """
    return flags & _MAX_FLAGS if flags > SAMPLED else 0


def begun(  # noqa: PLR0913, PLR0917 - a span has as many sides
    name: str,
    trace_id: int,
    span_id: int,
    parent_span_id: int,
    caller: TraceParent | None,
    start_ns: int,
    attributes: Mapping[Any, Any],
    hidden: frozenset[str],
) -> FinishedSpan:
    """Return a span that has just begun: ``FinishedSpan(...)`` of the same, at half its cost."""
    span = _new(FinishedSpan)
    span.name = name
    span.trace_id = trace_id
    span.span_id = span_id
    span.parent_span_id = parent_span_id
    span.caller = caller
    span.start_ns = start_ns
    span.attributes = attributes
    span.hidden = hidden
    return span
