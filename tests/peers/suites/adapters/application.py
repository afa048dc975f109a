"""A whole application of ours on a thread beside the tests: exporter, service, and a backend that keeps all.

What the tests record with our providers goes the way it goes for users: into the exporter's queue, over OTLP,
to a server.
"""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry import _logs, trace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
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


class Application:
    """What runs beside the tests."""

    def __init__(self, **settings):
        self._backend = ThreadingHTTPServer(("127.0.0.1", 0), _Backend)
        self._backend.daemon_threads = True
        self._backend.requests = []
        threading.Thread(target=self._backend.serve_forever, daemon=True).start()
        self._settings = {
            "endpoint": f"http://127.0.0.1:{self._backend.server_port}",
            "protocol": "http/protobuf",
            "compression": "none",
            "flush_interval": 60.0,
            "metrics": False,
            **settings,
        }
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.run(self._start())

    def run(self, work):
        """Run a coroutine where the application runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def arrived(self):
        """Everything that has arrived since the last call, once all that was recorded has."""
        if not self.run(registry.flush("otel_exporter", PATIENCE)):
            raise AssertionError("what was recorded has not arrived")
        requests, self._backend.requests = self._backend.requests, []
        return requests

    async def _start(self):
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        await exporter.start_otel_exporter(self._settings)
        await service.start_telemetry_service()
        while isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider) or not hasattr(
            _logs.get_logger_provider(), "add_log_record_processor"
        ):
            await asyncio.sleep(0.01)
