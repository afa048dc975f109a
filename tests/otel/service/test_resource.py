"""Who asks a provider of OpenTelemetry's API for its resource hears the exporter's."""

import pytest
from opentelemetry import _logs, trace
from otpylib import gen_server

from otpylib_telemetry_otel import resources, start_otel_exporter
from otpylib_telemetry_otel.service import start_telemetry_service
from tests.support.chassis import up
from tests.support.telemetry_service import EXPORTER, settings, stop
from tests.support.waiting import eventually

PROVIDERS = {"traces": trace.get_tracer_provider, "logs": _logs.get_logger_provider}


@pytest.mark.parametrize("signal", PROVIDERS)
async def test_the_resource_of_a_provider_is_that_of_the_exporter(runtime, http_receiver, signal):
    await start_otel_exporter(settings(http_receiver, resource={"team": "blue", "odd": "\ud800"}))
    await up(EXPORTER)
    await start_telemetry_service()

    def told():
        return dict(PROVIDERS[signal]().resource.attributes)

    assert (told()["service.name"], told()["team"], told()["odd"]) == ("shop", "blue", "?")
    assert PROVIDERS[signal]().resource is PROVIDERS[signal]().resource
    await gen_server.cast(EXPORTER, ("config_changed", "telemetry.otel.service_name", "shop", "market"))
    await eventually(lambda: told()["service.name"] == "market")
    await stop()
    # What is logged while all ends is this application's still.
    assert told()["service.name"] == "market"


async def test_it_is_known_however_late_the_exporter_comes(runtime, http_receiver):
    await start_telemetry_service({"exporters": ["otel_exporter"]})
    assert trace.get_tracer_provider().resource.attributes["service.name"]
    await start_otel_exporter(settings(http_receiver))
    await eventually(lambda: trace.get_tracer_provider().resource.attributes["service.name"] == "shop")
    await stop()


def test_of_several_exporters_the_first_one_speaks(monkeypatch):
    monkeypatch.setattr(resources, "_published", {})
    resources.publish("b_exporter", {"service.name": "b"})
    resources.speak_for(["a_exporter", "b_exporter"])
    assert resources.current_resource().attributes["service.name"] == "b"
    resources.publish("a_exporter", {"service.name": "a"})
    assert resources.current_resource().attributes["service.name"] == "a"
