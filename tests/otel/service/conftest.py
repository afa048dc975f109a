"""A receiver with the service in front of it, and nothing left of it afterwards."""

import pytest

from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from otpylib_telemetry_otel.traces import api_spans
from tests.support.chassis import up
from tests.support.telemetry_service import EXPORTER, settings, stop
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
async def _uninstalled(request):
    """No test leaves the service up for the next."""
    yield
    if "runtime" not in request.fixturenames:
        return
    await eventually(lambda: bridge.installed is None, message="the service is uninstalled")
    api_spans._open.clear()


@pytest.fixture
async def receiver(runtime, http_receiver):
    """A receiver, and an exporter and the service in front of it."""
    await start_otel_exporter(settings(http_receiver))
    await up(EXPORTER)
    await start_telemetry_service()
    yield http_receiver
    await stop()
