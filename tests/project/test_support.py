"""The test helpers themselves: a helper that lies makes every test after it worthless."""

import asyncio
import http.client
import socket
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import otpylib_config
import pytest
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from otpylib import process
from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from otpylib_telemetry_mock.otlp_receiver import (
    Garbage,
    GrpcReceiver,
    GrpcStatus,
    Hang,
    HttpReceiver,
    HttpStatus,
    Ok,
    PartialSuccess,
    Reset,
    Slow,
    ports,
)
from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from otpylib_telemetry_mock.otlp_receiver.received import TRACES
from scripts import uv
from tests.support import peers, programs
from tests.support.fresh import forget_everything
from tests.support.prometheus_server import check_with_promtool
from tests.support.runtime import MemorySource, in_process, running_runtime
from tests.support.waiting import eventually, wait_until

# --- waiting and ports -----------------------------------------------------------------------------------


async def test_eventually_gives_the_first_true_value_of_plain_and_async_predicates():
    values = iter([0, None, "there"])

    async def later():
        return next(values)

    assert await eventually(later) == "there"
    assert await eventually(lambda: 7) == 7


async def test_eventually_says_what_it_waited_for_and_saw_last():
    with pytest.raises(
        AssertionError, match=r"not so within 0\.05 s: .*len\(\[\]\) == 1.*; it last gave False"
    ):
        await eventually(lambda: len([]) == 1, timeout=0.05)
    with pytest.raises(AssertionError, match=r"a thing; it last raised ZeroDivisionError: division by zero"):
        wait_until(lambda: 1 / 0, timeout=0.05, message="a thing")


def test_free_ports_differ_and_can_be_listened_on():
    chosen = [free_port() for _ in range(50)]
    assert len(set(chosen)) == 50
    with socket.create_server(("127.0.0.1", chosen[0])):
        assert not ports.is_free(chosen[0])


# --- runtime ---------------------------------------------------------------------------------------------


async def test_in_process_returns_raises_and_is_a_process(runtime):
    async def body(number):
        assert process.self() is not None
        if number < 0:
            raise LookupError("negative")
        return number * 2

    assert await in_process(body, 21) == 42
    with pytest.raises(LookupError, match="negative"):
        await in_process(body, -1)
    assert process.self() is None


async def test_in_process_reports_a_process_that_was_stopped_or_never_ends(runtime):
    async def stopped():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="stopped before its end"):
        await in_process(stopped)
    with pytest.raises(TimeoutError, match=r"did not end within 0\.05 s"):
        await in_process(asyncio.sleep, 60, timeout=0.05)
    await eventually(lambda: process.processes() == [])


async def test_the_runtime_of_a_test_ends_with_it_and_its_processes_may_clean_up():
    cleaned = []

    async def body():
        try:
            await process.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    async with running_runtime() as backend:
        assert get_runtime() is backend
        await process.spawn(body)
        await asyncio.sleep(0)
    assert cleaned == [True]
    assert get_runtime() is None


async def test_a_task_that_outlives_the_runtime_is_reported_and_ended():
    tasks = []

    async def forgotten_task():
        await asyncio.sleep(60)

    async def careless():
        async with running_runtime(grace=0.05):
            tasks.append(asyncio.create_task(forgotten_task()))
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match=r"(?s)tasks are left over.*forgotten_task"):
        await careless()
    assert tasks[0].cancelled()


async def test_errors_in_the_background_of_the_loop_are_collected(background_errors):
    async def fails():
        raise LookupError("nobody awaits this")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0.01)
    del task
    assert [type(context["exception"]) for context in background_errors] == [LookupError]
    background_errors.clear()


