"""An operation in which more happens than the exporter's queue holds."""

import pytest

from otpylib_telemetry import execute, otp, span, trace_context
from otpylib_telemetry.exporter import registry
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.chassis import balance
from tests.support.waiting import eventually

NAME = "otel_exporter"
LIMIT = 200


def _ticks(number, context):
    execute("row.imported", {"count": 1}, {"row": number, **context})


def _starts(number, context):
    """The start of the operation, over and over."""
    execute("import.job.start", {}, {"row": number, **context})


def _many_open(number, context):
    execute("never.ended.start", {}, {"span_id": f"{number}", **context})


@pytest.fixture
def receiver():
    with HttpReceiver() as running:
        yield running


@pytest.mark.parametrize("inside", [_ticks, _starts, _many_open])
@pytest.mark.parametrize("wait", [0.0, 300.0])
async def test_what_is_finished_goes_out_while_it_is_open(runtime, receiver, inside, wait):
    """Also where the spans of a trace wait for its end, and so for that of the operation."""
    await start_otel_exporter(
        {
            "endpoint": receiver.endpoint,
            "protocol": "http/protobuf",
            "metrics": False,
            "logs": False,
            "flush_interval": 0.02,
            "batch_size": 10,
            "queue_limit": LIMIT,
            "sampling_wait": wait,
        }
    )
    state = registry.find(NAME)

    async def settled():
        await eventually(lambda: len(state.queue) == 0, message="everything is collected")

    with span("import.job") as job:
        context = {**trace_context(), "span_id": job.context.span_id}
        for number in range(3 * LIMIT):
            inside(number, context)
            if number % 20 == 0:
                await settled()
        await settled()
        assert state.queue.capacity >= LIMIT // 2
        for number in range(20):
            with span("web.request", {"traceparent": None, "n": number}):
                pass
            await settled()
    await otp.safe_call(NAME, ("flush", 30.0), 60.0)
    await eventually(lambda: state.left == state.held_events)
    books = state.books()
    balance(books)
    assert books["dropped"] == {}
    sent = [each.name for each in receiver.spans]
    assert sent.count("import.job") == 1
    assert sent.count("web.request") == 20
