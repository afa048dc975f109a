"""Several instances of one exporter, presets, and which sections start what."""

import logging

import pytest
from otpylib import process

import otpylib_telemetry
import otpylib_telemetry_otel
import otpylib_telemetry_prometheus
from otpylib_telemetry import TomlSource, exporter_child_spec, start_exporter
from otpylib_telemetry.config import resolution as resolution_module
from otpylib_telemetry.config import resolve, sections
from otpylib_telemetry.config.sections import registered_exporters
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.server import instance_of
from otpylib_telemetry.supervision import suite
from otpylib_telemetry_mock.exporter import MockExporterServer
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel import OtelExporter, OtelSettings
from otpylib_telemetry_otel.presets import DatadogBackend, DatadogExporter, DatadogSettings
from otpylib_telemetry_prometheus import PrometheusExporter, PrometheusSettings
from tests.support.chassis import QUICK, books, call, delivered, emit, make_exporter, up
from tests.support.runtime import MemorySource
from tests.support.waiting import eventually

SECRET = "s3cr3t-k3y"


class Installed:
    def __init__(self, module):
        self.load = lambda: module


@pytest.fixture
def installed(monkeypatch):
    """One exporter of the kind x, with a backend per instance: by endpoint, in the order of delivery."""
    module, backend = make_exporter()
    found = {"x": Installed(module), "mock": Installed(MockExporterServer)}
    monkeypatch.setattr(suite, "registered_exporters", lambda: found)
    monkeypatch.setattr(suite, "_LOOK_INTERVAL", 0.05)
    return module, backend


def numbers_at(backend, endpoint):
    pairs = zip(backend.numbers, backend.endpoints, strict=True)
    return [number for number, where in pairs if where == endpoint]


def write(path, text):
    path.write_text(f"[telemetry]\n{text}\n")
    return TomlSource(path)


# --- instances by hand


def test_an_instance_is_named_after_its_section():
    audit = instance_of(OtelExporter, "audit")
    assert (audit.registered_name, audit.section) == ("audit_exporter", "telemetry.audit")
    assert audit.exporter_type is OtelExporter.exporter_type
    assert instance_of(OtelExporter, "audit") is audit
    assert instance_of(PrometheusExporter, "audit") is not audit
    assert instance_of(OtelExporter, "otel") is OtelExporter


@pytest.mark.parametrize("name", ["", "a.b", "1st", "a b", "ä", None, 5, "-x"])
def test_nothing_else_can_be_a_name(name):
    with pytest.raises(ValueError, match="an exporter's name is made of letters, digits, - and _"):
        instance_of(OtelExporter, name)


def test_an_instance_does_not_take_the_name_of_another_exporter():
    with pytest.raises(ValueError, match="'prometheus' is an exporter of its own"):
        instance_of(OtelExporter, "prometheus")


async def test_two_instances_get_every_event_and_keep_books_of_their_own(runtime):
    module, backend = make_exporter()
    await start_exporter(module, {**QUICK, "endpoint": "one"})
    await start_exporter(module, {**QUICK, "endpoint": "two", "event_patterns": ["shop.b*"]}, name="second")
    await up("x_exporter")
    await up("second_exporter")
    emit(5, name="shop.apples")
    emit(5, first=5, name="shop.bread")
    await eventually(lambda: len(backend.delivered) == 15)
    assert numbers_at(backend, "one") == list(range(10))
    assert numbers_at(backend, "two") == list(range(5, 10))
    assert (books("x_exporter")["exported"], books("second_exporter")["exported"]) == (10, 5)
    assert registry.find("x_exporter") is not registry.find("second_exporter")
    stats = await call(("get_stats",), "second_exporter")
    assert (stats["name"], stats["section"]) == ("second_exporter", "telemetry.second")


