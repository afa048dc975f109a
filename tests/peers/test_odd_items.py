"""What a real collector makes of spans with odd things in them: all arrive, over both protocols."""

import logging

import pytest

from otpylib_telemetry import otp
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from tests.support.chassis import up
from tests.support.ledger import quiet_stats
from tests.support.odd_items import make_all
from tests.support.telemetry_service import EXPORTER, stop
from tests.support.waiting import eventually

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_any_object_anywhere_in_a_span_costs_no_span(runtime, collector, protocol, caplog):
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")
    await start_otel_exporter(
        {
            "endpoint": collector.grpc_endpoint if protocol == "grpc" else collector.http_endpoint,
            "protocol": protocol,
            "service_name": "caf\udce9",
            "flush_interval": 0.02,
            "metrics": False,
            "logs": False,
        }
    )
    await up(EXPORTER)
    await start_telemetry_service()
    expected = make_all()
    report = await otp.safe_call(EXPORTER, ("flush", 60.0), timeout=70.0)
    assert report["left"] == 0, report
    await eventually(lambda: expected <= {each.name for each in collector.spans}, 60)
    assert {each.resource["service.name"] for each in collector.spans if each.name in expected} == {"caf?"}
    assert (await quiet_stats(EXPORTER))["rejected"] == 0
    await stop()
