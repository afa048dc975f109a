"""What is logged in a span, by whatever library, arrives at a collector with the ids of that span."""

import asyncio
import logging

import pytest
from loguru import logger
from otpylib import gen_server

from otpylib_telemetry import otp, span, start_exporter
from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.instrument import loguru as loguru_bridge
from otpylib_telemetry.instrument.otpylib_logger import OtpylibLogger
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.chassis import up


class Intercept(logging.Handler):
    """Has loguru handle what logging does."""

    def emit(self, record):
        logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())


@pytest.fixture(autouse=True)
def _as_before():
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    logger.remove()
    yield
    loguru_bridge.uninstall()
    logger.remove()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize("enqueue", [False, True])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_logs_of_all_three_have_the_ids_of_their_span(
    runtime, http_receiver, grpc_receiver, protocol, enqueue
):
    there = grpc_receiver if protocol == "grpc" else http_receiver
    await start_otel_exporter(
        {
            "endpoint": there.endpoint,
            "protocol": protocol,
            "flush_interval": 0.05,
            "metrics": False,
            "log_severity": "debug",
        }
    )
    await up("otel_exporter")
    await start_exporter(OtpylibLogger, {"level": "DEBUG"})
    async with asyncio.timeout(30):
        while (await otp.safe_call("otpylib_logger", ("get_stats",)))["logger"] is None:
            await asyncio.sleep(0.005)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    loguru_bridge.install(enqueue=enqueue)
    root.addHandler(Intercept())
    logging_bridge.install()
    expected = {}
    for number in range(3):
        with span("shop.order", {"number": number}) as order:
            context = order.context
            logger.bind(order=number).success(f"loguru {number}")
            logging.getLogger("shop").warning("logging %d", number)
            await gen_server.cast(f"nobody-{number}", "x")
        for text in (f"loguru {number}", f"logging {number}", f"[gen_server.cast] target=nobody-{number}"):
            expected[text] = (context.trace_id, context.span_id)
    logger.complete()
    assert (await otp.safe_call("otel_exporter", ("flush", 30.0), 35.0))["left"] == 0
    arrived = [record for record in there.logs if record.body in expected]
    assert len(arrived) == len(expected)
    assert {record.body: (record.trace_id, record.span_id) for record in arrived} == expected
    sent = {(each.trace_id, each.span_id) for each in there.spans if each.name == "shop.order"}
    assert sent == set(expected.values())
    scopes = {record.body: record.scope for record in arrived}
    assert scopes["logging 0"] == "shop"
    levels = {record.body: record.severity for record in arrived}
    assert levels["loguru 0"] == "SUCCESS"
    assert levels["[gen_server.cast] target=nobody-0"] == "DEBUG"
