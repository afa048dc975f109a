"""Log records as an OTLP request, as :mod:`otpylib_telemetry_otel.otlp.spans` does it for spans.

Imports OpenTelemetry: to be imported only where log records are about to be exported.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from otpylib_telemetry_otel.otlp.encoder import Encoder
from otpylib_telemetry_otel.otlp.values import fill, put
from otpylib_telemetry_otel.otlp.wire import add_pairs, any_value, count, sized, text

if TYPE_CHECKING:
    from otpylib_telemetry_otel.log_records.item import LogItem


#: The numbers of severities go up to 24; up to this, a number is one byte.
_MAX_SEVERITY: Final = 127

_begin: Final = struct.Struct("<BQBB").pack
_flags: Final = struct.Struct("<BI").pack
_observed: Final = struct.Struct("<BQ").pack


class LogEncoder(Encoder):
    """Makes requests of log records."""

    request = ExportLogsServiceRequest
    of_resource = ResourceLogs
    of_scope = ScopeLogs
    of_item = LogRecord

    @staticmethod
    def encode_item(item: LogItem) -> bytes:
        """Write one record; raises for what it does not know how to write."""
        severity = item.severity
        if severity > _MAX_SEVERITY:
            raise OverflowError(f"{severity} is no severity")
        fields = [
            _begin(0x09, item.at_ns, 0x10, severity)
            + b"\x1a"
            + text(item.severity_text)
            + b"\x2a"
            + sized(any_value(item.body))
        ]
        add_pairs(fields, item.attributes)
        record = b"\x32".join(fields)
        if item.dropped_attributes:
            record += count(b"\x38", item.dropped_attributes)
        record += _flags(0x45, item.flags)
        if item.trace_id:
            record += b"\x4a\x10" + item.trace_id.to_bytes(16, "big")
        if item.span_id:
            record += b"\x52\x08" + item.span_id.to_bytes(8, "big")
        return record + _observed(0x59, item.observed_ns) + b"\x62" + text(item.name)

    @staticmethod
    def fill_item(message: Any, item: LogItem) -> None:
        """Fill one message from one record."""
        message.time_unix_nano = item.at_ns
        message.observed_time_unix_nano = item.observed_ns
        message.severity_number = item.severity
        message.severity_text = item.severity_text
        message.event_name = item.name
        put(message.body, item.body)
        fill(message.attributes, item.attributes)
        message.dropped_attributes_count = item.dropped_attributes
        if item.trace_id:
            message.trace_id = item.trace_id.to_bytes(16, "big")
        if item.span_id:
            message.span_id = item.span_id.to_bytes(8, "big")
        message.flags = item.flags
