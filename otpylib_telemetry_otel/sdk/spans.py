"""Finished spans as the exporters of OpenTelemetry take them.

Imports OpenTelemetry: to be imported only where spans are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource

    from otpylib_telemetry_otel.traces.spans import FinishedSpan


T = TypeVar("T")

# A span without the flag is one that an exporter may drop without a word.
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
#: An application has a few dozen; one that makes scopes of data must not grow this for ever.
_MAX_SCOPES: Final = 256

_UNSET: Final = Status(StatusCode.UNSET)
_OK: Final = Status(StatusCode.OK)


class SpanConverter:
    """Makes spans of one resource."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        self._scope = InstrumentationScope("otpylib_telemetry", __version__)
        self._scopes: dict[str, InstrumentationScope] = {}

    def convert(self, spans: Sequence[FinishedSpan]) -> list[ReadableSpan]:
        """Return the spans as OpenTelemetry's."""
        return [self._convert(span) for span in spans]

    def _convert(self, span: FinishedSpan) -> ReadableSpan:
        state = _state(span.tracestate)
        # What is exported was sampled.
        flags = TraceFlags(span.flags | TraceFlags.SAMPLED) if span.flags else _SAMPLED
        context = SpanContext(
            span.trace_id, span.span_id, is_remote=False, trace_flags=flags, trace_state=state
        )
        parent = None
        if span.parent_span_id:
            parent = SpanContext(
                span.trace_id,
                span.parent_span_id,
                is_remote=span.parent_is_remote,
                trace_flags=flags,
                trace_state=state,
            )
        return ReadableSpan(
            span.name,
            context,
            parent,
            self._resource,
            bounded(span.attributes, span.dropped_attributes),
            _events(span) if span.events or span.dropped_events else (),
            _links(span) if span.links or span.dropped_links else (),
            kind=SpanKind[span.kind],
            status=_status(span),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope if span.scope is None else self._scope_of(span.scope),
        )

    def _scope_of(self, named: tuple[Any, ...]) -> InstrumentationScope:
        # The text tells 1 from True, which are equal, and may be of what cannot be a key.
        key = repr(named)
        known = self._scopes.get(key)
        if known is None:
            if len(self._scopes) >= _MAX_SCOPES:
                self._scopes.clear()
            name, version, *more = named
            schema_url, pairs = more or (None, ())
            known = self._scopes[key] = InstrumentationScope(name, version, schema_url, dict(pairs))
        return known


def _state(header: str) -> TraceState | None:
    return TraceState.from_header([header]) if header else None


def _status(span: FinishedSpan) -> Status:
    if span.error:
        return Status(StatusCode.ERROR, span.message)
    return _OK if span.ok else _UNSET


def _events(span: FinishedSpan) -> Sequence[Event]:
    return _counted(
        [
            Event(event.name, bounded(event.attributes, event.dropped_attributes), event.at_ns)
            for event in span.events or ()
        ],
        span.dropped_events,
    )


def _links(span: FinishedSpan) -> Sequence[Link]:
    return _counted(
        [
            Link(
                SpanContext(
                    link.trace_id,
                    link.span_id,
                    is_remote=link.is_remote,
                    trace_flags=TraceFlags(link.flags),
                    trace_state=_state(link.tracestate),
                ),
                bounded(link.attributes, link.dropped_attributes),
            )
            for link in span.links or ()
        ],
        span.dropped_links,
    )


def _counted(elements: list[T], dropped: int) -> Sequence[T]:
    if not dropped:
        return elements
    counted: BoundedList[T] = BoundedList.from_seq(len(elements), elements)
    counted.dropped = dropped
    return counted


def bounded(attributes: Mapping[str, Any], dropped: int) -> Mapping[str, Any]:
    """Return attributes that tell how many there were besides."""
    if not dropped:
        return attributes
    # The one public way to tell an exporter how many there were besides.
    counted = BoundedAttributes(attributes=attributes)
    counted.dropped = dropped
    return counted