async def test_a_config_manager_reads_its_sources_again_and_again(config_manager, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[telemetry.otel]\nbatch_size = 7\n", encoding="utf-8")
    memory = MemorySource({"shop": {"name": "one"}}, priority=2)
    control = await config_manager(path, memory)
    config = otpylib_config.Config
    assert await in_process(config.get, "telemetry.otel.batch_size") == 7
    memory.values = {"shop": {"name": "two"}}
    path.write_text("[telemetry.otel]\nbatch_size = 8\n", encoding="utf-8")

    async def both_changed():
        return [await in_process(config.get, key) for key in ("telemetry.otel.batch_size", "shop.name")] == [
            8,
            "two",
        ]

    await eventually(both_changed)
    await in_process(config.put, "shop.name", "three")
    await control.crash()
    assert await in_process(config.get, "shop.name") == "two"
    await control.stop()
    assert process.processes() == []


# --- our OTLP server -------------------------------------------------------------------------------------


def make_spans(count=1):
    """Finished spans, made by the official SDK: the last is the parent of the others."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("a.scope", "1.2")
    with tracer.start_as_current_span("parent", kind=SpanKind.SERVER, start_time=1_000) as parent:
        parent.set_attributes({"text": "a", "flag": True, "number": 3, "ratio": 0.5, "many": [1, 2]})
        for number in range(count - 1):
            with tracer.start_as_current_span(f"child{number}") as child:
                child.add_event("happened", {"why": "so"}, timestamp=5_000)
                child.set_status(StatusCode.ERROR, "broken")
    return memory.get_finished_spans()


@pytest.fixture(params=["grpc", "http"])
def receiver(request):
    return request.getfixturevalue(f"{request.param}_receiver")


def exporter_for(receiver, timeout=10):
    if isinstance(receiver, GrpcReceiver):
        return GrpcExporter(
            endpoint=receiver.endpoint, insecure=True, headers={"x-key": "k"}, timeout=timeout
        )
    return HttpExporter(
        endpoint=f"{receiver.endpoint}/v1/traces",
        headers={"x-key": "k"},
        timeout=timeout,
        compression=Compression.Gzip,
    )


@pytest.fixture
def export(receiver):
    """Export some spans to the receiver with the official exporter; gives its result."""
    exporters = []

    def run(count=1, timeout=10):
        exporters.append(exporter_for(receiver, timeout))
        return exporters[-1].export(make_spans(count))

    yield run
    for exporter in exporters:
        exporter.shutdown()


def call(receiver, timeout=60, count=1):
    """One request without any of the official exporter's retries: the answer, or the exception."""
    return CALLS[type(receiver)](receiver, request_of(count), timeout)


def request_of(count):
    spans = [{"name": f"span{number}", "trace_id": b"t" * 16, "span_id": b"s" * 8} for number in range(count)]
    return TRACES.request(resource_spans=[{"scope_spans": [{"spans": spans}]}])


def call_grpc(receiver, message, timeout):
    # Channels to one address otherwise share a connection: the next call could meet one that is just dying.
    alone = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(receiver.host_port, options=alone) as channel:
        method = channel.unary_unary(
            f"/{TRACES.service}/Export", TRACES.request.SerializeToString, TRACES.response.FromString
        )
        return method(message, timeout=timeout)


def call_http(receiver, message, timeout):
    request = urllib.request.Request(
        f"{receiver.endpoint}/v1/traces",
        data=message.SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
    )
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        return trace_service_pb2.ExportTraceServiceResponse.FromString(answer.read())


CALLS = {GrpcReceiver: call_grpc, HttpReceiver: call_http}
BROKEN_OFF = (grpc.RpcError, OSError, DecodeError, http.client.HTTPException)


def names(receiver):
    return [span.name for span in receiver.spans]


def test_a_receiver_decodes_what_the_official_exporter_sends(receiver, export):
    assert export(count=2) is SpanExportResult.SUCCESS
    child, parent = receiver.spans
    assert (parent.name, parent.kind, parent.start_ns, parent.parent_span_id) == (
        "parent",
        "SERVER",
        1_000,
        "",
    )
    assert parent.attributes == {"text": "a", "flag": True, "number": 3, "ratio": 0.5, "many": [1, 2]}
    assert (child.trace_id, child.parent_span_id) == (parent.trace_id, parent.span_id)
    assert (child.status, child.status_message, parent.status) == ("ERROR", "broken", "UNSET")
    assert [(event.name, event.time_ns, event.attributes) for event in child.events] == [
        ("happened", 5_000, {"why": "so"})
    ]
    assert (child.resource["service.name"], child.scope, child.scope_version) == ("shop", "a.scope", "1.2")
    assert child.headers["x-key"] == "k"
    assert child.end_ns > child.start_ns > 0
    assert [len(request.spans) for request in receiver.requests] == [2]


def test_a_script_is_followed_request_by_request_and_then_the_default(receiver):
    refusal = GrpcStatus("UNAVAILABLE") if isinstance(receiver, GrpcReceiver) else HttpStatus(503)
    receiver.script(refusal, Ok())
    with pytest.raises(BROKEN_OFF):
        call(receiver)
    call(receiver)
    receiver.always(refusal)
    with pytest.raises(BROKEN_OFF):
        call(receiver)
    assert [request.behaviour for request in receiver.requests] == [refusal, Ok(), refusal]
    assert len(receiver.taken) == len(receiver.spans) == 1
    receiver.clear()
    assert receiver.requests == receiver.spans == []


def test_a_grpc_refusal_carries_code_message_and_retry_info(grpc_receiver):
    grpc_receiver.script(GrpcStatus("RESOURCE_EXHAUSTED", "too much", retry_after=1.5))
    with pytest.raises(grpc.RpcError) as caught:
        call(grpc_receiver)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "too much"
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() == 1.5


def test_an_http_refusal_carries_status_retry_after_and_headers(http_receiver):
    http_receiver.script(HttpStatus(429, retry_after=7, message="slow down", headers={"X-Why": "quota"}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        call(http_receiver)
    with caught.value as answer:
        assert (answer.code, answer.headers["Retry-After"], answer.headers["X-Why"]) == (429, "7", "quota")
        assert status_pb2.Status.FromString(answer.read()).message == "slow down"


def test_a_partial_success_says_how_many_were_rejected(receiver):
    receiver.script(PartialSuccess(2, "too old"))
    answer = call(receiver, count=5)
    assert (answer.partial_success.rejected_spans, answer.partial_success.error_message) == (2, "too old")
    assert names(receiver) == ["span0", "span1", "span2"]


@pytest.mark.parametrize(
    "behaviour", [Reset(), Reset(taken=True), Garbage(), Garbage(b"HTTP/1.1 200 OK\r\n\r\n\xff")]
)
def test_a_broken_answer_is_an_error_at_the_client_and_the_next_request_is_well(receiver, behaviour):
    receiver.script(behaviour)
    with pytest.raises(BROKEN_OFF):
        call(receiver)
    assert len(receiver.spans) == (behaviour == Reset(taken=True))
    before = len(receiver.spans)
    call(receiver)
    assert len(receiver.spans) == before + 1


def test_a_reset_is_a_reset_on_the_wire(http_receiver):
    http_receiver.script(Reset())
    body = request_of(1).SerializeToString()
    with socket.create_connection(("127.0.0.1", http_receiver.port), timeout=5) as client:
        client.sendall(
            b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_request_that_hangs_is_answered_when_released(receiver):
    receiver.script(Hang())
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call(receiver)))
    thread.start()
    wait_until(lambda: receiver.requests)
    assert (answers, receiver.spans) == ([], [])
    receiver.release()
    thread.join(5)
    assert len(answers) == len(receiver.spans) == 1


def test_a_request_whose_client_gave_up_is_not_taken(receiver):
    receiver.script(Hang())
    with pytest.raises((grpc.RpcError, TimeoutError)):
        call(receiver, timeout=0.2)
    wait_until(lambda: receiver.open_connections == 0)
    receiver.release()
    call(receiver)
    assert len(receiver.requests) == 2
    assert len(receiver.spans) == 1


def test_a_slow_answer_comes_after_all(receiver):
    receiver.script(Slow(0.05))
    call(receiver)
    assert len(receiver.spans) == 1


def test_a_stalled_receiver_reads_nothing_until_it_goes_on(receiver):
    receiver.stall()
    with pytest.raises((grpc.RpcError, TimeoutError)):
        call(receiver, timeout=0.2)
    assert receiver.requests == []
    receiver.unstall()
    receiver.clear()
    call(receiver)
    assert names(receiver)[-1] == "span0"


def test_a_throttled_receiver_still_gets_everything(receiver):
    receiver.throttle(100_000)
    call(receiver, count=200, timeout=20)
    assert len(receiver.spans) == 200


@pytest.mark.parametrize("reset", [False, True])
def test_a_stopped_receiver_refuses_and_comes_back_on_its_port(receiver, reset):
    call(receiver)
    port = receiver.port
    receiver.stop(reset=reset)
    with pytest.raises((grpc.RpcError, urllib.error.URLError)):
        call(receiver)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    receiver.restart()
    call(receiver)
    assert receiver.port == port
    assert len(receiver.spans) == 2
    assert receiver.connections >= 2


def test_stopping_cuts_the_connections_of_clients(receiver):
    with socket.create_connection(("127.0.0.1", receiver.port)) as client:
        wait_until(lambda: receiver.open_connections == 1)
        client.settimeout(5)
        receiver.stop()
        assert receiver.open_connections == 0
        while client.recv(4096):
            pass  # gRPC's greeting


def test_a_receiver_refuses_what_it_cannot_do(grpc_receiver):
    with pytest.raises(TypeError, match="cannot do 500"):
        grpc_receiver.script(Hang(then=500))
    with pytest.raises(ValueError, match="no gRPC status"):
        grpc_receiver.script(GrpcStatus("NO_SUCH"))


def test_other_signals_are_kept_decoded(http_receiver):
    message = metrics_service_pb2.ExportMetricsServiceRequest()
    message.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    request = urllib.request.Request(f"{http_receiver.endpoint}/v1/metrics", data=message.SerializeToString())
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    assert [(request.signal, request.message) for request in http_receiver.requests] == [("metrics", message)]


def test_a_closed_receiver_leaves_no_threads_behind(receiver):
    call(receiver)
    receiver.script(Hang())
    with pytest.raises((grpc.RpcError, TimeoutError)):
        call(receiver, timeout=0.2)
    receiver.close()
    wait_until(lambda: not [thread for thread in threading.enumerate() if "otlp-receiver" in thread.name])


# --- real backends ---------------------------------------------------------------------------------------


def test_a_missing_backend_skips_unless_every_backend_is_required(monkeypatch):
    monkeypatch.setattr(peers, "REQUIRED", False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-tool is not installed; it comes with the moon"):
        peers.find_program("no-such-tool", "the moon")
    monkeypatch.setattr(peers, "REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        peers.find_program("no-such-tool", "the moon")


def test_a_backend_that_ends_at_once_is_not_waited_for(tmp_path):
    peer = peers.PeerProcess(["sh", "-c", "echo the reason; exit 3"], tmp_path / "log")
    peer.start()
    with pytest.raises(AssertionError, match=r"(?s)sh ended with status 3:.the reason"):
        wait_until(peer.must_run, timeout=60)
    peer.stop()
    assert not peer.running


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_collector_understands_and_forwards(collector, protocol):
    if protocol == "grpc":
        exporter = GrpcExporter(endpoint=collector.grpc_endpoint, insecure=True)
    else:
        exporter = HttpExporter(endpoint=f"{collector.http_endpoint}/v1/traces", compression=Compression.Gzip)
    assert exporter.export(make_spans(3)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    collector.receiver.wait_for_spans(3)
    assert {span.name for span in collector.spans} == {"child0", "child1", "parent"}
    assert {span.resource["service.name"] for span in collector.spans} == {"shop"}


def test_the_collector_comes_back_on_its_ports(collector):
    collector.stop(kill=True)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{collector.http_endpoint}/v1/traces", data=b"", timeout=60)
    collector.start()
    exporter = GrpcExporter(endpoint=collector.grpc_endpoint, insecure=True)
    assert exporter.export(make_spans()) is SpanExportResult.SUCCESS
    exporter.shutdown()
    collector.receiver.wait_for_spans(1)


@pytest.fixture
def exposition():
    """A tiny server whose /metrics counts its scrapes: its ``host:port``."""

    class Handler(BaseHTTPRequestHandler):
        scrapes = 0

        def do_GET(self):
            Handler.scrapes += 1
            body = f'# TYPE scrapes_total counter\nscrapes_total{{kind="tiny"}} {Handler.scrapes}\n'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


async def test_prometheus_scrapes_and_answers(prometheus, exposition):
    server = prometheus(exposition)
    await server.scraped()
    first = server.value("scrapes_total")
    (sample,) = server.query('scrapes_total{kind="tiny"}')
    assert (sample.name, sample.labels["kind"]) == ("scrapes_total", "tiny")
    await eventually(lambda: server.value("scrapes_total") > first)
    with pytest.raises(AssertionError, match="gives 0 samples"):
        server.value("no_such_metric")


async def test_prometheus_follows_a_target_that_moves(prometheus, exposition):
    server = prometheus(f"127.0.0.1:{free_port()}")
    await eventually(lambda: [target["health"] for target in server.targets()] == ["down"])
    server.set_targets(exposition)
    await eventually(lambda: server.value("scrapes_total") > 0)


@pytest.mark.peer
def test_promtool_tells_good_from_bad():
    good = "# HELP a_total Something.\n# TYPE a_total counter\na_total 1\n"
    assert check_with_promtool(good) == ""
    assert "no help text" in check_with_promtool("# TYPE a_total counter\na_total 1\n")
    assert check_with_promtool("not an exposition") != ""


def test_a_task_of_a_loop_that_has_ended_is_not_left_for_the_next_test():
    async def leave_something():
        loop = asyncio.get_running_loop()
        otp.run_in_background(loop, asyncio.sleep(60), outlasting=True)
        await asyncio.sleep(0)

    asyncio.run(leave_something())
    assert len(otp.tasks._background) == 1
    forget_everything()
    assert not otp.tasks._background


async def test_a_task_of_a_loop_that_runs_is_left_alone():
    gate = asyncio.get_running_loop().create_future()
    task = otp.run_in_background(asyncio.get_running_loop(), asyncio.wait_for(gate, 60))
    forget_everything()
    assert otp.tasks._background == {task}
    gate.set_result(None)
    await task


def test_uv_looks_for_packages_where_pip_does():
    listed = [
        ":env:.index-url='https://index.example/simple'",
        "global.extra-index-url='https://one.example/simple\\nhttps://two.example/simple'",
        "global.index-url='https://weaker.example/simple'",
        "global.find-links='wheels more'",
        "global.disable-pip-version-check='1'",
    ]
    assert uv.translated(listed) == {
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "wheels,more",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


@pytest.mark.parametrize("forks", [True, False])
def test_a_program_is_run_alike_as_a_fork_and_where_there_are_none(monkeypatch, forks):
    if not forks:
        monkeypatch.delattr("os.pidfd_open")
    text = "import sys, warnings\nprint(sys.argv)\nwarnings.warn('no')"
    done = programs.run(["-c", text, "a b"], options=("-W", "error"), about="", timeout=60)
    assert (done.returncode, done.stdout) == (1, "['-c', 'a b']\n")
    assert done.stderr.endswith("UserWarning: no\n")
