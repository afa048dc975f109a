"""The settings classes: defaults, documentation, what they hide, what the OpenTelemetry ones mean."""

import json
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretBytes, SecretStr, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from otpylib_telemetry import Exporter, exporter_module
from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.config.field_types import Number, OptionalText
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.problems import check_sections
from otpylib_telemetry.config.refusals import Conflict
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.config.settings import ExporterSettings, field_extra
from otpylib_telemetry.instrument.actors import InstrumentSettings
from otpylib_telemetry.instrument.otpylib_logger import OtpylibLoggerSettings
from otpylib_telemetry.poller import PollerSettings
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.settings.environment import OTLP_OPTIONS, otlp_variable
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from scripts.sample import completed

EXPORTERS = {"otel": OtelSettings, "prometheus": PrometheusSettings, "mock": MockSettings}
ALL = {
    **EXPORTERS,
    "instrument": InstrumentSettings,
    "otpylib_logger": OtpylibLoggerSettings,
    "poller": PollerSettings,
    "admin": AdminSettings,
}
SAMPLE = Path(__file__).parents[2] / "config.toml"


@pytest.mark.parametrize("settings_type", [ExporterSettings, *ALL.values()])
def test_every_key_has_a_description_and_a_default_that_is_valid(settings_type):
    settings = settings_type()
    assert settings_type.model_validate({key: getattr(settings, key) for key in settings_type.model_fields})
    for key, field in settings_type.model_fields.items():
        assert field.description, key
        assert field.description.endswith("."), key
        assert not field.is_required(), key


@pytest.mark.parametrize("settings_type", EXPORTERS.values())
def test_the_defaults_every_section_has(settings_type):
    settings = settings_type()
    assert settings.enabled is True
    assert settings.event_patterns == ("*",)
    assert settings.batch_size == 100
    assert settings.flush_interval == 5.0
    assert settings.retry_attempts == 3
    assert settings.queue_limit == 100_000
    assert settings.failure_threshold == 5
    assert settings.reset_timeout == 60.0
    assert settings.shutdown_timeout == 5.0


def test_the_defaults_of_opentelemetry():
    settings = OtelSettings()
    assert settings.service_name == "otpylib"
    assert settings.resource == {}
    assert settings.endpoint is None
    assert (settings.exporter, settings.protocol, settings.compression) == ("otlp", "grpc", "none")
    assert settings.api_key is None
    assert settings.headers == {}
    assert settings.timeout == 10.0
    assert (settings.certificate, settings.client_key, settings.client_certificate) == (None, None, None)
    assert settings.insecure is False
    assert settings.sampling_rate == 1.0
    assert settings.always_keep_errors is True
    assert settings.always_keep_slower_than_ms is None
    assert settings.sampling_parent_based is False
    assert settings.sampling_rules == ()
    assert (settings.sampler, settings.sampler_argument) == (None, None)
    assert settings.max_spans_per_second is None
    assert (settings.sampling_wait, settings.max_held_spans) == (1.0, 20_000)
    assert settings.traces is True
    assert (settings.max_active_spans, settings.span_ttl) == (10_000, 300.0)
    assert settings.connection("logs") == settings.connection("traces")


def test_the_defaults_of_prometheus():
    settings = PrometheusSettings()
    assert (settings.port, settings.host, settings.path) == (9464, "127.0.0.1", "/metrics")
    assert settings.namespace is None
    assert settings.global_labels == {}
    assert settings.labels is None
    assert {"correlation_id", "trace_id", "span_id", "parent_span_id", "error"} <= set(settings.drop_labels)
    assert (settings.buckets[0], settings.buckets[-1]) == (0.005, 10.0)
    assert settings.max_series == 2000
    assert settings.span_metrics is True


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        OtelSettings().batch_size = 5


def test_a_key_without_a_default_is_refused_when_the_class_is_written():
    with pytest.raises(TypeError, match=r"Needy\.target needs a default"):

        class Needy(ExporterSettings):
            target: str = Field(description="Where to.")


def test_a_key_of_a_type_that_nothing_can_be_checked_for_is_refused_when_the_exporter_is_made():
    class Odd(ExporterSettings):
        target: threading.Thread | None = Field(None, description="Where to.")

    class OddExporter(Exporter[Odd]):
        settings_type = Odd

        async def export(self, batch):
            """Take it."""

    with pytest.raises(PydanticSchemaGenerationError, match="Thread"):
        exporter_module("Odd", OddExporter, name="odd", section="telemetry.odd", module=__name__)


