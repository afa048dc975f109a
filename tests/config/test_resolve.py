"""Layers into settings: who wins, and what is refused."""

from types import MappingProxyType

import pytest
from pydantic import Field, ValidationInfo, field_validator, model_validator

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.problems import check_sections
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.config.resolve import resolve, validate_argument
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry_otel.settings.model import OtelSettings
from tests.config.reading import SECRET, messages, otel

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
