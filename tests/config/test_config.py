"""Layers into settings: who wins, what is refused, what is hidden."""

import json
from types import MappingProxyType

import pytest
from pydantic import Field, ValidationInfo, field_validator, model_validator

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.problems import check_sections
from otpylib_telemetry.config.resolution import changed_keys, redacted
from otpylib_telemetry.config.resolve import resolve, validate_argument
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry_otel.settings.endpoint import SignalUrl
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings

SECRET = "hunter2-hunter2"


def otel(environ=None, **layers):
    return resolve(OtelSettings, "telemetry.otel", environ=environ or {}, **layers)


def prometheus(environ=None, **layers):
    return resolve(PrometheusSettings, "prometheus", environ=environ or {}, **layers)


def messages(resolution):
    return [problem.message for problem in resolution.problems]


# --- precedence


def test_each_layer_beats_those_below_it():
    environ = {}
    layers = {}
    seen = [(otel().settings.service_name, otel().origins["service_name"])]
    for name, value in (
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=resource"),
        ("OTEL_SERVICE_NAME", "standard"),
        ("TELEMETRY_SERVICE_NAME", "all"),
        ("TELEMETRY_OTEL_SERVICE_NAME", "section"),
    ):
        environ[name] = value
        resolution = otel(environ)
        seen.append((resolution.settings.service_name, resolution.origins["service_name"]))
    for layer in ("config", "argument", "runtime"):
        layers[layer] = {"service_name": layer}
        resolution = otel(environ, **layers)
        seen.append((resolution.settings.service_name, resolution.origins["service_name"]))
        assert resolution.problems == ()
    assert seen == [
        ("otpylib", "default"),
        ("resource", "environment OTEL_RESOURCE_ATTRIBUTES"),
        ("standard", "environment OTEL_SERVICE_NAME"),
        ("all", "environment TELEMETRY_SERVICE_NAME"),
        ("section", "environment TELEMETRY_OTEL_SERVICE_NAME"),
        ("config", "config"),
        ("argument", "argument"),
        ("runtime", "runtime"),
    ]


@pytest.mark.parametrize("layer", ["config", "argument", "runtime"])
def test_none_means_not_set_here(layer):
    resolution = otel(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, **{layer: {"endpoint": None, "x": None}}
    )
    assert resolution.settings.endpoint == "http://c:4317"
    assert resolution.problems == ()


def test_an_empty_variable_counts_as_unset():
    assert otel({"OTEL_SERVICE_NAME": " ", "TELEMETRY_OTEL_BATCH_SIZE": ""}).settings == OtelSettings()


def test_the_section_may_be_named_in_full_or_short():
    for section in ("otel", "telemetry.otel"):
        resolution = resolve(OtelSettings, section, environ={"TELEMETRY_OTEL_BATCH_SIZE": "7"})
        assert resolution.settings.batch_size == 7
        assert resolution.section == "telemetry.otel"


def test_read_only_mappings_and_tuples_are_taken_like_tables_and_lists():
    config = MappingProxyType(
        {
            "resource": MappingProxyType({"a": 1}),
            "headers": MappingProxyType({"x": "y"}),
            "event_patterns": ("a.*", "b.*"),
        }
    )
    settings = otel(config=config).settings
    assert settings.resource == {"a": 1}
    assert settings.connection("traces").headers == {"x": "y"}
    assert settings.event_patterns == ("a.*", "b.*")


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
        ({"OTEL_TRACES_SAMPLER": "xray", "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"}, "sampler", "xray"),
        (
            {"OTEL_TRACES_SAMPLER": "xray", "OTEL_TRACES_SAMPLER_ARG": "endpoint=x"},
            "sampler_argument",
            "endpoint=x",
        ),
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


# --- one bad value


def test_a_bad_value_is_refused_alone():
    resolution = otel(config={"batch_size": "many", "flush_interval": 1, "service_name": "shop"})
    assert resolution.settings.batch_size == 100
    assert resolution.settings.flush_interval == 1.0
    assert resolution.settings.service_name == "shop"
    assert [problem.key for problem in resolution.problems] == ["telemetry.otel.batch_size"]


def test_without_a_previous_configuration_the_next_weaker_valid_value_counts():
    resolution = otel(
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50", "TELEMETRY_BATCH_SIZE": "none"},
        config={"batch_size": True},
        argument={"batch_size": -1},
    )
    assert resolution.settings.batch_size == 50
    assert resolution.origins["batch_size"] == "environment OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
    assert [problem.origin for problem in resolution.problems] == [
        "argument",
        "config",
        "environment TELEMETRY_BATCH_SIZE",
    ]
    assert all(
        message.endswith("50 stays in force (from the environment variable OTEL_BSP_MAX_EXPORT_BATCH_SIZE).")
        for message in messages(resolution)
    )


