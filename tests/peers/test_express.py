"""A front of Express, on node and OpenTelemetry's SDK for JavaScript, before Flask and an actor: one trace.

Both programs are those of the page about auto-instrumentation.
"""

import os
import re

import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support import npm, peers
from tests.support.auto_instrumented import COMMAND, FLASK, environment, get, write_programs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peer

PACKAGES = (
    "express@4.22.3",
    "@opentelemetry/api@1.9.1",
    "@opentelemetry/sdk-node@0.223.0",
    "@opentelemetry/instrumentation-http@0.223.0",
    "@opentelemetry/instrumentation-express@0.71.1",
)

#: Who is below whom, from the client's request to the actor.
PATH = [
    ("front", "SERVER", "GET /play"),
    ("front", "INTERNAL", "request handler - /play"),
    ("front", "CLIENT", "GET"),
    ("dice-server", "SERVER", "GET /rolldice"),
    ("dice-server", "INTERNAL", "otpylib.call"),
    ("dice-server", "INTERNAL", "otpylib.handle"),
]


@pytest.fixture
def started(tmp_path):
    """A function that starts a program, and ends it with the test."""
    programs = []

    def start(command, log, variables):
        programs.append(program := peers.PeerProcess(command, tmp_path / log, variables))
        program.start()
        return program

    write_programs(tmp_path)
    yield start
    for program in programs:
        program.stop()


def trace_of(spans):
    """The spans of the request, from the last one up to the first."""
    by_id = {each.span_id: each for each in spans}
    (last,) = (each for each in spans if each.name == "otpylib.handle")
    found = [last]
    while (above := by_id.get(found[-1].parent_span_id)) is not None:
        found.append(above)
    return found[::-1]


def test_a_request_is_one_trace_from_express_through_flask_to_the_actor(tmp_path, collector, started):
    modules, node = npm.find("express-0.223.0", *PACKAGES)
    back, front = free_port(), free_port()
    # One speaks gRPC and the other HTTP unless told otherwise: the page gives each its port.
    quick = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
    flask = environment(*FLASK, OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc_endpoint, **quick)
    command = (COMMAND, "--service_name", "dice-server", "flask", "run", "-p", back)
    dice = started(command, "flask.log", flask)
    express = started(
        (node, "front.js"),
        "express.log",
        {
            **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
            "NODE_PATH": str(modules / "node_modules"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.http_endpoint,
            "OTEL_SERVICE_NAME": "front",
            **quick,
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "DICE": f"http://127.0.0.1:{back}",
            "PORT": str(front),
        },
    )

    def listens():
        dice.must_run()
        express.must_run()
        # Asked without a trace, it answers; this is another trace than the one below.
        return get(f"http://127.0.0.1:{back}/") is None and "listening" in express.log.read_text("utf-8")

    wait_until(listens, 120, "both listen")
    assert re.fullmatch("[1-6]", get(f"http://127.0.0.1:{front}/play"))

    def has_arrived():
        path = trace_of(collector.spans)
        assert [(each.resource["service.name"], each.kind, each.name) for each in path] == PATH
        assert len({each.trace_id for each in path}) == 1
        assert path[0].parent_span_id == ""
        return True

    wait_until(has_arrived, 120, "the trace has arrived")