async def test_an_instance_whose_backend_is_down_does_not_concern_the_other(runtime):
    module, backend = make_exporter()
    await start_exporter(module, {**QUICK, "failure_threshold": 1, "retry_attempts": 0})
    await up("x_exporter")
    backend.always = OSError("down")
    emit(3)
    await eventually(lambda: registry.find("x_exporter").breaker.state == "open")
    backend.always = None
    await start_exporter(module, QUICK, name="second")
    await up("second_exporter")
    emit(4, first=3)
    await eventually(lambda: books("second_exporter")["exported"] == 4)
    assert registry.find("second_exporter").breaker.state == "closed"
    assert books("x_exporter")["queued"] == 7


def test_child_specs_name_instances_and_check_their_arguments():
    spec = exporter_child_spec(OtelExporter, {"service_name": "shop"}, name="audit")
    assert (spec.id, spec.name) == ("audit_exporter_sup", "audit_exporter_sup")
    assert otpylib_telemetry_otel.child_spec(name="audit").id == "audit_exporter_sup"
    assert otpylib_telemetry_prometheus.child_spec({"port": 0}, name="inner").id == "inner_exporter_sup"
    with pytest.raises(ValueError, match=r"telemetry\.audit\.batch_size"):
        exporter_child_spec(OtelExporter, {"batch_size": 0}, name="audit")


# --- what the environment is about


def test_what_a_standard_says_about_an_exporter_is_about_one_of_them():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
        "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET}",
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "team=a",
        "TELEMETRY_BATCH_SIZE": "7",
        "TELEMETRY_AUDIT_FLUSH_INTERVAL": "2",
    }
    first = resolve.resolve(OtelSettings, "telemetry.otel", environ=environ).settings
    assert (first.endpoint, first.sampling_rate) == ("http://collector:4317", 0.0)
    audit = resolve.resolve(OtelSettings, "telemetry.audit", environ=environ, config={"kind": "otel"})
    assert audit.problems == ()
    settings = audit.settings
    assert (settings.endpoint, settings.connection("traces").headers, settings.sampling_rate) == (
        None,
        {},
        1.0,
    )
    assert (settings.service_name, dict(settings.resource)) == ("shop", {"team": "a"})
    assert (settings.batch_size, settings.flush_interval) == (7, 2.0)


def test_a_second_endpoint_for_metrics_is_not_put_on_the_port_of_the_first():
    environ = {"OTEL_EXPORTER_PROMETHEUS_PORT": "9999"}
    assert resolve.resolve(PrometheusSettings, "telemetry.prometheus", environ=environ).settings.port == 9999
    assert resolve.resolve(PrometheusSettings, "telemetry.inner", environ=environ).settings.port == 9464


# --- the suite


async def test_the_suite_starts_an_instance_for_every_section_that_names_a_kind(
    runtime, installed, config_manager, tmp_path, monkeypatch
):
    _, backend = installed
    common = 'event_patterns = "shop.*"\nflush_interval = 0.02'
    first, second = f'endpoint = "one"\n{common}', f'kind = "x"\nendpoint = "two"\n{common}'
    source = write(tmp_path / "config.toml", f"[telemetry.x]\n{first}\n[telemetry.audit]\n{second}")
    monkeypatch.setenv("TELEMETRY_FROM_ENV_KIND", "x")
    monkeypatch.setenv("TELEMETRY_FROM_ENV_ENDPOINT", "three")
    monkeypatch.setenv("TELEMETRY_FROM_ENV_FLUSH_INTERVAL", "0.02")
    await config_manager(source)
    await otpylib_telemetry.start_link({"given": {"kind": "x", "endpoint": "four", **QUICK}})
    for name in ("x", "audit", "from_env", "given"):
        await up(f"{name}_exporter")
    emit(5)
    await eventually(lambda: all(len(numbers_at(backend, n)) >= 5 for n in ("one", "two", "three", "four")))
    for endpoint in ("one", "two", "four"):
        assert numbers_at(backend, endpoint) == list(range(5))
    assert process.whereis("mock_exporter") is None