def test_with_a_previous_configuration_its_value_stays():
    first = otel(argument={"batch_size": 5}, config={"batch_size": 7})
    second = otel(
        argument={"batch_size": 5}, config={"batch_size": 7}, runtime={"batch_size": 0}, previous=first
    )
    assert second.settings.batch_size == 5
    assert second.origins["batch_size"] == "argument"
    assert messages(second) == [
        (
            "telemetry.otel.batch_size (0, an integer) set at runtime is refused: expected a whole "
            "number from 1 to "
            "100000. 5 stays in force (from the start argument)."
        )
    ]


def test_a_key_that_is_no_longer_set_goes_back_to_its_default():
    first = otel(config={"batch_size": 7})
    assert otel(previous=first).settings.batch_size == 100


def test_a_bad_value_below_a_good_one_is_not_complained_about():
    assert otel({"TELEMETRY_BATCH_SIZE": "x"}, config={"batch_size": 5}).problems == ()


# --- values that do not go together


def test_values_that_do_not_go_together_leave_the_previous_ones_in_force():
    first = otel(config={"client_key": "/k", "client_certificate": "/c"})
    assert first.problems == ()
    second = otel(config={"client_key": "/k"}, previous=first)
    assert second.settings.client_certificate == "/c"
    assert messages(second) == [
        (
            "Unsetting telemetry.otel.client_certificate is refused: client_key and client_certificate "
            "are of use "
            "only together. '/c' stays in force (from the configuration)."
        )
    ]
    assert otel(previous=second).settings.client_key is None


def test_what_changed_is_blamed_for_a_conflict():
    first = otel(config={"exporter": "zipkin", "endpoint": "http://zipkin:9411/api/traces"})
    second = otel(config={"exporter": "otlp", "endpoint": "http://zipkin:9411/api/traces"}, previous=first)
    assert second.settings.exporter == "zipkin"
    assert [problem.key for problem in second.problems] == ["telemetry.otel.exporter"]


def test_a_conflict_that_needs_two_keys_to_give_way_refuses_both():
    config = {"compression": "deflate", "client_certificate": "/c"}
    resolution = otel(config=config)
    assert resolution.settings.compression == "none"
    assert resolution.settings.client_certificate is None
    assert len(resolution.problems) == 2


def test_changes_that_go_together_are_accepted_together():
    first = otel(config={"endpoint": "collector:4317"})
    second = otel(config={"endpoint": "http://collector:4318", "protocol": "http/protobuf"}, previous=first)
    assert second.problems == ()
    assert second.settings.connection("traces").protocol == "http/protobuf"


def test_a_plain_model_validator_refuses_all_that_changed_together():
    class Picky(ExporterSettings):
        low: int = Field(1, description="Low.")
        high: int = Field(2, description="High.")

        @model_validator(mode="after")
        def _order(self):
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    first = resolve(Picky, "picky", environ={}, config={"low": 3, "high": 4})
    second = resolve(
        Picky, "picky", environ={}, config={"low": 9, "high": 8, "batch_size": 5}, previous=first
    )
    assert (second.settings.low, second.settings.high) == (3, 4)
    assert second.settings.batch_size == 100
    assert second.problems[0].keys == ("batch_size", "low", "high")
    assert messages(second) == [
        (
            "telemetry.picky.batch_size and telemetry.picky.low and telemetry.picky.high are refused "
            "together: low is "
            "above high. What was in force for them before stays in force."
        )
    ]


def test_a_validator_that_crashes_refuses_the_value_and_nothing_else():
    class Crashing(ExporterSettings):
        target: str = Field("a", description="Where to.")
        other: int = Field(1, description="Another.")

        @field_validator("target")
        @classmethod
        def _crash(cls, value: str, info: ValidationInfo) -> str:
            raise KeyError(value)

    resolution = resolve(Crashing, "crashing", environ={}, config={"target": SECRET, "other": 2})
    assert resolution.settings.target == "a"
    assert resolution.settings.other == 2
    assert "checking it failed with KeyError" in messages(resolution)[0]


# --- placeholders and secrets


def test_placeholders_are_expanded_in_every_layer_but_the_environment():
    environ = {"A": "x", "TELEMETRY_OTEL_SERVICE_NAME": "${A}"}
    assert otel(environ).settings.service_name == "${A}"
    for layer in ("config", "argument", "runtime"):
        assert otel(environ, **{layer: {"service_name": "${A}"}}).settings.service_name == "x"


def test_a_placeholder_may_stand_for_a_number_a_list_or_a_table():
    environ = {"N": "7", "L": "a.*,b.*", "T": "k=v", "F": "false"}
    settings = otel(
        environ,
        config={"batch_size": "${N}", "event_patterns": "${L}", "resource": "${T}", "traces": "${F}"},
    ).settings
    assert settings.batch_size == 7
    assert settings.event_patterns == ("a.*", "b.*")
    assert settings.resource == {"k": "v"}
    assert settings.traces is False


