"""The collector refuses, hangs and resets under load: the application goes on, and nothing is lost."""

import asyncio

import pytest

from otpylib_telemetry import attach, execute, otp, span
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, GrpcStatus, HttpReceiver, HttpStatus, Ok, Reset
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.ledger import quiet_stats, stats_of
from tests.support.waiting import eventually

SETTINGS = {
    "event_patterns": ["shop.*"],
    "metrics": False,
    "flush_interval": 0.05,
    "batch_size": 64,
    "timeout": 0.4,
    "failure_threshold": 3,
    "reset_timeout": 0.2,
    "retry_attempts": 1,
}


@pytest.fixture(params=[GrpcReceiver, HttpReceiver], ids=["grpc", "http"])
def receiver(request):
    with request.param() as receiver:
        yield receiver


class Load:
    """Operations without end, each with a number, at a pace that leaves the loop time for others."""

    def __init__(self):
        self.count = 0
        self.going = True

    async def run(self):
        while self.going:
            for _ in range(10):
                with span("shop.work") as work:
                    work.metadata["number"] = self.count
                    self.count += 1
            await asyncio.sleep(0.005)


async def start(receiver, **settings):
    protocol = "grpc" if isinstance(receiver, GrpcReceiver) else "http/protobuf"
    await start_otel_exporter({**SETTINGS, "endpoint": receiver.endpoint, "protocol": protocol, **settings})


async def test_what_the_queue_can_hold_arrives_once_after_every_kind_of_outage(runtime, receiver):
    transitions = []
    await attach(
        "watch", "telemetry.breaker.*", lambda name, _m, _d: transitions.append(name.rsplit(".")[-1])
    )
    refusal = GrpcStatus("UNAVAILABLE") if isinstance(receiver, GrpcReceiver) else HttpStatus(503)
    await start(receiver)
    load = Load()
    working = asyncio.create_task(load.run())
    await eventually(lambda: len(receiver.spans) > 200)

    # First no request is taken any more: an answer that is cut off would have its batch sent twice, rightly.
    receiver.always(refusal)
    await eventually(lambda: breaker_is("open"))
    receiver.stop()  # connections are refused
    receiver.always(Ok())
    failures = (await stats_of("otel_exporter"))["export_failures"]
    await eventually(lambda: failures_at_least(failures + 2))
    receiver.restart()
    await eventually(lambda: breaker_is("closed"))

    receiver.stall()  # accepted, never read, never answered
    await eventually(lambda: breaker_is("open"))
    receiver.stop(reset=True)
    receiver.restart()
    await eventually(lambda: breaker_is("closed"))

    receiver.always(Reset())  # read, then the connection is reset
    await eventually(lambda: breaker_is("open"))
    receiver.always(Ok())
    await eventually(lambda: breaker_is("closed"))

    receiver.always(refusal)
    await eventually(lambda: breaker_is("open"))
    receiver.always(Ok())

    load.going = False
    await working
    stats = await quiet_stats("otel_exporter", timeout=60)
    numbers = [each.attributes["number"] for each in receiver.spans]
    assert sorted(numbers) == list(range(load.count))
    assert stats["accepted"] == stats["exported"] == 2 * load.count
    assert stats["dropped"] == {}
    assert transitions.count("opened") >= 4
    assert transitions.count("closed") >= 4


async def test_a_queue_that_is_full_is_bounded_and_counts_what_it_refuses(runtime, receiver):
    receiver.stop()
    await start(receiver, queue_limit=1000, reset_timeout=600)
    for number in range(3000):
        with span("shop.work", {"number": number}):
            pass
        if number % 100 == 0:
            await asyncio.sleep(0.01)
            stats = await stats_of("otel_exporter")
            assert stats["queued"] + stats["in_flight"] <= 1000
    stats = await stats_of("otel_exporter")
    assert stats["accepted"] == 6000
    assert stats["dropped"] == {"queue_full": 5000}
    receiver.restart()


