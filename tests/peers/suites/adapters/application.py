"""A whole application of ours on a thread beside the tests: exporters, service, and what takes all.

What the tests record with our providers goes the ways it goes for users: into the queue of an exporter and
over OTLP to a server, and into that of another one that hands it to an exporter of OpenTelemetry's kind.
"""

import asyncio
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

from opentelemetry import _logs, trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry.exporter import registry
from otpylib_telemetry_otel import exporter, service

#: Seconds for what takes milliseconds.
PATIENCE = 30

_REQUESTS = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest}


class _Backend(BaseHTTPRequestHandler):
    """Takes everything, and keeps spans and log records with their scopes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if (message := _REQUESTS.get(self.path)) is not None:
            self.server.requests.append(message.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class _Kept:
    """An exporter of OpenTelemetry's kind that keeps what it gets."""

    #: Of all there are: they are made by a name, so nobody has them in hand.
    items: ClassVar = []

    def export(self, batch):
        self.items.extend(batch)
        return self.success

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


class KeptSpans(_Kept, SpanExporter):
    """For spans."""

    success = SpanExportResult.SUCCESS


class KeptRecords(_Kept, LogRecordExporter):
    """For log records."""

    success = LogRecordExportResult.SUCCESS


def _register(place):
    """Have them found as an installed package's are."""
    described = Path(place, "kept-1.dist-info")
    described.mkdir()
    (described / "METADATA").write_text("Name: kept\nVersion: 1\n", encoding="utf-8")
    (described / "entry_points.txt").write_text(
        f"[opentelemetry_traces_exporter]\nkept = {__name__}:KeptSpans\n"
        f"[opentelemetry_logs_exporter]\nkept = {__name__}:KeptRecords\n",
        encoding="utf-8",
    )
    sys.path.append(place)


class Application:
    """What runs beside the tests."""

    def __init__(self):
        _register(tempfile.mkdtemp())
        self._backend = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
        self._backend.daemon_threads = True
        self._backend.requests = []
        threading.Thread(target=self._backend.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{self._backend.server_port}"
        common = {"flush_interval": 60.0, "metrics": False}
        self._settings = {
            "otel_exporter": {
                "endpoint": endpoint,
                "protocol": "http/protobuf",
                "compression": "none",
                **common,
            },
            "kept_exporter": {"exporter": "kept", **common},
        }
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.run(self._start())

    def run(self, work):
        """Run a coroutine where the application runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def arrived(self):
        """What has arrived since the last call, once all that was recorded has.

        Returns:
            The requests that came over OTLP, and what the exporter of OpenTelemetry's kind was given.
        """
        for name in self._settings:
            if not self.run(registry.flush(name, PATIENCE)):
                raise AssertionError(f"{name} has not exported what was recorded")
        requests, self._backend.requests = self._backend.requests, []
        kept = list(_Kept.items)
        _Kept.items.clear()
        return requests, kept

    async def _start(self):
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        await exporter.start_otel_exporter(self._settings["otel_exporter"])
        await exporter.start_otel_exporter(self._settings["kept_exporter"], name="kept")
        await service.start_telemetry_service({"exporters": list(self._settings)})
        while isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) or not hasattr(
            _logs.get_logger_provider(), "add_log_record_processor"
        ):
            await asyncio.sleep(0.01)
