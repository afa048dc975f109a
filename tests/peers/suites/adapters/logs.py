"""OpenTelemetry's log tests against the ``LoggerProvider`` that our service installs.

As with spans, every record has to arrive at a backend as OpenTelemetry's own encoder would have sent it.
"""

import opentelemetry.sdk._logs as sdk
import opentelemetry.sdk._logs._internal as internal
import pytest
from adapters import recording
from adapters.application import Application
from opentelemetry import _logs
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord

_application = Application()
_processors = _logs.get_logger_provider()._multi_log_record_processor._log_record_processors
_emitted = []


class _Recorder(LogRecordProcessor):
    """Remembers what our processors have been given."""

    def on_emit(self, log_record):
        _emitted.append(log_record)

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


class LoggerProvider(sdk.LoggerProvider):
    """The provider of our service, once more: its processors, and the arguments of a test."""

    def __init__(self, *args, **options):
        recording.take_part()
        super().__init__(*args, **options)
        for processor in (*_processors, _Recorder()):
            self.add_log_record_processor(processor)


sdk.LoggerProvider = internal.LoggerProvider = LoggerProvider


@pytest.fixture(autouse=True)
def _records_arrive_as_the_sdk_would_send_them():
    _emitted.clear()
    yield
    records, _emitted[:] = list(_emitted), []
    requests, kept = _application.arrived()
    expected = _scoped(encode_logs([_readable(record)]) for record in records)
    for way in (_scoped(requests), _scoped(encode_logs([record]) for record in kept)):
        assert [told(record) for _, record in way] == [told(record) for _, record in expected]
        assert [told(scoped.scope) for scoped, _ in way] == [told(scoped.scope) for scoped, _ in expected]
        assert [scoped.schema_url for scoped, _ in way] == [scoped.schema_url for scoped, _ in expected]


def _scoped(requests):
    """The records with their scopes: in order within a scope, which is all that OTLP keeps of it."""
    found = [
        (scoped, record)
        for request in requests
        for group in request.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]
    return sorted(found, key=lambda pair: (told(pair[0].scope), pair[0].schema_url))


def _readable(record):
    return ReadableLogRecord(record.log_record, record.resource, record.instrumentation_scope, record.limits)


def told(message):
    """A message as text, its attributes in one order: that of keys says nothing."""
    copy = type(message)()
    copy.CopyFrom(message)
    pairs = sorted(copy.attributes, key=lambda pair: pair.key)
    del copy.attributes[:]
    copy.attributes.extend(pairs)
    return str(copy)
