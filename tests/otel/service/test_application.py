"""TelemetryService("my-application"): all of it in one object, in applications with and without otpylib."""

import os
import textwrap

import pytest

from otpylib_telemetry_otel.service import TelemetryService
from tests.support import programs
from tests.support.telemetry_service import ROOT

WITHOUT_OTPYLIB = """
    import logging
    from opentelemetry import trace

    settings = {"endpoint": ENDPOINT, "protocol": PROTOCOL}
    telemetry = TelemetryService("my-application", service_version="1.0.0", **settings)
    tracer = telemetry.initialize_tracing()
    meter = telemetry.initialize_metrics()
    telemetry.initialize_logging()
    assert telemetry.initialize_tracing() is not None

    sold = meter.create_counter("shop.sold")
    with tracer.start_as_current_span("shop.checkout"):
        with span("shop.pay"):
            sold.add(3, {"country": "de"})
            logging.getLogger("shop").warning("running out of %s", "tea")
    report = telemetry.shutdown().report
    assert report["left"] == 0, report
    assert telemetry.shutdown().report is None

    import threading
    from otpylib.runtime import get_runtime
    assert get_runtime() is None
    ours = [each for each in threading.enumerate() if "otpylib" in each.name]
    for each in ours:
        # One that has handed over what it exported is given the time to end.
        each.join(30)
    assert [each.name for each in ours if each.is_alive()] == []
"""

INSIDE_OTPYLIB = """
    import asyncio, logging
    from otpylib.runtime import set_runtime
    from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

    async def main():
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        settings = {"endpoint": ENDPOINT, "protocol": PROTOCOL}
        async with TelemetryService("my-application", "1.0.0", **settings) as telemetry:
            tracer, meter = telemetry.initialize_tracing(), telemetry.initialize_metrics()
            # Nothing of this waits for the exporter, which is not up yet.
            with tracer.start_as_current_span("shop.checkout"):
                pass
            meter.create_counter("shop.sold").add(3, {"country": "de"})
            telemetry.initialize_logging()
            while otp.whereis("otel_exporter") is None:
                await asyncio.sleep(0.01)
            while (await otp.safe_call("otel_exporter", ("get_config",)))["config"]["logs"] is not True:
                await asyncio.sleep(0.01)
            with span("shop.pay"):
                logging.getLogger("shop").warning("running out of %s", "tea")
        assert otp.whereis("otel_exporter") is None
        await backend.shutdown()

    asyncio.run(main())
"""


