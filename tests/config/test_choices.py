"""What is chosen from a list is understood in any case and with blanks around it, from every source."""

from typing import Literal, get_args, get_origin

import pytest

from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.metrics import counter
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.config.reading import messages, otel, prometheus

SETTINGS = {"otel": OtelSettings, "prometheus": PrometheusSettings, "mock": MockSettings}


def choices_of(annotation):
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if annotation is bool:
        return ["true", "false"]
    return [choice for part in get_args(annotation) for choice in choices_of(part)]


CHOICES = [
    (section, key, choice)
    for section, settings_type in SETTINGS.items()
    for key, field in settings_type.model_fields.items()
    for choice in choices_of(field.annotation)
    # It has validators of its own, see below.
    if key not in {"metrics", "metrics_definitions"} or choice in {"true", "false"}
]

SPELLINGS = {
    "capitals": str.upper,
    "a capital": str.capitalize,
    "mixed": lambda text: "".join(c.upper() if n % 2 else c.lower() for n, c in enumerate(text)),
    "blanks": lambda text: f"  {text}\t",
    "a line's end": lambda text: f"{text.upper()}\n",
}


def from_argument(settings_type, section, key, value):
    return resolve(settings_type, section, environ={}, argument={key: value})


def from_config(settings_type, section, key, value):
    return resolve(settings_type, section, environ={}, config={key: value})


def from_placeholder(settings_type, section, key, value):
    return resolve(settings_type, section, environ={"CHOSEN": value}, config={key: "${CHOSEN}"})


def from_environment(settings_type, section, key, value):
    return resolve(settings_type, section, environ={f"TELEMETRY_{section.upper()}_{key.upper()}": value})


def at_runtime(settings_type, section, key, value):
    live = LiveConfig(settings_type, f"telemetry.{section}", {}, {})
    live.change({key: value})
    return live.resolution


SOURCES = [from_argument, from_config, from_placeholder, from_environment, at_runtime]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_choice_of_every_key_is_understood(source, spelling):
    for section, key, choice in CHOICES:
        resolution = source(SETTINGS[section], section, key, SPELLINGS[spelling](choice))
        expected = {"true": True, "false": False}.get(choice, choice)
        assert resolution.problems == () or "together" in messages(resolution)[0] or choice == "deflate", (
            key,
            messages(resolution),
        )
        if not resolution.problems:
            assert getattr(resolution.settings, key) == expected, key


def test_there_are_choices_to_try():
    assert {("otel", "protocol", "grpc"), ("prometheus", "compression", "none")} <= set(CHOICES)


@pytest.mark.parametrize("value", ["ALL", " All ", ["ALL"], "All Scalars"])
def test_all_labels(value):
    assert prometheus(config={"labels": value}).settings.labels is None
    assert otel(config={"metrics_labels": value}).settings.metrics_labels is None


@pytest.mark.parametrize("value", ["AUTOMATIC", " Automatic\n", ["AUTOMATIC"]])
def test_no_definitions(value):
    assert prometheus(config={"metrics": value}).settings.metrics == "automatic"
    assert otel(config={"metrics_definitions": value}).settings.metrics_definitions == "automatic"


def test_options_of_definitions():
    (plain,) = definitions_from_tables([{"type": "counter", "name": "shop.sale.count"}])
    assert definitions_from_tables([{"type": " Counter ", "name": "shop.sale.count"}]) == (plain,)
    assert plain == counter("shop.sale.count")
    table = {"type": "LAST_VALUE", "name": "shop.sale.value", "multiprocess_mode": "LiveSum"}
    (gauge,) = definitions_from_tables([table])
    assert gauge.multiprocess_mode == "livesum"
    table = {"type": "Distribution", "name": "shop.sale.value", "buckets": "EXPONENTIAL"}
    (found,) = definitions_from_tables([table])
    assert found == definitions_from_tables([table | {"buckets": "exponential"}])[0]


def test_modes_of_gauges():
    modes = prometheus(argument={"multiprocess_modes": {"a": "ALL", "b": " LiveMax "}}).settings
    assert modes.multiprocess_modes == {"a": "all", "b": "livemax"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("exporter", "OTLP", "otlp"),
        ("exporter", " Console ", "console"),
        ("exporter", "Otlp_Proto_HTTP", "otlp_proto_http"),
        ("exporter", "Own_Exporter", "Own_Exporter"),
        ("sampler", "ALWAYS_ON", "always_on"),
        ("sampler", " ParentBased_Always_Off", "parentbased_always_off"),
        ("id_generator", "RANDOM", "random"),
        ("span_events", " Both ", "both"),
        ("log_severity", "WARNING", "warn"),
        ("log_severity", " Error ", "error"),
    ],
)
@pytest.mark.parametrize("source", SOURCES)
def test_names_that_packages_register(source, key, value, expected):
    assert getattr(source(OtelSettings, "otel", key, value).settings, key) == expected


@pytest.mark.parametrize("value", ["gzip2", "g zip", "", "gzip,none", "gzi p"])
def test_what_is_no_choice_is_still_refused(value):
    resolution = otel(config={"compression": value})
    assert resolution.settings.compression == "none"
    assert "expected one of 'none', 'gzip', 'deflate'" in messages(resolution)[0]


# --- blanks that mean something


LOGIN_SOURCES = {
    "environment": lambda text: prometheus({"TELEMETRY_PROMETHEUS_BASIC_AUTH": text}),
    "all exporters": lambda text: prometheus({"TELEMETRY_BASIC_AUTH": text}),
    "placeholder": lambda text: prometheus({"LOGIN": text}, config={"basic_auth": "${LOGIN}"}),
    "part": lambda text: prometheus({"PW": text[2:]}, config={"basic_auth": "u:${PW}"}),
    "table": lambda text: prometheus(
        {"PW": text[2:]}, config={"basic_auth": {"username": "u", "password": "${PW}"}}
    ),
    "config": lambda text: prometheus(config={"basic_auth": text}),
    "argument": lambda text: prometheus(argument={"basic_auth": text}),
}


@pytest.mark.parametrize("source", LOGIN_SOURCES)
@pytest.mark.parametrize("password", ["p ", " p", "p  q ", "pass word", " {p}"])
def test_blanks_belong_to_a_password(source, password):
    resolution = LOGIN_SOURCES[source](f"u:{password}")
    assert resolution.problems == ()
    login = resolution.settings.basic_auth
    assert (login.username, login.password.get_secret_value()) == ("u", password)


@pytest.mark.parametrize("source", LOGIN_SOURCES)
def test_a_password_with_a_lines_end_is_refused_aloud(source):
    (message,) = messages(LOGIN_SOURCES[source]("u:p\n"))
    assert "basic_auth" in message
    assert "expected a user name and a password without control characters" in message
