"""The services of OTLP: what takes each signal, and what its answer says.

Imports the generated classes of OTLP: to be imported only where something is about to be exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

if TYPE_CHECKING:
    from types import ModuleType


@dataclass(frozen=True, slots=True)
class Service:
    """The service that takes one signal; ``rejected`` names the count in the answer of what it refused."""

    items: str
    method: str
    answer: type[Any]
    rejected: str


def _service(items: str, module: ModuleType, signal: str, rejected: str) -> Service:
    name = module.DESCRIPTOR.services_by_name[f"{signal}Service"].full_name
    return Service(items, f"/{name}/Export", getattr(module, f"Export{signal}ServiceResponse"), rejected)


TRACES: Final = _service("spans", trace_service_pb2, "Trace", "rejected_spans")
METRICS: Final = _service("data points", metrics_service_pb2, "Metrics", "rejected_data_points")
LOGS: Final = _service("log records", logs_service_pb2, "Logs", "rejected_log_records")
