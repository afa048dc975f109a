"""The service in programs of their own, because a global provider is for good."""

import os
import subprocess
import sys

import pytest

from tests.support.telemetry_service import ROOT, run


def test_importing_it_has_no_effect_and_loads_no_opentelemetry():
    code = (
        "import sys, otpylib_telemetry_otel.service as s, otpylib_telemetry.tracing.bridge as b\n"
        "assert b.installed is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_a_meter_provider_of_the_applications_own_keeps_its_metrics(http_receiver):
    done = run(
        """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
        await start_otel_exporter(settings)
        await start_telemetry_service()
        metrics.get_meter("shop").create_counter("sales").add(1)
        said = (await stats())["signals"]
        assert said["traces"] == said["logs"] == "running", said
        assert "opentelemetry.sdk.metrics._internal.MeterProvider" in said["metrics"], said
        assert reader.get_metrics_data().resource_metrics
        """,
        http_receiver,
    )
    assert "its metrics go where that one sends them" in done.stderr


def test_a_meter_provider_for_prometheus_writes_for_the_service_as_well(http_receiver):
    run(
        """
        from opentelemetry import metrics
        from otpylib_telemetry.aggregation.exporter_stores import store_of
        from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
        metrics.set_meter_provider(PrometheusMeterProvider())
        sales = metrics.get_meter("shop").create_counter("sales")
        sales.add(1)
        await start_otel_exporter(settings)
        await start_telemetry_service()
        sales.add(2)
        def seen(name):
            return [s.value for m in store_of(name).metrics for s in m.all_series() if "sales" in m.name]
        assert (seen("prometheus_exporter"), seen("otel_exporter")) == ([3], [2])
        assert (await stats())["signals"]["metrics"] == "running"
        from otpylib import process
        await otp.end_quietly(process.whereis("telemetry_service"))
        await asyncio.sleep(0.3)
        sales.add(4)
        assert (seen("prometheus_exporter"), seen("otel_exporter")) == ([7], [2])
        """,
        http_receiver,
    )


def test_a_forked_child_leaves_what_the_service_installed_to_its_parent(http_receiver):
    run(
        """
        import os
        from opentelemetry import metrics
        from otpylib_telemetry.aggregation.exporter_stores import store_of
        await start_otel_exporter(settings)
        await start_telemetry_service()
        sales = metrics.get_meter("shop").create_counter("sales")
        sales.add(1)
        child = os.fork()
        if child == 0:
            sales.add(1)
            os._exit(len(store_of("otel_exporter").metrics))
        assert os.waitpid(child, 0)[1] == 0
        """,
        http_receiver,
    )


def test_without_the_service_the_api_is_left_alone():
    run("""
        await start_otel_exporter({"exporter": "console"})
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        with span("shop.checkout"):
            assert not trace.get_current_span().get_span_context().is_valid
    """)


def test_switched_off_by_the_environment_it_installs_nothing():
    run(
        """
        await start_telemetry_service()
        found = await stats()
        assert (found["state"], found["reason"]) == ("disabled", "OTEL_SDK_DISABLED is true"), found
        assert type(trace.get_tracer_provider()).__name__ == "ProxyTracerProvider"
        assert context_bridge.installed is None
        await asyncio.sleep(0.6)
    """,
        OTEL_SDK_DISABLED="TRUE",
    )


def test_the_variables_of_the_standard_hold(http_receiver):
    run(
        """
        settings = {"flush_interval": 0.05}
        await start_otel_exporter(settings)
        await start_telemetry_service()
        with trace.get_tracer("t").start_as_current_span("pay") as made:
            made.set_attribute("word", "too long a word")
            made.set_attribute("more", 1)
        await flush()
    """,
        OTEL_EXPORTER_OTLP_ENDPOINT=http_receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        OTEL_SERVICE_NAME="till",
        OTEL_RESOURCE_ATTRIBUTES="region=north",
        OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT="1",
        OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT="3",
        OTEL_TRACES_SAMPLER="always_on",
    )
    (found,) = http_receiver.spans
    assert (found.resource["service.name"], found.resource["region"]) == ("till", "north")
    assert (found.attributes, found.dropped_attributes) == ({"more": 1}, 1)


def test_a_provider_of_the_application_keeps_its_own_and_gives_us_ours(http_receiver):
    run(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, ALWAYS_ON
        theirs = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, sampler=ParentBased(ALWAYS_ON))
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        trace.set_tracer_provider(provider)
        await start_otel_exporter(settings)
        tracer = trace.get_tracer("t")
        for number in (1, 2):
            await start_telemetry_service()
            assert trace.get_tracer_provider() is provider
            assert (await stats())["provider"] == "the application"
            with span("shop.checkout"), tracer.start_as_current_span(f"up {number}"): pass
            pid = otp.whereis("telemetry_service")
            await otp.end_quietly(pid)
            await asyncio.sleep(0.1)
            with tracer.start_as_current_span(f"down {number}"): pass
        await flush()
        names = [each.name for each in theirs.get_finished_spans()]
        assert names == ["up 1", "down 1", "up 2", "down 2"], names
    """,
        http_receiver,
    )
    names = [each.name for each in http_receiver.spans]
    assert sorted(names) == ["shop.checkout", "shop.checkout", "up 1", "up 2"]
    [up] = [each for each in http_receiver.spans if each.name == "up 1"]
    [around] = [each for each in http_receiver.spans if each.span_id == up.parent_span_id]
    assert (around.name, around.trace_id) == ("shop.checkout", up.trace_id)


def test_what_the_sampler_of_the_application_left_out_stays_out(http_receiver):
    run(
        """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
        class OnlyRecord(Sampler):
            def should_sample(self, parent, trace_id, name, *rest, **more):
                keep = name == "kept"
                return SamplingResult(Decision.RECORD_AND_SAMPLE if keep else Decision.RECORD_ONLY)
            def get_description(self): return "x"
        trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False, sampler=OnlyRecord()))
        await start_otel_exporter(settings)
        await start_telemetry_service()
        for name in ("left out", "kept"):
            with trace.get_tracer("t").start_as_current_span(name): pass
        await flush()
    """,
        http_receiver,
    )
    assert [each.name for each in http_receiver.spans] == ["kept"]


def test_a_provider_that_takes_no_processor_is_named_and_our_own_spans_go_on(http_receiver):
    done = run(
        """
        import logging
        logging.basicConfig()
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        await start_otel_exporter(settings)
        await start_telemetry_service()
        found = await stats()
        assert found["state"] == "idle", found
        assert "NoOpTracerProvider" in found["reason"], found
        assert context_bridge.installed is None
        with span("shop.checkout"): pass
        await flush()
    """,
        http_receiver,
    )
    assert "telemetry_service is idle" in done.stderr
    assert [each.name for each in http_receiver.spans] == ["shop.checkout"]


def test_without_opentelemetry_it_says_what_to_install():
    done = run("""
        import logging
        logging.basicConfig()
        for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
            del sys.modules[name]
        sys.modules["opentelemetry"] = None
        sys.modules["opentelemetry.context"] = None
        await start_telemetry_service()
        found = await stats()
        assert found["state"] == "idle", found
        assert "otpylib-telemetry[otel]" in found["reason"], found
    """)
    assert "pip install" in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_it_to_its_parent(http_receiver):
    run(
        """
        await start_otel_exporter(settings)
        await start_telemetry_service()
        tracer = trace.get_tracer("t")
        with tracer.start_as_current_span("parent"): pass
        warnings.simplefilter("ignore")
        child = os.fork()
        if child == 0:
            try:
                with tracer.start_as_current_span("child") as made:
                    assert not made.is_recording()
                with span("shop.child"):
                    assert context_bridge.installed is None
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        await flush()
    """,
        http_receiver,
    )
    assert [each.name for each in http_receiver.spans] == ["parent"]


def test_at_the_end_of_the_program_everything_that_had_ended_is_exported(http_receiver):
    run(
        """
        settings["flush_interval"] = 3600.0
        await start_otel_exporter(settings)
        await start_telemetry_service()
        for number in range(50):
            with trace.get_tracer("t").start_as_current_span("pay"): pass
        await is_up()
    """,
        http_receiver,
    )
    assert len(http_receiver.spans) == 50
