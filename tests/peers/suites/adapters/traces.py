"""OpenTelemetry's trace tests against the ``TracerProvider`` that our service installs.

Its spans are the SDK's. So beside what the tests look at, every span they end has to arrive at a backend as
OpenTelemetry's own encoder would have sent it.
"""

import opentelemetry.sdk.trace as sdk
import pytest
from adapters import recording
from adapters.application import Application
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

_application = Application()
_ours = trace.get_tracer_provider()
_processors = _ours._active_span_processor._span_processors
_ended = []


def _record(span):
    _ended.append(span)


def _substitute():
    """Put the provider of our service in place of the SDK's: some tests load the module anew."""
    theirs = sdk.TracerProvider
    if getattr(theirs, "is_ours", False):
        return
    recorder = type("Recorder", (sdk.SpanProcessor,), {"on_end": staticmethod(_record)})

    class TracerProvider(theirs):
        """The sampler, ids and processors of our service's provider, and the arguments of a test."""

        is_ours = True

        def __init__(self, sampler=None, *args, id_generator=None, **options):
            recording.take_part()
            ids = id_generator or _ours.id_generator
            super().__init__(sampler or _ours.sampler, *args, id_generator=ids, **options)
            for processor in (*_processors, recorder()):
                self.add_span_processor(processor)

    sdk.TracerProvider = TracerProvider


_substitute()


@pytest.fixture(autouse=True)
def _spans_arrive_as_the_sdk_would_send_them():
    _substitute()
    _ended.clear()
    yield
    spans, _ended[:] = list(_ended), []
    requests, kept = _application.arrived()
    arrived = _by_id(group for request in requests for group in request.resource_spans)
    handed_over = _by_id(group for span in kept for group in encode_spans([span]).resource_spans)
    for name, (scoped, expected) in _by_id(encode_spans([span]).resource_spans[0] for span in spans).items():
        for way in (arrived, handed_over):
            assert name in way, f"the span {expected.name} has not arrived"
            got_scope, got = way[name]
            assert told(got) == told(expected)
            assert told(got_scope.scope) == told(scoped.scope)
            assert got_scope.schema_url == scoped.schema_url


def _by_id(groups):
    return {
        span.span_id: (scoped, span)
        for group in groups
        for scoped in group.scope_spans
        for span in scoped.spans
    }


def told(message):
    """A message as text, its attributes in one order: that of keys says nothing."""
    copy = type(message)()
    copy.CopyFrom(message)
    for part in (copy, *getattr(copy, "events", ()), *getattr(copy, "links", ())):
        pairs = sorted(part.attributes, key=lambda pair: pair.key)
        del part.attributes[:]
        part.attributes.extend(pairs)
    return str(copy)
