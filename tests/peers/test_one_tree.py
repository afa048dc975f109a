"""An application with auto-instrumentation and events of its own: one tree, from caller to callee."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from opentelemetry import trace
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from otpylib import process
from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp, span, trace_context
from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import SERVICE, start_telemetry_service
from tests.support.chassis import up
from tests.support.ledger import quiet_stats
from tests.support.waiting import eventually

EXPORTER = "otel_exporter"
TREE = {
    "shop.checkout": None,
    "reserve": "shop.checkout",
    "GET": "reserve",
    "stock.lookup": "GET",
    "read shelf": "stock.lookup",
    "shop.card": "shop.checkout",
}


class Stock(BaseHTTPRequestHandler):
    """The other service: it knows of the caller what is in the header."""

    def do_GET(self):
        with (
            span("stock.lookup", {"traceparent": self.headers["traceparent"], "span.kind": "server"}),
            trace.get_tracer("stock").start_as_current_span("read shelf"),
        ):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def stock():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stock)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stock"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def _instrumented():
    RequestsInstrumentor().instrument()
    yield
    RequestsInstrumentor().uninstrument()


@pytest.fixture
async def application(runtime, _instrumented):
    """A function that starts exporter and service; at the end the service is taken down."""

    async def start(endpoint, protocol):
        await start_otel_exporter(
            {
                "endpoint": endpoint,
                "protocol": protocol,
                "service_name": "shop",
                "flush_interval": 0.05,
                "metrics": False,
            }
        )
        await up(EXPORTER)
        await start_telemetry_service()

    yield start
    await otp.end_quietly(process.whereis(SERVICE))
    await eventually(lambda: bridge.installed is None)


def call(url):
    with requests.Session() as session:
        assert session.get(url, timeout=10).status_code == 200


async def check_out(url):
    async with span("shop.checkout"):
        with trace.get_tracer("shop").start_as_current_span("reserve"):
            await asyncio.to_thread(call, url)
        async with span("shop.card"):
            await asyncio.sleep(0)


def is_one_tree(spans):
    """Exactly the expected spans, of one trace, each below its parent."""
    found = {each.name: each for each in spans}
    assert sorted(each.name for each in spans) == sorted(TREE)
    assert len({each.trace_id for each in spans}) == 1
    for name, parent in TREE.items():
        assert found[name].parent_span_id == (found[parent].span_id if parent else ""), name
    assert (found["GET"].kind, found["stock.lookup"].kind) == ("CLIENT", "SERVER")
    assert {each.resource["service.name"] for each in spans} == {"shop"}
    assert found["GET"].scope == "opentelemetry.instrumentation.requests"
    assert found["stock.lookup"].scope == "otpylib_telemetry"
    return True


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_request_and_what_is_around_and_behind_it_are_one_tree(
    application, stock, protocol, grpc_receiver, http_receiver
):
    receiver = grpc_receiver if protocol == "grpc" else http_receiver
    await application(receiver.endpoint, protocol)
    await check_out(stock)
    await eventually(lambda: is_one_tree(receiver.spans))
    books = await quiet_stats(EXPORTER)
    # Three spans of two events each and three of one.
    assert (books["accepted"], books["exported"]) == (9, 9)


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_a_real_collector_sees_the_same_tree(application, stock, protocol, collector):
    await application(collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint, protocol)
    await check_out(stock)
    await eventually(lambda: is_one_tree(collector.spans), timeout=60)


async def test_many_at_once_are_as_many_trees(application, stock, http_receiver):
    await application(http_receiver.endpoint, "http/protobuf")
    await asyncio.gather(*(check_out(stock) for _ in range(20)))
    await eventually(lambda: len(http_receiver.spans) == 20 * len(TREE))
    traces = {}
    for each in http_receiver.spans:
        traces.setdefault(each.trace_id, []).append(each)
    assert len(traces) == 20
    assert all(is_one_tree(spans) for spans in traces.values())


async def test_through_a_message_the_tree_goes_on_in_another_process(application, stock, http_receiver):
    await application(http_receiver.endpoint, "http/protobuf")

    async def handle_call(_self, message, _from, state):
        url, context = message
        async with span("till.fetch", context):
            await asyncio.to_thread(call, url)
        return (Reply(payload="done"), state)

    async def ignore(_self, _message, state):
        return (NoReply(), state)

    async def init(_self, _arg):
        return None

    async def terminate(_self, _reason, _state):
        """Nothing to do."""

    callbacks = {"init": init, "handle_call": handle_call, "handle_cast": ignore, "handle_info": ignore}
    till = otp.server_module(
        "Till", {**callbacks, "terminate": terminate}, default_name="till", module=__name__, doc="A till."
    )
    await till.start_link(name="till")
    with trace.get_tracer("shop").start_as_current_span("pay"):
        assert await otp.safe_call("till", (stock, trace_context())) == "done"
    await eventually(lambda: len(http_receiver.spans) == 5)
    found = {each.name: each for each in http_receiver.spans}
    above = {"till.fetch": "pay", "GET": "till.fetch", "stock.lookup": "GET", "read shelf": "stock.lookup"}
    for name, parent in above.items():
        assert found[name].parent_span_id == found[parent].span_id
    await otp.end_quietly(process.whereis("till"))
