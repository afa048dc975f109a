"""What becomes of spans that are open while the exporter is switched off and on again."""

from otpylib import gen_server

from otpylib_telemetry import execute, otp, span, trace_context
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.chassis import balance, up
from tests.support.telemetry_service import EXPORTER, settings

KEY = "telemetry.otel.enabled"


async def switch(*, on):
    await gen_server.cast(EXPORTER, ("config_changed", KEY, not on, on))
    # It answers when that is in force.
    config = await otp.safe_call(EXPORTER, ("get_config",), timeout=20.0)
    assert config["config"]["enabled"] is on


async def test_no_span_arrives_twice_and_each_trace_stays_whole(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver, metrics=False, logs=False))
    await up(EXPORTER)
    execute("shop.paired.start", {}, {"correlation_id": "order-7"})
    with span("shop.across") as across:
        trace_id = across.context.trace_id
        await switch(on=False)
        with span("shop.while_off"):
            assert trace_context()["traceparent"].split("-")[1] == trace_id
            with span("shop.into_on"):
                await switch(on=True)
                await up(EXPORTER)
                with span("shop.again"):
                    pass
    execute("shop.paired.stop", {}, {"correlation_id": "order-7"})
    assert (await otp.safe_call(EXPORTER, ("flush", 30.0), timeout=40.0))["left"] == 0
    reason = "otpylib.telemetry.incomplete"
    arrived = [(each.name, each.attributes.get(reason)) for each in http_receiver.spans]
    assert arrived.count(("shop.across", "shutdown")) == 1
    assert arrived.count(("shop.paired", "shutdown")) == 1
    assert arrived.count(("shop.again", None)) == 1
    assert [name for name, _ in arrived].count("shop.across") == 1
    ids = [each.span_id for each in http_receiver.spans]
    assert len(ids) == len(set(ids))
    of_trace = {each.name for each in http_receiver.spans if each.trace_id == trace_id}
    assert {"shop.across", "shop.again"} <= of_trace
    balance(await otp.safe_call(EXPORTER, ("get_stats",), timeout=20.0))