async def test_an_instance_that_appears_later_is_started_then(runtime, installed, config_manager, tmp_path):
    path = tmp_path / "config.toml"
    source = write(path, "[telemetry.x]\nrate = 2.0")
    await config_manager(source)
    await otpylib_telemetry.start_link()
    await up("x_exporter")
    assert process.whereis("audit_exporter") is None
    write(path, '[telemetry.x]\nrate = 2.0\n[telemetry.audit]\nkind = "x"\nrate = 3.0')
    await eventually(lambda: process.whereis("audit_exporter") is not None)
    await up("audit_exporter")
    assert (await call(("get_config",), "audit_exporter"))["config"]["rate"] == 3.0


async def test_an_instance_that_any_source_brings_later_is_started_then(runtime, installed, config_manager):
    source = MemorySource({"telemetry": {"x": {"rate": 2.0}}})
    await config_manager(source)
    await otpylib_telemetry.start_link()
    await up("x_exporter")
    source.values = {"telemetry": {"x": {"rate": 2.0}, "audit": {"kind": "x", "rate": 3.0}}}
    await eventually(lambda: process.whereis("audit_exporter") is not None)
    await up("audit_exporter")


async def test_a_section_switched_off_starts_no_instance(runtime, installed, config_manager, tmp_path):
    source = write(tmp_path / "c.toml", '[telemetry.audit]\nkind = "x"\nenabled = false\n[telemetry.x]')
    await config_manager(source)
    await otpylib_telemetry.start_link()
    await up("x_exporter")
    assert process.whereis("audit_exporter") is None


async def test_what_is_set_for_all_exporters_starts_none(runtime, installed, monkeypatch):
    monkeypatch.setenv("TELEMETRY_BATCH_SIZE", "50")
    monkeypatch.setenv("TELEMETRY_ENABLED", "true")
    await otpylib_telemetry.start_link()
    assert process.whereis("x_exporter") is None
    assert process.whereis("mock_exporter") is None


@pytest.mark.parametrize("variable", ["TELEMETRY_MOCK_BATCH_SIZE", "TELEMETRY_MOCK_ENABLED"])
async def test_a_variable_with_its_name_starts_an_exporter(runtime, installed, monkeypatch, variable):
    monkeypatch.setenv("TELEMETRY_BATCH_SIZE", "50")
    monkeypatch.setenv(variable, "1")
    await otpylib_telemetry.start_link()
    assert process.whereis("mock_exporter") is not None
    assert process.whereis("x_exporter") is None


def test_the_suite_refuses_a_kind_nobody_registered(installed):
    with pytest.raises(ValueError, match="'audit' cannot be of the kind 'otle'; there is mock, x"):
        otpylib_telemetry.child_spec({"audit": {"kind": "otle"}})
    with pytest.raises(ValueError, match="'x' cannot be of the kind 'mock'"):
        otpylib_telemetry.child_spec({"x": {"kind": "mock"}})
    with pytest.raises(ValueError, match="A further instance of one names it as its kind"):
        otpylib_telemetry.child_spec({"audit": {}})
    with pytest.raises(ValueError, match=r"telemetry\.audit\.rate"):
        otpylib_telemetry.child_spec({"audit": {"kind": "x", "rate": -1}})


# --- sections nobody reads


async def test_sections_nobody_reads_are_said_once(runtime, installed, config_manager, tmp_path, caplog):
    path = tmp_path / "config.toml"
    wrong = '[telemetry.mokc]\nmax_events = 5\n[telemetry.audit]\nkind = "otle"'
    source = write(path, f"[telemetry.x]\n{wrong}")
    await config_manager(source)
    await otpylib_telemetry.start_link()
    await up("x_exporter")
    write(path, f"[telemetry.x]\nrate = 3.0\n{wrong}")
    await eventually(lambda: registry.find("x_exporter").configuration.settings.rate == 3.0)
    assert (
        caplog.text.count("The section [telemetry.mokc] belongs to no exporter; did you mean telemetry.mock?")
        == 1
    )
    assert caplog.text.count("telemetry.audit.kind ('otle', a string) from the configuration is no kind") == 1
    assert process.whereis("audit_exporter") is None


