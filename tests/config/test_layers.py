"""Placeholders and secrets in every layer, unknown keys, and the start argument."""

import json

import pytest

from otpylib_telemetry.config import sections
from otpylib_telemetry.config.environment import kind_variables
from otpylib_telemetry.config.problems import check_kind_variables, check_sections
from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry.config.resolve import validate_argument
from otpylib_telemetry_otel.settings.model import OtelSettings
from tests.config.reading import SECRET, messages, otel, prometheus

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
    scrubbing = {"scrub_salt", "scrub_values"}
    assert _leaky().secrets == {"api_key", *headers, *scrubbing, "service_name", "resource"}


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


KINDS = ["otel", "prometheus"]


@pytest.mark.parametrize("name", ["x y", "größe", "a.b", "", "1st", "-a", "_a", "a\nb", "\u202e", "x" + " "])
@pytest.mark.parametrize("table", [{"kind": "prometheus"}, {"kind": "otel", "enabled": False}])
def test_a_section_whose_name_no_process_can_have_is_named(name, table):
    (problem,) = check_sections({name: table}, KINDS, KINDS)
    assert problem.message == (
        f"The section [telemetry.{name!r}] cannot be an exporter: a name is made of letters, digits, - and "
        "_, and begins with a letter. It is ignored."
    )


@pytest.mark.parametrize("table", [{}, {"port": 1}, 5, [], "x"])
def test_whatever_no_exporter_reads_is_named(table):
    (problem,) = check_sections({"x y": table}, KINDS, KINDS)
    assert "belongs to no exporter" in problem.message


def test_the_section_of_an_exporter_is_of_its_own_kind():
    assert check_sections({"otel": {"kind": "otel"}}, KINDS, KINDS) == ()
    (problem,) = check_sections({"otel": {"kind": "prometheus"}}, KINDS, KINDS)
    assert problem.message == (
        "telemetry.otel.kind ('prometheus', a string) from the configuration is no kind of exporter "
        "there is: expected one of 'otel'. It remains the section of the exporter 'otel'."
    )


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "TELEMETRY_1ST_KIND",
            "otel",
            "TELEMETRY_1ST_KIND asks for an exporter called '1st', but a name is ",
        ),
        (
            "TELEMETRY_A B_KIND",
            "otel",
            "TELEMETRY_A B_KIND asks for an exporter called 'a b', but a name is ",
        ),
        (
            "TELEMETRY_EU_KIND",
            "otle",
            "TELEMETRY_EU_KIND ('otle', a string) is no kind of exporter there is: ",
        ),
    ],
)
def test_a_variable_that_asks_in_vain_for_an_exporter_is_named(variable, value, message):
    (problem,) = check_kind_variables(kind_variables({variable: value}), KINDS)
    assert problem.message.startswith(message)
    assert problem.message.endswith(" It is ignored.")
    assert check_kind_variables(kind_variables({"TELEMETRY_EU_KIND": "otel", variable: " "}), KINDS) == ()


@pytest.mark.parametrize("written", ["otel", "OTEL", " Otel ", "oTeL\n"])
def test_a_kind_is_understood_in_any_case(written):
    assert sections.kinds_in_tables({"eu": {"kind": written}}) == {"eu": "otel"}
    assert sections.kinds_in_environment({"TELEMETRY_EU_KIND": written}) == {"eu": "otel"}


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