def test_a_placeholder_that_turns_out_empty_counts_as_unset():
    resolution = otel(config={"endpoint": "${NOWHERE:-}", "batch_size": "${NOTHING:-}"})
    assert resolution.settings == OtelSettings()
    assert resolution.problems == ()


def test_an_unset_variable_names_the_key_and_the_variable():
    assert messages(otel(config={"api_key": "${OTLP_KEY}"})) == [
        (
            "telemetry.otel.api_key (a string, not shown) from the configuration is refused: the "
            "environment variable "
            "OTLP_KEY is not set; ${OTLP_KEY:-...} would give it a default. It stays unset."
        )
    ]


def _leaky():
    return otel(
        {"S": SECRET, "OTEL_EXPORTER_OTLP_HEADERS": f"x={SECRET}"},
        config={
            "api_key": SECRET,
            "service_name": "${S}",
            "resource": {"a": "${S}"},
            "endpoint": f"https://u:{SECRET}@host:4317",
        },
    )


def test_secrets_are_known_as_such():
    headers = {"headers", "logs_headers", "metrics_headers"}
    assert _leaky().secrets == {"api_key", *headers, "service_name", "resource"}


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda r: json.dumps(redacted(r)),
        lambda r: repr(r.settings),
        lambda r: str(r.settings.model_dump()),
    ],
)
def test_nothing_that_shows_a_resolution_shows_a_secret(show):
    assert SECRET not in show(_leaky())


def test_redacted_is_plain_data_with_secrets_replaced():
    plain = redacted(_leaky())
    assert plain["api_key"] == plain["headers"] == plain["service_name"] == "<redacted>"
    assert plain["endpoint"] == "https://<redacted>@host:4317"
    assert plain["event_patterns"] == ["*"]
    assert plain["always_keep_slower_than_ms"] is None
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize(
    "config",
    [
        {"api_key": [SECRET]},
        {"api_key": f"{SECRET}\x00"},
        {"headers": SECRET},
        {"headers": {"x": [SECRET]}},
        {"headers": {"x": f"{SECRET}\n"}},
        {"headers": {"x y": SECRET}},
        {"batch_size": "${S}"},
        {"protocol": "${S}"},
        {"span_ttl": "${S}"},
        {"event_patterns": ["${S}", 5]},
        {"resource": {"a": ["${S}", 1]}},
        {"endpoint": "http://${S}:14268"},
        {"endpoint": "${S}"},
        {"endpoint": f"ftp://u:{SECRET}@host"},
        {"endpoint": f"http://u:{SECRET}@host:14268?k={SECRET}"},
        {"exporter": "${S} x"},
        {"client_key": "${S}"},
        {"service_name": "${S}${NOT_SET}"},
        {"enabled": f"{SECRET}${{NOT_SET}}"},
    ],
)
def test_no_message_about_a_secret_contains_it(config):
    resolution = otel({"S": SECRET}, config=config)
    assert len(resolution.problems) == 1
    assert SECRET not in repr(resolution.problems)
    assert SECRET.replace("-", "_") not in repr(resolution)


def test_what_stays_in_force_is_not_shown_if_it_is_secret():
    first = otel({"S": SECRET}, config={"service_name": "${S}"})
    second = otel({"S": SECRET}, config={"service_name": "${S}"}, runtime={"service_name": 5}, previous=first)
    assert messages(second) == [
        (
            "telemetry.otel.service_name (5, an integer) set at runtime is refused: expected a string. "
            "The value from "
            "the configuration stays in force."
        )
    ]
    assert SECRET not in repr(second)


def test_a_table_changed_in_one_entry_still_hides_the_others():
    first = otel({"S": SECRET}, config={"resource": {"a": "${S}"}})
    second = otel({"S": SECRET}, runtime={"resource": {**first.settings.resource, "b": "c"}}, previous=first)
    assert second.settings.resource == {"a": SECRET, "b": "c"}
    assert SECRET not in repr(second)


# --- keys that do not exist


def test_what_merely_says_what_happens_anyway_is_not_complained_about():
    assert otel(config={"metrics": False, "logs": False}).problems == ()
    assert prometheus(config={"metrics": "automatic", "basic_auth": {}}).problems == ()


