"""What environment variables say about the settings."""

from importlib.metadata import EntryPoint

import pytest

from otpylib_telemetry_otel.settings import environment
from otpylib_telemetry_otel.settings.endpoint import SignalUrl
from tests.config.reading import messages, otel, prometheus

# --- the environment


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"OTEL_SERVICE_NAME": " shop "}, "service_name", "shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=1,b=x%20y%2Cz"}, "resource", {"a": "1", "b": "x y,z"}),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "endpoint", "http://c:4317"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:2"},
            "endpoint",
            "http://t:2",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "protocol", "http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "2.5"}, "timeout", 2.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2"}, "timeout", 2.0),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, "compression", "gzip"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem"}, "certificate", "/ca.pem"),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "true"}, "insecure", True),
        ({"OTEL_TRACES_EXPORTER": "console"}, "exporter", "console"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "traces", False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "console"}, "exporter", "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "console"}, "traces", False),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, "exporter", "otlp"),
        ({"OTEL_PYTHON_ID_GENERATOR": "xray"}, "id_generator", "xray"),
        ({"OTEL_PYTHON_ID_GENERATOR": "random"}, "id_generator", None),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "enabled", False),
        ({"OTEL_SDK_DISABLED": "false"}, "enabled", True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "sampling_rate", 0.25),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "sampling_rate", 1.0),
        ({"OTEL_TRACES_SAMPLER_ARG": "0.25"}, "sampling_rate", 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "sampling_rate", 1.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, "sampling_rate", 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, "sampling_parent_based", True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}, "sampling_parent_based", True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "sampling_parent_based", False),
        ({"OTEL_TRACES_SAMPLER": "always_on", "OTEL_TRACES_SAMPLER_ARG": "1"}, "sampler_argument", None),
        (
            {"TELEMETRY_OTEL_SAMPLING_RULES": '[{"name": "a", "rate": 0}]'},
            "sampling_rules",
            ({"name": "a", "attributes": {}, "rate": 0.0},),
        ),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "always_keep_errors", False),
        ({"OTEL_BSP_SCHEDULE_DELAY": "1500"}, "flush_interval", 1.5),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64"}, "batch_size", 64),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "4096"}, "queue_limit", 4096),
        ({"TELEMETRY_EVENT_PATTERNS": "shop.*, stock.*"}, "event_patterns", ("shop.*", "stock.*")),
        ({"TELEMETRY_EVENT_PATTERNS": '["a,b", "c"]'}, "event_patterns", ("a,b", "c")),
        ({"TELEMETRY_EVENT_PATTERNS": "[a-z]*.stop"}, "event_patterns", ("[a-z]*.stop",)),
        ({"TELEMETRY_OTEL_RESOURCE": '{"a": 1}'}, "resource", {"a": 1}),
        ({"TELEMETRY_OTEL_ENABLED": "off"}, "enabled", False),
        ({"TELEMETRY_OTEL_ALWAYS_KEEP_SLOWER_THAN_MS": "250"}, "always_keep_slower_than_ms", 250.0),
    ],
)
def test_variables_of_the_environment(environ, key, value):
    resolution = otel(environ)
    assert messages(resolution) == []
    assert getattr(resolution.settings, key) == value


@pytest.mark.parametrize("spelt", ["xray", "XRay", " XRAY "])
def test_a_sampler_that_a_package_registers_is_taken(monkeypatch, spelt):
    registered = [EntryPoint("xray", "somewhere:Sampler", "opentelemetry_traces_sampler")]
    monkeypatch.setattr(environment, "entry_points", lambda group: registered if "sampler" in group else [])
    resolution = otel({"OTEL_TRACES_SAMPLER": spelt, "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"})
    assert messages(resolution) == []
    assert (resolution.settings.sampler, resolution.settings.sampler_argument) == ("xray", "endpoint=x")


