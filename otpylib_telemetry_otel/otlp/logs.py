"""Log records as an OTLP request, as :mod:`otpylib_telemetry_otel.otlp.spans` does it for spans.

Imports OpenTelemetry: to be imported only where log records are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otpylib_telemetry_otel.otlp.values import Encoder, fill, put

if TYPE_CHECKING:
    from otpylib_telemetry_otel.log_records.item import LogItem


class LogEncoder(Encoder):
    """Makes requests of log records."""

    request = ExportLogsServiceRequest
    fields = ("resource_logs", "scope_logs", "log_records")

    @staticmethod
    def encode_item(message: Any, item: LogItem) -> None:
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
