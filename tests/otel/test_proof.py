"""What an answer to an empty request proves about a new destination."""

import contextlib
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.rpc.status_pb2 import Status

from otpylib_telemetry.exporter.errors import DestinationError, ExportError
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, GrpcStatus
from otpylib_telemetry_otel.otlp.services import LOGS, METRICS, TRACES
from otpylib_telemetry_otel.probes import probes
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals.proof import prove

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
STATUS = Status(message="nothing in it").SerializeToString()


@contextlib.contextmanager
def answering(answer):
    """Serve HTTP; ``answer`` makes status, type and body of the last part of the path and the body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            said = self.rfile.read(int(self.headers["content-length"]))
            status, kind, body = answer(self.path.rpartition("/")[2], said)
            self.send_response(status)
            if kind:
                self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


def settings(endpoint, protocol="http/protobuf", **more):
    return OtelSettings(endpoint=endpoint, protocol=protocol, compression="none", **more)


#: What receivers of OTLP answer, the Collector, Loki, Grafana's cloud and others.
PROOFS = [
    *((status, kind, b"") for status in (200, 202, 204) for kind in (PROTOBUF, JSON, "text/plain", "")),
    (200, PROTOBUF, b"\x0a\x00"),
    (200, JSON, b"{}"),
    (202, "", b"{}"),
    (200, "text/plain; charset=utf-8", b" { } "),
    (200, JSON, b'{"partialSuccess": {"errorMessage": "nothing in it"}}'),
    (200, JSON, b'{"partialSuccess": null, "unheard": "of"}'),
    (400, PROTOBUF, STATUS),
    (400, PROTOBUF, b""),
    (422, "application/octet-stream", STATUS),
    (400, JSON, b'{"code": 3, "message": "nothing in it"}'),
    (409, "application/json; charset=utf-8", b'{"message": "nothing in it", "details": []}'),
]

#: And what others answer.
NO_PROOFS = [
    (400, "text/plain", b"bad"),
    (400, "", STATUS),
    (400, PROTOBUF, b"bad request"),
    (400, "application/octet-stream", b""),
    (400, JSON, b'{"error": {"code": 400, "message": "bad"}}'),
    (409, JSON, b"{}"),
    (422, JSON, b'{"message": "bad", "documentation_url": "https://api.invalid/"}'),
    (422, JSON, b"[1]"),
    (408, "text/plain", b""),
    (413, PROTOBUF, STATUS),
    (200, "text/plain", b"ok"),
    (200, JSON, b'{"status": "ok"}'),
    (200, JSON, b"[]"),
    (200, JSON, b"null"),
    (201, JSON, b'"ok"'),
    (200, "", b"ok"),
    (200, PROTOBUF, b"not what was expected"),
    (200, JSON, b"[" * 50_000),
    (500, PROTOBUF, STATUS),
    (503, PROTOBUF, STATUS),
]


def shown(answer):
    return f"{answer[0]} {answer[1]} {answer[2][:20]!r}"


@pytest.mark.parametrize("answer", PROOFS, ids=shown)
async def test_what_speaks_otlp_is_a_proof(answer):
    with answering(lambda *_: answer) as endpoint:
        await prove(settings(endpoint), None)


@pytest.mark.parametrize("answer", NO_PROOFS, ids=shown)
async def test_what_may_be_anybody_is_none(answer):
    with answering(lambda *_: answer) as endpoint:
        with pytest.raises(ExportError, match="an empty request to the new destination of traces") as raised:
            await prove(settings(endpoint), None)
        assert isinstance(raised.value, DestinationError) == (answer[0] < 500)


async def test_who_wants_a_body_gets_one_without_an_item():
    seen = []

    def answer(signal, body):
        seen.append(body)
        is_empty = not body
        return (400, "", json.dumps({"error": "no data"}).encode()) if is_empty else (200, "", b"")

    with answering(answer) as endpoint:
        await prove(settings(endpoint, logs=False, metrics=False), None)
    assert seen == [b"", b"\x0a\x00"]


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"])
async def test_a_refusal_over_grpc_is_a_proof(code):
    with GrpcReceiver() as there:
        there.always(GrpcStatus(code, "nothing in it"))
        await prove(settings(there.endpoint, "grpc"), None)


def taking(*signals):
    """Answer as a receiver of these signals alone."""
    return lambda signal, _: (200, PROTOBUF, b"") if signal in signals else (404, "text/plain", b"not found")


#: What the receivers before and after the change take, and which signal fails the proof.
CHANGES = [
    (("traces", "logs", "metrics"), ("logs",), "traces"),
    (("traces", "logs", "metrics"), ("traces", "metrics"), "logs"),
    (("traces", "logs", "metrics"), ("traces", "logs"), "metrics"),
    (("traces", "logs"), ("logs", "metrics"), "traces"),
    ((), ("traces",), "logs"),
    ((), ("logs",), "traces"),
    (("traces",), ("traces",), None),
    (("logs",), ("logs",), None),
    (("traces",), ("traces", "logs"), None),
    (("traces",), ("traces", "logs", "metrics"), None),
    (("traces",), ("logs",), "traces"),
    (("traces",), (), "traces"),
]


@pytest.mark.parametrize(("before", "after", "failing"), CHANGES)
async def test_a_signal_that_is_refused_by_itself_fails_the_proof_unless_it_was_so(before, after, failing):
    with answering(taking(*before)) as old, answering(taking(*after)) as new:
        if failing is None:
            await prove(settings(new), settings(old))
            return
        with pytest.raises(DestinationError, match=f"new destination of {failing} ") as raised:
            await prove(settings(new), settings(old))
        hint = f"it takes other signals, and {failing} = false says that none of these are wanted"
        assert (hint in str(raised.value)) == bool(after)


async def test_a_signal_that_is_not_wanted_is_not_asked_for():
    with answering(taking("traces")) as new:
        await prove(settings(new, logs=False, metrics=False), settings("http://127.0.0.1:9"))


async def test_a_signal_that_went_nowhere_before_has_to_be_taken():
    with answering(taking("traces")) as there:
        before = settings(there, logs=False, metrics=False)
        with pytest.raises(DestinationError, match="new destination of logs "):
            await prove(settings(there, metrics=False), before)


async def test_what_was_switched_off_is_asked_again_and_takes_no_less_than_before():
    with answering(taking("traces")) as there:
        off = settings(there, enabled=False)
        assert len(await prove(settings(there), off)) == 3
        assert await prove(settings(there), settings(there)) == []
    with pytest.raises(ExportError, match="new destination of traces "):
        await prove(settings(there), off)


async def test_what_cannot_be_asked_any_more_was_no_receiver_of_fewer_signals():
    with answering(taking("traces")) as new, pytest.raises(DestinationError, match="destination of logs "):
        await prove(settings(new), settings("http://127.0.0.1:9"))


@contextlib.contextmanager
def serving(*services):
    """Serve these services of OTLP over gRPC, and no others."""
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.unary_unary_rpc_method_handler(lambda *_: b"")
    for service in services:
        name = service.method.split("/")[1]
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, {"Export": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(10)


async def test_so_it_is_over_grpc():
    with serving(TRACES, LOGS, METRICS) as whole, serving(TRACES) as some, serving(TRACES) as others:
        await prove(settings(some, "grpc"), settings(others, "grpc"))
        with pytest.raises(DestinationError, match="new destination of logs "):
            await prove(settings(some, "grpc"), settings(whole, "grpc"))


@pytest.mark.parametrize("answer", [*PROOFS, *NO_PROOFS], ids=shown)
def test_a_trial_tells_the_same_as_the_proof(answer):
    with answering(lambda *_: answer) as endpoint:
        [trial] = [each for each in probes(settings(endpoint, logs=False, metrics=False)) if each.connects]
        if answer in PROOFS:
            trial.attempt(10.0)
            return
        with pytest.raises(ExportError):
            trial.attempt(10.0)