def test_what_is_only_inherited_from_costs_no_import_a_validator():
    program = """
        import otpylib_telemetry.poller, otpylib_telemetry_otel, otpylib_telemetry_prometheus
        from otpylib_telemetry.config.settings import SectionSettings
        from otpylib_telemetry.metrics.options import Checked
        left = [SectionSettings, Checked]
        for each in left:
            left += each.__subclasses__()
        print(*sorted({each.__name__ for each in left if each.__pydantic_complete__}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["OtelSettings", "PrometheusSettings"]


# --- secrets

SECRET = "hunter2-hunter2"


def _with_secrets():
    return OtelSettings(
        api_key=SECRET,
        headers={"x-token": SECRET},
        endpoint=f"https://user:{SECRET}@collector.example:4318/?key={SECRET}",
        protocol="http/protobuf",
        service_name=SECRET,
    ).hiding({"service_name"})


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda settings: f"{settings}",
        lambda settings: str(settings.model_dump()),
        lambda settings: json.dumps(settings.model_dump(mode="json")),
        lambda settings: settings.model_dump_json(),
        lambda settings: repr(settings.headers),
        lambda settings: repr(settings.model_copy()),
        lambda settings: repr(pickle.loads(pickle.dumps(settings))),  # noqa: S301  # our own pickle
    ],
)
def test_nothing_that_shows_settings_shows_a_secret(show):
    assert SECRET not in show(_with_secrets())


def test_what_is_not_secret_is_shown():
    shown = repr(_with_secrets())
    assert "collector.example" in shown
    assert "batch_size=100" in shown


def test_an_unset_secret_is_shown_as_unset():
    assert OtelSettings().model_dump()["api_key"] is None
    assert OtelSettings().model_dump()["headers"] == {}


def test_a_validation_error_of_pydantics_own_does_not_show_the_value():
    with pytest.raises(ValidationError) as caught:
        OtelSettings(api_key=[SECRET], headers={"x": [SECRET]}, batch_size=SECRET)
    assert SECRET not in str(caught.value)


def test_secret_keys_are_those_marked_so():
    scrubbing = {"scrub_salt", "scrub_values"}
    headers = {"headers", "logs_headers", "metrics_headers"}
    assert OtelSettings.secret_keys() == {"api_key", *headers, *scrubbing}


class _Typed(ExporterSettings):
    token: SecretStr = Field(SecretStr(""), description="Secret by its type.")
    optional: SecretStr | None = Field(None, description="Secret if there is one.")
    raw: SecretBytes | None = Field(None, description="The same as bytes.")
    either: bool | Annotated[SecretStr, "noted"] = Field(False, description="Secret if it is a text.")
    by_name: Mapping[str, SecretStr] | None = Field(None, description="A table of secrets.")
    several: tuple[SecretStr, ...] = Field((), description="A list of secrets.")
    where: str | None = Field(None, description="Not secret.")


TYPED = {"token", "optional", "raw", "either", "by_name", "several"}


def test_a_key_is_secret_by_its_type_too():
    assert _Typed.secret_keys() == TYPED


@pytest.mark.parametrize("key", sorted(TYPED))
def test_what_is_secret_by_its_type_is_taken_out_of_every_text(key):
    value = {"by_name": {"x-token": SECRET}, "several": [SECRET]}.get(key, SECRET)
    live = LiveConfig(_Typed, "telemetry.typed", {key: value, "where": "collector.example"}, {})
    assert getattr(live.settings, key) != _Typed.model_fields[key].default
    assert live.scrub(f"collector.example refused {SECRET}") == "collector.example refused <redacted>"
    assert SECRET not in str(live.as_dict())


# --- what the OpenTelemetry settings mean


@pytest.mark.parametrize(
    ("endpoint", "posted_to"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
        ("http://collector:4318/v1/traces/", "http://collector:4318/v1/traces"),
        ("https://vendor.example/otlp", "https://vendor.example/otlp/v1/traces"),
        ("https://vendor.example/otlp/?team=a", "https://vendor.example/otlp/v1/traces?team=a"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_an_http_endpoint_is_a_base_address(endpoint, posted_to):
    assert OtelSettings(endpoint=endpoint, protocol="http/protobuf").connection("traces").url == posted_to


@pytest.mark.parametrize(
    ("endpoint", "insecure", "encrypted"),
    [
        ("http://collector:4317", False, False),
        ("https://collector:4317", True, True),
        ("collector:4317", False, True),
        ("collector:4317", True, False),
        ("[::1]:4317", True, False),
        ("unix:///run/collector.sock", True, False),
        ("dns:///collector.example:4317", False, True),
    ],
)
def test_the_scheme_decides_about_encryption_and_without_one_insecure_does(endpoint, insecure, encrypted):
    assert OtelSettings(endpoint=endpoint, insecure=insecure).connection("traces").encrypted is encrypted


@pytest.mark.parametrize(
    ("exporter", "protocol", "transport"),
    [
        ("otlp", "grpc", "grpc"),
        ("otlp", "http/protobuf", "http/protobuf"),
        ("otlp_proto_http", "grpc", "http/protobuf"),
        ("otlp_proto_grpc", "http/protobuf", "grpc"),
        ("console", "grpc", None),
    ],
)
def test_the_exporters_name_may_decide_the_protocol(exporter, protocol, transport):
    assert OtelSettings(exporter=exporter, protocol=protocol).connection("traces").protocol == transport


def test_an_endpoint_of_another_exporter_is_none_of_our_business():
    settings = OtelSettings(exporter="zipkin_json", endpoint="http://zipkin:9411/api/traces")
    assert settings.endpoint == "http://zipkin:9411/api/traces"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"api_key": "k"}, {"authorization": "Bearer k"}),
        ({"api_key": "Basic dXNlcg=="}, {"authorization": "Basic dXNlcg=="}),
        ({"api_key": " k\n"}, {"authorization": "Bearer k"}),
        ({"headers": {"X-Token": "t"}}, {"x-token": "t"}),
        ({"headers": {"x-scope-orgid": 1}}, {"x-scope-orgid": "1"}),
        ({"api_key": "k", "headers": {"Authorization": "Other o"}}, {"authorization": "Other o"}),
        ({"api_key": ""}, {}),
    ],
)
def test_what_is_sent_as_headers(given, sent):
    assert OtelSettings(**given).connection("traces").headers == sent


@pytest.mark.parametrize(
    ("given", "attributes"),
    [
        ({}, {"service.name": "otpylib"}),
        ({"service_name": "shop"}, {"service.name": "shop"}),
        ({"resource": {"service.name": "shop", "a": 1}}, {"service.name": "shop", "a": 1}),
        ({"service_name": "x", "resource": {"service.name": "shop"}}, {"service.name": "x"}),
        ({"resource": {"a": [1, 2], "b": True}}, {"a": (1, 2), "b": True, "service.name": "otpylib"}),
    ],
)
def test_resource_attributes(given, attributes):
    assert OtelSettings(**given).resource_attributes() == attributes


@pytest.mark.parametrize(
    "key",
    [
        "endpoint",
        "certificate",
        "client_key",
        "always_keep_slower_than_ms",
        "sampler",
        "sampler_argument",
        "max_spans_per_second",
    ],
)
def test_an_empty_string_unsets_what_has_no_other_way_of_being_unset(key):
    assert getattr(OtelSettings(**{key: " "}), key) is None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ([], ()),
        ([{"name": "health.*", "rate": 0}], ({"name": "health.*", "attributes": {}, "rate": 0.0},)),
        ({"name": " a ", "rate": "0.5"}, ({"name": "a", "attributes": {}, "rate": 0.5},)),
        (
            [{"attributes": {"tenant": "gold", "code": [500, "5*", True]}, "rate": 1}],
            ({"name": "*", "attributes": {"tenant": ["gold"], "code": [500, "5*", True]}, "rate": 1.0},),
        ),
    ],
)
def test_what_is_taken_for_sampling_rules(given, taken):
    assert OtelSettings(sampling_rules=given).sampling_rules == taken


def test_conflicts_are_found_when_settings_are_built_directly():
    with pytest.raises(ValidationError, match="of use only together"):
        OtelSettings(client_key="/k.pem")


# --- Prometheus


@pytest.mark.parametrize(
    ("key", "given", "taken"),
    [
        ("labels", "all", None),
        ("labels", "*", None),
        ("labels", "region", ("region",)),
        ("labels", ["b", "a", "b "], ("b", "a")),
        ("drop_labels", "user", ("user",)),
        ("drop_labels", [], ()),
        ("buckets", [1, 2.5, float("inf")], (1.0, 2.5)),
        ("buckets", ["1", "+Inf"], (1.0,)),
        ("buckets", 3, (3.0,)),
        ("host", " [::1] ", "::1"),
        ("global_labels", {"a": 1, "b": True, "c": "x"}, {"a": "1", "b": "true", "c": "x"}),
        ("namespace", "", None),
        ("event_patterns", "shop.*", ("shop.*",)),
        ("event_patterns", {"b", "a"}, ("a", "b")),
        ("port", "9100", 9100),
    ],
)
def test_what_is_taken_beyond_the_letter(key, given, taken):
    assert getattr(PrometheusSettings(**{key: given}), key) == taken


# --- the sample file


def _sample():
    """The sample's keys by section: key -> (value, commented out, preceding comment)."""
    sections, section, comment, keys = {}, None, "", {}
    for line in SAMPLE.read_text().splitlines():
        if found := re.fullmatch(r"(?:# )?\[telemetry\.([a-z_.]+)\]", line):
            section, keys, comment = found[1], {}, ""
            sections[section] = keys
        elif found := re.fullmatch(r"(# )?([a-z_-]+) = (.+)", line):
            keys[found[2]] = (tomllib.loads(f"x = {found[3]}")["x"], bool(found[1]), comment)
        elif line.startswith("#"):
            comment += line
        else:
            comment = ""
    return sections