async def test_an_exporter_without_the_suite_says_so_as_well(runtime, config_manager, tmp_path, caplog):
    module, _ = make_exporter()
    await config_manager(write(tmp_path / "config.toml", "[telemetry.x]\n[telemetry.promethues]\nport = 1"))
    await start_exporter(module)
    await up()
    await eventually(lambda: "did you mean telemetry.prometheus?" in caplog.text)
    assert "telemetry.x]" not in caplog.text


def test_a_complaint_is_repeated_only_if_its_cause_went_away_meanwhile(tmp_path, caplog):
    path = tmp_path / "config.toml"
    for text, complaints in (
        ("[telemetry.nobodys]", 1),
        ("[telemetry.nobodys]", 1),
        ("[telemetry.otel]", 1),
        ("[telemetry.nobodys]", 2),
    ):
        source = write(path, text)
        source.refresh()
        sections.report()
        assert caplog.text.count("[telemetry.nobodys] belongs to no exporter") == complaints


# --- OpenTelemetry, for real


async def test_two_opentelemetry_exporters_with_endpoints_and_sampling_of_their_own(runtime):
    common = {"protocol": "http/protobuf", "flush_interval": 0.05, "event_patterns": ["shop.*"]}
    with HttpReceiver() as everything, HttpReceiver() as errors:
        await start_exporter(OtelExporter, {**common, "endpoint": everything.endpoint})
        await start_exporter(
            OtelExporter,
            {
                **common,
                "endpoint": errors.endpoint,
                "sampling_rate": 0.0,
                "sampling_wait": 0.0,
                "headers": {"x-tenant": "audit"},
            },
            name="audit",
        )
        await up("otel_exporter")
        await up("audit_exporter")
        for number in range(10):
            with otpylib_telemetry.span("shop.sale", {"n": number}):
                pass
        with pytest.raises(ValueError, match="out of stock"), otpylib_telemetry.span("shop.refund"):
            raise ValueError("out of stock")
        await eventually(lambda: len(everything.spans) == 11)
        await eventually(lambda: len(errors.spans) == 1)
        assert [span.name for span in errors.spans] == ["shop.refund"]
        assert errors.requests[0].headers["x-tenant"] == "audit"
        assert "x-tenant" not in everything.requests[0].headers
        await eventually(lambda: books("otel_exporter")["exported"] == 22)
        await eventually(lambda: books("audit_exporter")["exported"] == 2)
    assert books("audit_exporter")["sampled_out"] == 20


# --- Datadog


def datadog(**settings):
    return resolve.resolve(DatadogSettings, "telemetry.datadog", environ={}, config=settings)


def test_datadog_needs_a_key_and_nothing_else():
    resolution = datadog(api_key=SECRET)
    settings = resolution.settings
    assert resolution.problems == ()
    assert settings.connection("traces").protocol == "http/protobuf"
    assert settings.connection("traces").url == "https://otlp.datadoghq.com/v1/traces"
    assert settings.connection("traces").headers == {"dd-api-key": SECRET}
    assert SECRET not in repr(settings)
    assert SECRET not in str(resolution_module.redacted(resolution))


@pytest.mark.parametrize(
    ("site", "url"),
    [
        ("datadoghq.eu", "https://otlp.datadoghq.eu/v1/traces"),
        (" us5.datadoghq.com ", "https://otlp.us5.datadoghq.com/v1/traces"),
        ("ap1.datadoghq.com", "https://otlp.ap1.datadoghq.com/v1/traces"),
    ],
)
def test_the_site_decides_where_it_goes(site, url):
    assert datadog(api_key=SECRET, site=site).settings.connection("traces").url == url


@pytest.mark.parametrize("site", ["us5", "https://app.datadoghq.eu", "", 5, ["datadoghq.eu"]])
def test_what_is_no_site_is_refused_and_the_default_stays(site):
    resolution = datadog(api_key=SECRET, site=site)
    assert [problem.key for problem in resolution.problems] == ["telemetry.datadog.site"]
    assert resolution.settings.connection("traces").url == "https://otlp.datadoghq.com/v1/traces"


