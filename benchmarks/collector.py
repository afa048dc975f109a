"""A collector in a process of its own: it takes spans over OTLP/HTTP, and counts them when it is asked.

It is asked by a line on its standard input. Until then it keeps requests as they came, so that it takes
little of the CPU that others are measured on.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

requests: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    """Takes one connection's requests."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Keep a request."""
        requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def take() -> int:
    """Return how many spans arrived since this was last called."""
    arrived = 0
    while requests:
        request = ExportTraceServiceRequest.FromString(requests.pop())
        arrived += sum(
            len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
        )
    return arrived


def main() -> None:
    """Serve until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    while sys.stdin.readline():
        print(json.dumps({"spans": take()}), flush=True)


if __name__ == "__main__":
    main()