@pytest.mark.parametrize("name", ALL)
def test_the_sample_shows_every_key_with_its_default(name):
    settings_type, sample = ALL[name], _sample()[name]
    defaults, examples = settings_type(), {}
    for key in settings_type.model_fields:
        value, _, comment = sample[key]
        default = getattr(defaults, key)
        if default is None and key != "labels":
            assert "nset by default" in comment, key
            examples[key] = value
        elif key == "enabled":
            assert isinstance(value, bool)
        else:
            taken = resolve(settings_type, name, environ={}, config={key: value})
            assert not taken.problems, key
            assert getattr(taken.settings, key) == default, key
    environ = {"OTLP_API_KEY": "k", "METRICS_PASSWORD": "p", "TELEMETRY_ADMIN_TOKEN": "0123456789abcdef"}
    assert resolve(settings_type, name, environ=environ, config=examples).problems == ()
    assert set(sample) == set(settings_type.model_fields)


def test_the_sample_gets_a_new_key_with_its_default_at_the_end_of_its_section():
    class More(PrometheusSettings):
        grace: Number = Field(2.5, description="How long to wait.", json_schema_extra={"unit": "seconds"})
        target: OptionalText = Field(None, description="Where to `look`.", examples=["http://localhost"])

    text = SAMPLE.read_text(encoding="utf-8")
    assert completed(text, ALL) == text, "run: python -m scripts.reference"
    added = "# How long to wait.\n# grace = 2.5\n\n"
    added += '# Where to look. Unset by default.\n# target = "http://localhost"\n\n'
    before = "# [telemetry.prometheus.global_labels]\n"
    assert completed(text, {**ALL, "prometheus": More}) == text.replace(before, added + before)

    class Slower(MockSettings):
        grace: Number = Field(2.5, description="How long to wait.")

    rule = "# " + "-" * 112 + "\n# What otpylib's"
    expected = text.replace(rule, f"# How long to wait.\n# grace = 2.5\n\n{rule}")
    assert completed(text, {**ALL, "mock": Slower}) == expected