def test_the_site_may_come_from_the_environment():
    given = {"api_key": "${DD_API_KEY}", "site": "${DD_SITE:-us5.datadoghq.com}"}
    for environ, site in (({}, "us5.datadoghq.com"), ({"DD_SITE": "datadoghq.eu"}, "datadoghq.eu")):
        environ["DD_API_KEY"] = SECRET
        found = resolve.resolve(DatadogSettings, "telemetry.datadog", environ=environ, config=given)
        assert found.problems == ()
        assert found.settings.connection("traces").url == f"https://otlp.{site}/v1/traces"
        assert SECRET not in str(resolution_module.redacted(found)) + repr(found.settings)


def test_what_the_user_sets_goes_before_the_preset():
    settings = datadog(
        api_key=SECRET,
        endpoint="http://localhost:4317",
        protocol="grpc",
        headers={"dd-api-key": "another", "dd-otlp-source": "shop"},
        batch_size=7,
    ).settings
    assert (settings.endpoint, settings.connection("traces").protocol, settings.batch_size) == (
        "http://localhost:4317",
        "grpc",
        7,
    )
    assert settings.connection("traces").headers == {"dd-api-key": "another", "dd-otlp-source": "shop"}


def test_a_site_changed_while_running_moves_the_endpoint():
    before = datadog(api_key=SECRET)
    after = resolve.resolve(
        DatadogSettings,
        "telemetry.datadog",
        environ={},
        config={"api_key": SECRET},
        runtime={"site": "datadoghq.eu"},
        previous=before,
    )
    assert resolution_module.changed_keys(before.settings, after.settings) == {"site", "endpoint"}


def test_the_credentials_of_another_backend_are_not_shown_to_datadog():
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-honeycomb-team=k",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_SERVICE_NAME": "shop",
        "TELEMETRY_DATADOG_API_KEY": SECRET,
    }
    settings = resolve.resolve(DatadogSettings, "telemetry.datadog", environ=environ).settings
    assert settings.connection("traces").url == "https://otlp.datadoghq.com/v1/traces"
    assert settings.connection("traces").headers == {"dd-api-key": SECRET}
    assert settings.service_name == "shop"


async def nothing():
    pass


def test_without_a_key_it_is_idle_and_says_why():
    context = ExportContext("datadog_exporter", "telemetry.datadog", {}, nothing, dict)
    backend = DatadogBackend(DatadogSettings(), context)
    assert backend.idle_reason() == "no api_key is set, and Datadog takes nothing without one"
    assert DatadogBackend(DatadogSettings(api_key="k"), context).idle_reason() is None


async def test_datadog_gets_spans_under_its_own_header(runtime, caplog):
    caplog.set_level(logging.DEBUG)
    with HttpReceiver() as receiver:
        given = {
            "api_key": SECRET,
            "endpoint": receiver.endpoint,
            "flush_interval": 0.05,
            "event_patterns": ["shop.*"],
        }
        await start_exporter(DatadogExporter, given)
        await up("datadog_exporter")
        with otpylib_telemetry.span("shop.sale"):
            pass
        await eventually(lambda: len(receiver.spans) == 1)
        assert receiver.requests[0].headers["dd-api-key"] == SECRET
        assert "authorization" not in receiver.requests[0].headers
    shown = str(await call(("get_config",), "datadog_exporter")) + str(
        await call(("get_stats",), "datadog_exporter")
    )
    assert SECRET not in shown
    assert SECRET not in caplog.text


def test_datadog_is_a_kind_of_its_own():
    assert registered_exporters()["datadog"].load() is DatadogExporter
    second = instance_of(DatadogExporter, "datadog_eu")
    assert second.section == "telemetry.datadog_eu"
    assert second.exporter_type.settings_type is DatadogSettings


async def test_delivered_by_an_instance_counts_for_its_name(runtime):
    module, backend = make_exporter()
    await start_exporter(module, QUICK, name="only")
    await up("only_exporter")
    emit(3)
    await delivered(backend, 3, "only_exporter")
    assert registry.find("x_exporter") is None
