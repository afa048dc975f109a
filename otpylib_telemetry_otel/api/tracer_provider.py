"""The side of :mod:`~otpylib_telemetry_otel.service` that OpenTelemetry sees.

OpenTelemetry keeps its global ``TracerProvider`` for as long as the interpreter runs: it can be set once, and
a processor can be added to it but not removed. So both are made once, and what they do depends on whether
somebody is there to take what they get.

Imports OpenTelemetry's SDK: to be imported only where it is wanted.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import ProxyTracerProvider

from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry.tracing import bridge, propagation
from otpylib_telemetry_otel.api import added_processors
from otpylib_telemetry_otel.api.context_bridge import BRIDGE
from otpylib_telemetry_otel.api.scopes import scope_of
from otpylib_telemetry_otel.api.spans import guarded
from otpylib_telemetry_otel.resources import current_resource, speak_for
from otpylib_telemetry_otel.traces import api_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, Span
    from opentelemetry.trace import Link, SpanKind
    from opentelemetry.trace.span import TraceState
    from opentelemetry.util.types import Attributes

    from otpylib_telemetry_otel.api.forwarding import SpanForwarder

_log = logging.getLogger("otpylib_telemetry")

#: Whose provider the spans come from.
OURS: Final = "otpylib-telemetry"
THEIRS: Final = "the application"

_MS_PER_SECOND: Final = 1000


class UnusableProviderError(Exception):
    """The global provider is one that takes no processor."""


class _Switch:
    """Where the spans go; None while nobody is there."""

    forwarder: SpanForwarder | None = None
    #: Spans that ended while nobody was there.
    missed = 0


class _Processor(SpanProcessor):
    """Hands finished spans to whoever is there.

    ``every``: whether spans count that are recorded but not sampled. With our own sampler that flag is the
    caller's, and the exporter decides; with another, the decision was taken.
    """

    def __init__(self, *, every: bool) -> None:
        self._every = every

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Note that a span is open."""
        del parent_context
        if _Switch.forwarder is not None and (context := span.get_span_context()) is not None:
            api_spans.began(context.span_id, context.trace_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Hand a span over."""
        context = span.get_span_context()
        if context is None:
            return
        forwarder = _Switch.forwarder
        wanted = forwarder is not None and (self._every or context.trace_flags.sampled)
        api_spans.ended(context.span_id, queued=wanted)
        if forwarder is None:
            _Switch.missed += 1
        elif wanted:
            forwarder.give(span)

    def shutdown(self) -> None:
        """Do nothing: there is nothing here to release, and the exporter is the supervisor's."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have everything exported; see ``SpanForwarder.flush``."""
        forwarder = _Switch.forwarder
        return forwarder is None or forwarder.flush(timeout_millis / _MS_PER_SECOND)


class _Sampler(Sampler):
    """Records everything, because the exporter samples: by whole traces, when it is known how they went.

    Whether a trace is recorded according to its ``traceparent`` is passed on as it came.
    """

    def should_sample(  # noqa: PLR0913, PLR0917 - the interface's own
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide about a span that is about to begin."""
        del trace_id, name, kind, links, trace_state
        parent = trace.get_current_span(parent_context).get_span_context()
        if _Switch.forwarder is None:
            decision = Decision.DROP
        elif parent.is_valid and not parent.trace_flags.sampled:
            decision = Decision.RECORD_ONLY
        else:
            decision = Decision.RECORD_AND_SAMPLE
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        """Return what it is called."""
        return "otpylib_telemetry"


class _Ids(IdGenerator):
    """Ids from the same source as those of :func:`~otpylib_telemetry.tracing.span.span`."""

    def generate_span_id(self) -> int:
        """Draw a span id."""
        return propagation.new_span_id()

    def generate_trace_id(self) -> int:
        """Draw a trace id."""
        return propagation.new_trace_id()


class _Provider(TracerProvider):
    """The provider for those who have none, whose resource is that of the exporter its spans go to.

    Nothing is raised from it, or from what it makes, into the application.
    """

    def get_tracer(
        self,
        instrumenting_module_name: Any,
        instrumenting_library_version: Any = None,
        schema_url: Any = None,
        attributes: Any = None,
    ) -> trace.Tracer:
        """Return the tracer of a scope; what is no name, version or attribute is made one."""
        scope = scope_of(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return guarded(super().get_tracer(*scope))

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor, which hears of the operations of ``span()`` as well."""
        super().add_span_processor(span_processor)
        if not isinstance(span_processor, _Processor):
            added_processors.add(span_processor)

    @property
    def resource(self) -> Resource:
        """The exporter's resource, as far as it is known by now."""
        return current_resource()


_lock = new_lock()
#: Providers that have our processor.
_served: weakref.WeakSet[Any] = weakref.WeakSet()
_own: list[TracerProvider] = []


def install(forwarder: SpanForwarder) -> str:
    """Have the spans of the OpenTelemetry API handed over; return whose provider makes them."""
    with _lock:
        whose = _provide()
        _Switch.forwarder = forwarder
        speak_for(target.name for target in forwarder.targets)
        bridge.install(BRIDGE)
        return whose


def uninstall(forwarder: SpanForwarder) -> None:
    """Undo :func:`install`, unless somebody else has installed another by now."""
    with _lock:
        if _Switch.forwarder is forwarder:
            _Switch.forwarder = None
            bridge.uninstall(BRIDGE)


def missed() -> int:
    """Return how many spans ended while nobody was there to take them."""
    return _Switch.missed


def _provide() -> str:
    """See to it that there is a global provider with a processor of ours."""
    provider: Any = trace.get_tracer_provider()
    if isinstance(provider, ProxyTracerProvider):
        # What is set already stays: this one is then given up, and that one gets the processor.
        trace.set_tracer_provider(_own_provider())
        provider = trace.get_tracer_provider()
    if provider in _own:
        return OURS
    if provider not in _served:
        add: Callable[[SpanProcessor], None] | None = getattr(provider, "add_span_processor", None)
        if add is None:
            kind = type(provider)
            raise UnusableProviderError(
                f"the application has set a global TracerProvider that takes no span processor "
                f"({kind.__module__}.{kind.__qualname__})"
            )
        add(_Processor(every=False))
        _served.add(provider)
    return THEIRS


def _own_provider() -> TracerProvider:
    if not _own:
        made = _Provider(sampler=_Sampler(), shutdown_on_exit=False, id_generator=_Ids())
        made.add_span_processor(_Processor(every=True))
        _own.append(made)
    return _own[0]


def _after_fork() -> None:
    """Leave what was installed to the parent, whose exporters it is for; the child may install its own."""
    _Switch.forwarder = None
    bridge.uninstall(BRIDGE)


after_fork_in_child(_after_fork)