def run(program, receiver, protocol="grpc"):
    head = (
        "from otpylib_telemetry import otp, span\n"
        "from otpylib_telemetry_otel.service import TelemetryService\n"
        f"ENDPOINT, PROTOCOL = {receiver.endpoint!r}, {protocol!r}\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    text = head + textwrap.dedent(program)
    done = programs.run(["-c", text], options=("-W", "error"), cwd=ROOT, timeout=120, env=kept)
    assert (done.returncode, done.stderr.replace("running out of tea\n", "")) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.process
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("program", [WITHOUT_OTPYLIB, INSIDE_OTPYLIB], ids=["without", "inside"])
def test_every_signal_arrives_with_the_name_and_version_of_the_application(otlp_receiver, program, protocol):
    run(program, otlp_receiver, protocol)
    spans = {each.name: each for each in otlp_receiver.spans}
    assert set(spans) == {"shop.checkout", "shop.pay"}
    assert spans["shop.checkout"].scope == "my-application"
    assert spans["shop.checkout"].scope_version == "1.0.0"
    for each in (*spans.values(), *otlp_receiver.logs, *otlp_receiver.metrics):
        assert each.resource["service.name"] == "my-application"
        assert each.resource["service.version"] == "1.0.0"
    [record] = [each for each in otlp_receiver.logs if each.body == "running out of tea"]
    assert record.span_id == spans["shop.pay"].span_id
    assert {each.value for each in otlp_receiver.metrics if each.name == "shop.sold"} == {3}


@pytest.mark.process
def test_only_what_is_initialized_is_sent(otlp_receiver):
    program = """
        from opentelemetry import metrics
        with TelemetryService("my-application", endpoint=ENDPOINT) as telemetry:
            with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
                metrics.get_meter("shop").create_counter("shop.sold").add(1)
    """
    run(program, otlp_receiver)
    assert [each.signal for each in otlp_receiver.taken] == ["traces"]


@pytest.mark.process
def test_an_application_that_forgets_to_shut_it_down_loses_nothing_unless_it_ends_at_once(otlp_receiver):
    program = """
        import time
        telemetry = TelemetryService("my-application", endpoint=ENDPOINT)
        for number in range(50):
            with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
                pass
        time.sleep(1)
    """
    run(program, otlp_receiver)
    assert len(otlp_receiver.spans) == 50


@pytest.mark.process
def test_what_ends_before_the_exporter_is_up_is_sent_though_it_is_shut_down_at_once(otlp_receiver):
    program = """
        import asyncio
        from otpylib.runtime import set_runtime
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

        async def main():
            backend = AsyncIOBackend()
            await backend.initialize()
            set_runtime(backend)
            async with TelemetryService("my-application", endpoint=ENDPOINT) as telemetry:
                with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
                    pass
            await backend.shutdown()

        asyncio.run(main())
    """
    run(program, otlp_receiver)
    assert [each.name for each in otlp_receiver.spans] == ["shop.checkout"]


@pytest.mark.process
def test_it_can_be_set_up_again(otlp_receiver):
    program = """
        for round in range(3):
            with TelemetryService(f"application-{round}", endpoint=ENDPOINT) as telemetry:
                with telemetry.initialize_tracing().start_as_current_span(f"round.{round}"):
                    pass
    """
    run(program, otlp_receiver)
    assert [(each.name, each.resource["service.name"]) for each in otlp_receiver.spans] == [
        (f"round.{number}", f"application-{number}") for number in range(3)
    ]


@pytest.mark.process
def test_an_exporter_that_runs_already_is_used_and_left_alone(otlp_receiver):
    program = """
        import asyncio
        from otpylib.runtime import set_runtime
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
        from otpylib_telemetry_otel import start_otel_exporter

        async def main():
            backend = AsyncIOBackend()
            await backend.initialize()
            set_runtime(backend)
            await start_otel_exporter({"endpoint": ENDPOINT, "service_name": "mine"})
            telemetry = TelemetryService("my-application")
            with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
                pass
            assert await telemetry.shutdown() is None
            await otp.safe_call("otel_exporter", ("flush", 30.0))
            await backend.shutdown()

        asyncio.run(main())
    """
    run(program, otlp_receiver)
    assert [(each.name, each.resource["service.name"]) for each in otlp_receiver.spans] == [
        ("shop.checkout", "mine")
    ]


@pytest.mark.process
def test_in_a_thread_beside_the_loop_of_otpylib_it_says_where_to_call_it(otlp_receiver):
    program = """
        import asyncio
        from otpylib.runtime import set_runtime
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

        async def main():
            backend = AsyncIOBackend()
            await backend.initialize()
            set_runtime(backend)
            telemetry = TelemetryService("my-application", endpoint=ENDPOINT)
            try:
                await asyncio.to_thread(telemetry.initialize_tracing)
            except RuntimeError as error:
                print(error)
            telemetry.initialize_tracing()
            await telemetry.shutdown()
            await backend.shutdown()

        asyncio.run(main())
    """
    assert "in a coroutine of the event loop" in run(program, otlp_receiver)


def test_a_wrong_setting_is_refused_where_it_is_given():
    with pytest.raises(ValueError, match=r"endpont.*endpoint"):
        TelemetryService("my-application", endpont="http://localhost:4317")
    for misspelt in ("consol", "Consoles", "cosnole", "otlpp"):
        with pytest.raises(ValueError, match=f"'?{misspelt}.*did you mean '(console|otlp)'"):
            TelemetryService("my-application", exporter=misspelt)
    # What is like nothing that is installed may belong to a package that is still to be.
    TelemetryService("my-application", exporter="zipkin_json")


def test_a_level_that_there_is_not_leaves_nothing_set_up():
    with TelemetryService("my-application") as telemetry:
        with pytest.raises(ValueError, match="level"):
            telemetry.initialize_logging(level="LOUD")
        with TelemetryService("another-application") as other:
            other.initialize_tracing()