async def test_the_log_speaks_once_of_an_outage_and_once_of_its_end(runtime, receiver, caplog):
    caplog.set_level("INFO")
    receiver.stop()
    # Connections are refused at once. A time-out would only be another outage, on a machine that is busy.
    await start(receiver, timeout=60)
    load = Load()
    working = asyncio.create_task(load.run())
    await eventually(lambda: failures_at_least(6))
    receiver.restart()
    await eventually(lambda: breaker_is("closed") if receiver.spans else False)
    load.going = False
    await working
    await quiet_stats("otel_exporter")
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "cannot export" in text]) == 1, said
    assert len([text for text in said if "again after" in text]) == 1, said
    assert len(said) <= 4, said


async def test_one_hanging_export_blocks_neither_intake_nor_calls_nor_shutdown(runtime, receiver):
    receiver.stall()
    await start(receiver, timeout=600, shutdown_timeout=0.3)
    for number in range(200):
        with span("shop.work", {"number": number}):
            pass
    await eventually(in_flight)
    execute("shop.more", {"count": 1}, {})
    stats = await stats_of("otel_exporter", timeout=60)
    assert stats["accepted"] == 401
    assert stats["in_flight"] > 0
    await runtime.shutdown()
    # The fixture fails the test if the exporter's process has not ended within its grace.


async def breaker_is(state):
    return (await stats_of("otel_exporter"))["breaker"] == state


async def failures_at_least(count):
    return (await stats_of("otel_exporter"))["export_failures"] >= count


async def in_flight():
    return (await stats_of("otel_exporter"))["in_flight"]


async def test_a_drain_that_runs_out_of_time_says_so(runtime, receiver, caplog):
    receiver.stall()
    await start(receiver, timeout=600)
    with span("shop.work"):
        pass
    await eventually(in_flight)
    report = await otp.safe_call("otel_exporter", ("drain", 0.3))
    assert report == {"exported": 0, "left": 2, "reason": "time is up"}
    assert "otel_exporter was drained with 2 events left: time is up." in caplog.text


async def test_a_flush_right_after_the_start_waits_for_the_exporter(runtime, receiver):
    await start(receiver, timeout=60)
    with span("shop.work"):
        pass
    report = await otp.safe_call("otel_exporter", ("flush", 60.0), timeout=60)
    assert report == {"exported": 2, "left": 0, "reason": None}
    assert len(receiver.spans) == 1


def heard(caplog):
    return [
        record.getMessage().partition(" again after ")[0].partition(": ")[0]
        for record in caplog.records
        if " cannot export" in record.getMessage() or " again after " in record.getMessage()
    ]


async def emit_both():
    with span("shop.work"):
        pass
    execute("shop.closed", {}, {"message": "good night"})


async def test_an_outage_that_spans_and_logs_suffer_from_is_one(runtime, receiver, caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    await start(receiver, timeout=60)
    await emit_both()
    await quiet_stats("otel_exporter")
    receiver.stop()
    await emit_both()
    await eventually(lambda: failures_at_least(5))
    receiver.restart()
    await eventually(lambda: len(receiver.spans) == 2)
    await quiet_stats("otel_exporter")
    await eventually(lambda: len(heard(caplog)) == 2)
    assert heard(caplog) == ["otel_exporter cannot export", "otel_exporter exports"]
    failures = (await stats_of("otel_exporter"))["export_failures"]
    assert f"otel_exporter exports again after {failures} failed attempts; 0 events wait." in caplog.text


async def test_logs_that_are_refused_while_spans_are_taken_are_named(runtime, receiver, caplog):
    caplog.set_level("INFO", logger="otpylib_telemetry")
    refusing = (GrpcReceiver if isinstance(receiver, GrpcReceiver) else HttpReceiver)()
    with refusing:
        refusing.default = (
            GrpcStatus("PERMISSION_DENIED") if isinstance(receiver, GrpcReceiver) else HttpStatus(403)
        )
        await start(receiver, logs_endpoint=refusing.endpoint, timeout=60)
        for count in range(1, 4):
            await emit_both()
            await eventually(lambda count=count: len(receiver.spans) == count and refusing.requests)
        refusing.default = Ok()
        await emit_both()
        await eventually(lambda: len(heard(caplog)) == 2)
        # They have waited meanwhile.
        await eventually(lambda: len(refusing.logs) == 4)
    assert heard(caplog) == ["otel_exporter cannot export logs", "otel_exporter exports logs"]
    assert (await quiet_stats("otel_exporter"))["rejected"] == 0