@pytest.mark.parametrize("name", ["xray", "jaeger_remote", "parentbased_jaeger_remote", "Always", "junk"])
def test_a_sampler_that_nobody_registers_is_warned_of_and_ignored(name):
    resolution = otel({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"})
    (said,) = messages(resolution)
    assert "telemetry.otel.sampler" in said
    assert "OTEL_TRACES_SAMPLER is refused: expected the name of a sampler: always_off, always_on" in said
    assert (resolution.settings.sampler, resolution.settings.sampling_rate) == (None, 1.0)


@pytest.mark.parametrize("name", ["xray", "junk"])
def test_a_sampler_that_a_file_or_a_program_names_is_waited_for(name):
    for resolution in (otel({}, config={"sampler": name}), otel({}, argument={"sampler": name})):
        assert messages(resolution) == []
        assert resolution.settings.sampler == name


@pytest.mark.parametrize("said", ["always_on", "TRACE_BASED", " Always_Off ", "", "never", "off"])
def test_the_filter_of_exemplars(said):
    resolution = otel({"OTEL_METRICS_EXEMPLAR_FILTER": said})
    assert resolution.settings.metrics_exemplars is ("always_off" not in said.lower())
    told = [*messages(resolution), ""][0]
    assert ("expected always_on, always_off or trace_based" in told) == (said in {"never", "off"})


@pytest.mark.parametrize(
    "name", ["Content-Length", "content-encoding", "Transfer-Encoding", "connection", "CONTENT-ENCODING"]
)
def test_what_the_request_says_of_its_body_is_no_header_to_be_set(name):
    resolution = otel({"OTEL_EXPORTER_OTLP_HEADERS": f"{name}=x,team=a"})
    (said,) = messages(resolution)
    assert "expected no header that the request itself decides" in said
    assert resolution.settings.headers.keys() == {"team"}


@pytest.mark.parametrize(
    ("variable", "exporter", "others"),
    [
        ("console,otlp", "console", {}),
        ("not_installed, otlp", "otlp", {}),
        ("not_installed,nor_this", "not_installed", {}),
        ("console,otlp", "console", {"OTEL_TRACES_EXPORTER": "none"}),
    ],
)
def test_of_several_exporters_the_first_that_is_installed_is_taken_and_said(variable, exporter, others):
    name = "OTEL_LOGS_EXPORTER" if others else "OTEL_TRACES_EXPORTER"
    resolution = otel({name: variable, **others})
    assert (resolution.settings.exporter, resolution.settings.logs) == (exporter, True)
    assert resolution.settings.traces is not bool(others)
    (message,) = messages(resolution)
    assert name in message
    assert f"the one taken is '{exporter}'" in message


def test_headers_from_the_environment_are_pairs_with_percent_encoding():
    settings = otel({"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%3Db, X-Team = t=u"}).settings
    assert settings.connection("traces").headers == {"api-key": "a=b", "x-team": "t=u"}


def test_the_address_for_traces_alone_is_used_as_it_is():
    environ = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/custom",
    }
    first = otel(environ)
    assert first.settings.connection("traces").url == "http://c:4318/custom"
    again = otel({}, previous=first, config={"endpoint": "ftp://x"})
    assert isinstance(again.settings.endpoint, SignalUrl)


def test_resource_attributes_of_the_environment_stay_beside_configured_ones():
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=pod-1,team=env"}
    resolution = otel(environ, config={"resource": {"team": "file", "x": 1}})
    assert resolution.settings.resource == {"k8s.pod.name": "pod-1", "team": "file", "x": 1}


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "9100"}, "port", 9100),
        ({"OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0"}, "host", "0.0.0.0"),
        ({"TELEMETRY_PROMETHEUS_BUCKETS": "0.1, 1, 10"}, "buckets", (0.1, 1.0, 10.0)),
        ({"TELEMETRY_PROMETHEUS_LABELS": "region,tier"}, "labels", ("region", "tier")),
        ({"TELEMETRY_PROMETHEUS_LABELS": "all"}, "labels", None),
        ({"TELEMETRY_PROMETHEUS_GLOBAL_LABELS": "region=eu"}, "global_labels", {"region": "eu"}),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_SDK_DISABLED": "true"}, "enabled", True),
    ],
)
def test_variables_for_prometheus(environ, key, value):
    resolution = prometheus(environ)
    assert messages(resolution) == []
    assert getattr(resolution.settings, key) == value


def test_a_misspelt_variable_of_the_section_is_noticed():
    assert messages(prometheus({"TELEMETRY_PROMETHEUS_PROT": "9100"})) == [
        (
            "telemetry.prometheus.prot from the environment variable TELEMETRY_PROMETHEUS_PROT is not "
            "a known key; "
            "did you mean telemetry.prometheus.port? It is ignored."
        )
    ]


@pytest.mark.parametrize(
    "name", ["TELEMETRY_OTEL_EU_ENDPOINT", "TELEMETRY_OTELX", "TELEMETRY_SHOP", "TELEMETRY_OTEL_"]
)
def test_a_variable_that_may_be_somebody_elses_is_left_alone(name):
    assert otel({name: "x"}).problems == ()
