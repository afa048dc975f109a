"""Log records as an OTLP request, as :mod:`otpylib_telemetry_otel.otlp.spans` does it for spans.

Imports OpenTelemetry: to be imported only where log records are about to be exported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from otpylib_telemetry_otel.otlp.values import Encoded, encode_by_scope, fill, put

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry_otel.log_records import LogItem

__all__ = ["LogEncoder"]


class LogEncoder:
    """Encodes log records of one resource.

    Args:
        resource: The resource attributes, complete.
        schema_url: The schema they follow.
        scope: Name and version of what made the records.
    """

    def __init__(
        self, resource: Mapping[str, Any], schema_url: str = "", scope: tuple[str, str] = ("", "")
    ) -> None:
        self._resource = Resource()
        fill(self._resource.attributes, resource)
        self._schema_url = schema_url
        self._scope = scope

    def encode(self, items: Sequence[LogItem]) -> Encoded:
        """Encode log records.

        Args:
            items: The records. One that cannot be encoded is left out, so that the others go.
        """
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add(schema_url=self._schema_url)
        group.resource.CopyFrom(self._resource)
        refused, reason = encode_by_scope(group.scope_logs, "log_records", items, self._scope, _encode)
        return Encoded(request.SerializeToString(), refused, reason)


def _encode(message: Any, item: LogItem) -> None:
    message.time_unix_nano = item.at_ns
    message.observed_time_unix_nano = item.observed_ns
    message.severity_number = item.severity
    message.severity_text = item.severity_text
    message.event_name = item.name
    # There, though nothing is in it: "nothing" is said, not left open.
    message.body.SetInParent()
    put(message.body, item.body)
    fill(message.attributes, item.attributes)
    message.dropped_attributes_count = item.dropped_attributes
    if item.trace_id:
        message.trace_id = item.trace_id.to_bytes(16, "big")
    if item.span_id:
        message.span_id = item.span_id.to_bytes(8, "big")
    message.flags = int(item.sampled)
