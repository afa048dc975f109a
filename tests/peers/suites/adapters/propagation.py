"""OpenTelemetry's tests of W3C trace context against what our packages read and hand on.

Read is what ``traceparent`` says. Handed on is what ``trace_context()`` has where a span of OpenTelemetry is
the current one.
"""

from adapters import recording
from adapters.application import Application
from opentelemetry import context as api_context
from opentelemetry import trace
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.trace import propagation
from opentelemetry.trace.propagation import tracecontext

from otpylib_telemetry import span, trace_context
from otpylib_telemetry.tracing.propagation import parse_traceparent

_application = Application()

_HEADERS = ("traceparent", "tracestate")


class TraceContextTextMapPropagator(TextMapPropagator):
    """Our reading and writing, as a propagator."""

    @property
    def fields(self):
        return set(_HEADERS)

    def extract(self, carrier, context=None, getter=default_getter):
        recording.take_part()
        context = context if context is not None else api_context.Context()
        found = {name: list(values) for name in _HEADERS if (values := getter.get(carrier, name))}
        caller = parse_traceparent(*found.get("traceparent", [""]))
        if caller is None:
            return context
        with span("peer.hop", found):
            state = trace.TraceState.from_header([trace_context().get("tracestate", "")])
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if caller.sampled else trace.TraceFlags.DEFAULT)
        remote = trace.SpanContext(caller.trace_id, caller.span_id, True, flags, state)
        return trace.set_span_in_context(trace.NonRecordingSpan(remote), context)

    def inject(self, carrier, context=None, setter=default_setter):
        recording.take_part()
        token = api_context.attach(context if context is not None else api_context.get_current())
        try:
            told = trace_context()
        finally:
            api_context.detach(token)
        for name in _HEADERS:
            if told.get(name):
                setter.set(carrier, name, told[name])


tracecontext.TraceContextTextMapPropagator = TraceContextTextMapPropagator
propagation.tracecontext = tracecontext