@pytest.mark.parametrize("settings_type", ALL.values())
def test_what_a_key_says_besides_has_a_name_that_is_understood(settings_type):
    understood = {"env", "secret", "unit", "merge_environment", "remakes"}
    for key, field in settings_type.model_fields.items():
        assert set(field.json_schema_extra or {}) <= understood, key


def test_the_sample_as_it_is_gives_no_cause_for_complaint():
    tables = tomllib.loads(SAMPLE.read_text())["telemetry"]
    assert check_sections(tables, [*ALL, "datadog"]) == ()
    for name, settings_type in ALL.items():
        assert resolve(settings_type, name, environ={}, config=tables[name]).problems == ()
    assert tables["datadog"]["enabled"] is False


def test_the_sample_names_the_standard_variables_of_the_keys():
    text = SAMPLE.read_text()
    for settings_type in ALL.values():
        for key, field in settings_type.model_fields.items():
            names = field_extra(field, "env") or ()
            general = [name for name in names if "_TRACES_" not in name]
            if key in OTLP_OPTIONS:
                general.append(otlp_variable(key))
            for name in general:
                assert name in text or f"..._{name.removeprefix('OTEL_EXPORTER_OTLP_')}" in text, key


def test_an_exporters_own_settings_may_have_conflicts_of_their_own():
    class Range(ExporterSettings):
        low: int = Field(1, description="Low.")
        high: int = Field(2, description="High.")

        def conflicts(self):
            if self.low > self.high:
                yield Conflict(("low", "high"), "low is above high")

    resolution = resolve(Range, "range", environ={}, config={"low": 5})
    assert (resolution.settings.low, resolution.settings.high) == (1, 2)
    assert [problem.key for problem in resolution.problems] == ["telemetry.range.low"]