def test_sections_nobody_reads_are_noticed():
    tables = {
        "otel": {},
        "prometheus": {"kind": "otle"},
        "datadog": {"enabled": True, "api_key": SECRET},
        "promethues": {"port": 1},
        "eu": {"kind": "otel"},
        "us": {"kind": "otle", "enabled": False},
        "asia": {"kind": ["otel"]},
        "batch_size": 5,
    }
    found = check_sections(tables, ["telemetry.otel", "prometheus", "datadog"])
    no_kind = "is no kind of exporter there is: expected one of 'datadog', 'otel', 'prometheus'."
    origin = "from the configuration"
    assert [problem.kind for problem in found] == ["rejected", "unknown", "rejected", "rejected", "unknown"]
    assert [problem.message for problem in found] == [
        (
            f"telemetry.prometheus.kind ('otle', a string) {origin} {no_kind} It remains the section of the "
            "exporter 'prometheus'."
        ),
        (
            "The section [telemetry.promethues] belongs to no exporter; did you mean telemetry.prometheus? "
            "It is ignored."
        ),
        f"telemetry.us.kind ('otle', a string) {origin} {no_kind} The section is ignored.",
        f"telemetry.asia.kind (a list of 1 item) {origin} {no_kind} The section is ignored.",
        "The key telemetry.batch_size belongs to no exporter. It is ignored.",
    ]


# --- the start argument


@pytest.mark.parametrize("argument", [None, {}, {"batch_size": 5}, {"metrics": True}, {"endpoint": None}])
def test_a_right_argument_passes(argument):
    assert validate_argument(OtelSettings, "otel", argument, environ={}) is None


def test_a_wrong_argument_is_refused_with_everything_that_is_wrong_in_it():
    with pytest.raises(ValueError, match="is refused") as caught:
        validate_argument(
            OtelSettings,
            "otel",
            {"batch_size": 0, "endpont": "x", "endpoint": "http://jaeger:14268/api/traces"},
            environ={"TELEMETRY_TIMEOUT": "not the argument's fault"},
        )
    assert str(caught.value).splitlines() == [
        "The start argument of telemetry.otel is refused:",
        (
            "  telemetry.otel.batch_size (0, an integer) from the start argument is refused: expected "
            "a whole number "
            "from 1 to 100000."
        ),
        (
            "  telemetry.otel.endpoint ('http://jaeger:14268/api/traces', a string) from the start "
            "argument is refused: "
            "this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317."
        ),
        (
            "  telemetry.otel.endpont from the start argument is not a known key; did you mean "
            "telemetry.otel.endpoint?"
        ),
    ]


@pytest.mark.parametrize("argument", ["x", ["batch_size"], 5, object()])
def test_an_argument_that_is_no_table_is_refused(argument):
    with pytest.raises(
        ValueError, match=r"^The start argument of telemetry.otel must be a dict of settings, got "
    ):
        validate_argument(OtelSettings, "otel", argument)


def test_the_processes_own_environment_completes_an_argument(monkeypatch):
    with pytest.raises(ValueError, match="OTLP_KEY is not set"):
        validate_argument(OtelSettings, "otel", {"api_key": "${OTLP_KEY}"})
    monkeypatch.setenv("OTLP_KEY", "k")
    assert validate_argument(OtelSettings, "otel", {"api_key": "${OTLP_KEY}"}) is None


# --- comparing


def test_changed_keys_are_those_whose_values_differ():
    old = otel(config={"batch_size": 5, "headers": {"a": "b"}}).settings
    new = otel(config={"batch_size": 6, "headers": {"a": "b"}, "event_patterns": "*"}).settings
    assert changed_keys(old, new) == {"batch_size"}
    assert changed_keys(old, otel(config={"batch_size": 5, "headers": {"a": "c"}}).settings) == {"headers"}


def test_a_problem_is_new_once():
    live = LiveConfig(OtelSettings, "telemetry.otel", {"api_key": 5}, {})
    first = live.new_problems()
    assert [problem.keys for problem in first] == [("api_key",)]
    live.observe({"batch_size": 7})
    assert live.new_problems() == []
    assert list(live.resolution.problems) == first
    live.restart({"api_key": 6}, {})
    assert live.new_problems() == list(live.resolution.problems)


class TestShapesOfSections:
    @pytest.mark.parametrize("table", [[{"port": 9464}], 5, "x"])
    def test_a_section_that_is_no_table_is_said_to_be_none(self, table):
        [problem] = check_sections({"prometheus": table}, {"telemetry.prometheus"})
        assert problem.key == "telemetry.prometheus"
        assert "is not a section: a table [telemetry.prometheus] was expected." in problem.message

    def test_a_private_key_pasted_for_the_name_of_its_file_is_not_shown(self):
        pem = "-----BEGIN PRIVATE KEY-----\nMIIEvSECRET\n-----END PRIVATE KEY-----\n"
        with pytest.raises(ValueError, match="that holds a private key, not shown") as refused:
            validate_argument(OtelSettings, "telemetry.otel", {"client_key": pem})
        assert "SECRET" not in str(refused.value)
