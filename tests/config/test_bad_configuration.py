"""Bad configuration values of every key: what the user reads, and what is in force afterwards."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

import pytest

from otpylib_telemetry.config import field_types
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.config.bad_values import BAD

SETTINGS = {"otel": OtelSettings, "prometheus": PrometheusSettings, "mock": MockSettings}


def _identify(value):
    return value if isinstance(value, str) and len(value) < 20 else None


@pytest.mark.parametrize(("section", "config", "message"), BAD, ids=_identify)
def test_a_bad_value_gives_one_message_and_leaves_the_rest_in_force(section, config, message):
    settings_type = SETTINGS[section]
    defaults = settings_type()
    bystanders = {"batch_size": 7, "failure_threshold": 3}
    resolution = resolve(settings_type, section, environ={}, config={**bystanders, **config})
    assert [problem.message for problem in resolution.problems] == [message]
    (problem,) = resolution.problems
    bad = next(iter(config))
    in_force = {
        key: getattr(resolution.settings, key)
        for key in settings_type.model_fields
        if key == bad or key not in config
    }
    expected = {key: bystanders.get(key, getattr(defaults, key)) for key in in_force}
    if bad in expected:
        expected[bad] = getattr(defaults, bad)
        assert problem.kind == "rejected"
        assert resolution.origins[bad] == "default"
    assert in_force == expected
    assert problem.keys == ((bad,) if isinstance(bad, str) else ())


@pytest.mark.parametrize(("section", "config", "message"), BAD, ids=_identify)
def test_a_bad_value_leaves_the_last_good_configuration_in_force_while_running(section, config, message):
    settings_type = SETTINGS[section]
    good = resolve(settings_type, section, environ={}, config={"batch_size": 7, "shutdown_timeout": 2})
    changed = {"batch_size": 7, "shutdown_timeout": 2, **config}
    resolution = resolve(settings_type, section, environ={}, config=changed, previous=good)
    (problem,) = resolution.problems
    bad = next(iter(config))
    if bad in settings_type.model_fields:
        assert getattr(resolution.settings, bad) == getattr(good.settings, bad)
        assert resolution.origins[bad] == good.origins[bad]
        assert message.startswith(f"{problem.summary} ")
    else:
        assert resolution.settings == good.settings
        assert problem.message == message


def _keys_with_a_rule(settings_type):
    """The keys that are checked by more than a type and bounds, whose messages are made for all alike."""
    decorators = settings_type.__pydantic_decorators__.field_validators.values()
    decorated = {key for decorator in decorators for key in decorator.info.fields} - {"*"}
    for key, field in settings_type.model_fields.items():
        rules = [getattr(rule, "func", None) for rule in field.metadata]
        if any(rule and rule.__module__ != field_types.__name__ for rule in rules):
            decorated.add(key)
    return decorated


def test_every_key_with_a_rule_of_its_own_is_in_the_table():
    for section, settings_type in SETTINGS.items():
        keys = _keys_with_a_rule(settings_type)
        tried = {key for name, config, _ in BAD for key in config if name == section}
        if section != "otel":
            keys -= set(OtelSettings.model_fields) - {"certificate"}
        assert keys <= tried
    assert {"basic_auth", "push_url", "labels"} <= _keys_with_a_rule(PrometheusSettings)
    assert len(BAD) >= 40


#: Environment and the one message the user reads.
BAD_ENVIRONMENT = [
    (
        {"OTEL_SDK_DISABLED": "1"},
        "telemetry.otel.enabled ('1', a string) from the environment variable OTEL_SDK_DISABLED is refused: expected true or false. true stays in force (the default).",
    ),
    (
        {"OTEL_TRACES_SAMPLER": "jaeger remote"},
        "telemetry.otel.sampler ('jaeger remote', a string) from the environment variable OTEL_TRACES_SAMPLER is refused: expected the name of a sampler: always_off, always_on, parentbased_always_off, parentbased_always_on, parentbased_traceidratio, traceidratio. It stays unset.",
    ),
    (
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "half"},
        "telemetry.otel.sampling_rate ('half', a string) from the environment variable OTEL_TRACES_SAMPLER_ARG is refused: expected a number from 0 to 1. 1 stays in force (the default).",
    ),
    (
        {"OTEL_BSP_SCHEDULE_DELAY": "5s"},
        "telemetry.otel.flush_interval ('5s', a string) from the environment variable OTEL_BSP_SCHEDULE_DELAY is refused: expected a number of milliseconds. 5 stays in force (the default).",
    ),
    (
        {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"},
        "telemetry.otel.queue_limit ('-1', a string) from the environment variable OTEL_BSP_MAX_QUEUE_SIZE is refused: expected a whole number from 1 to 10000000. 100000 stays in force (the default).",
    ),
    (
        {"OTEL_RESOURCE_ATTRIBUTES": "b"},
        "telemetry.otel.resource ('b', a string) from the environment variable OTEL_RESOURCE_ATTRIBUTES is refused: expected name=value pairs separated by commas, but pair 1 is not one. {} stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_HEADERS": "secret"},
        "telemetry.otel.headers (a string, not shown) from the environment variable OTEL_EXPORTER_OTLP_HEADERS is refused: expected name=value pairs separated by commas, but pair 1 is not one. {} stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"},
        "telemetry.otel.timeout ('10000', a string) from the environment variable OTEL_EXPORTER_OTLP_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. 10 stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        "telemetry.otel.protocol ('http/json', a string) from the environment variable OTEL_EXPORTER_OTLP_PROTOCOL is refused: expected one of 'grpc', 'http/protobuf'. 'grpc' stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://jaeger:14268/api/traces"},
        "telemetry.otel.endpoint ('http://jaeger:14268/api/traces', a string) from the environment variable OTEL_EXPORTER_OTLP_ENDPOINT is refused: this is an address of Jaeger's own protocol, which does not take OTLP; use http://jaeger:4317. It stays unset.",
    ),
    (
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k"},
        "telemetry.otel.client_key ('/k', a string) from the environment variable OTEL_EXPORTER_OTLP_CLIENT_KEY is refused: client_key and client_certificate are of use only together. It stays unset.",
    ),
    (
        {"OTEL_TRACES_EXPORTER": "otlp,console"},
        "telemetry.otel.traces ('otlp,console', a string) from the environment variable OTEL_TRACES_EXPORTER is refused: all is sent by one exporter, so expected one name; the one taken is 'otlp'. true stays in force (the default).",
    ),
    (
        {"OTEL_LOGS_EXPORTER": "console"},
        "telemetry.otel.logs ('console', a string) from the environment variable OTEL_LOGS_EXPORTER is refused: log records are sent by the exporter of the spans, so expected 'otlp' or 'none'. true stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "soon"},
        "telemetry.otel.logs_timeout ('soon', a string) from the environment variable OTEL_EXPORTER_OTLP_LOGS_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        {"OTEL_EXPORTER_OTLP_LOGS_HEADERS": "secret"},
        "telemetry.otel.logs_headers (a string, not shown) from the environment variable OTEL_EXPORTER_OTLP_LOGS_HEADERS is refused: expected name=value pairs separated by commas, but pair 1 is not one. It stays unset.",
    ),
    (
        {"TELEMETRY_BATCH_SIZE": "many"},
        "telemetry.otel.batch_size ('many', a string) from the environment variable TELEMETRY_BATCH_SIZE is refused: expected a whole number from 1 to 100000. 100 stays in force (the default).",
    ),
    (
        {"TELEMETRY_OTEL_RESOURCE": "{not json"},
        "telemetry.otel.resource ('{not json', a string) from the environment variable TELEMETRY_OTEL_RESOURCE is refused: expected name=value pairs separated by commas, or a JSON object. {} stays in force (the default).",
    ),
    (
        {"TELEMETRY_OTEL_METRICS_INTERVAL": "soon"},
        "telemetry.otel.metrics_interval ('soon', a string) from the environment variable TELEMETRY_OTEL_METRICS_INTERVAL is refused: expected a number of seconds from 0.001 to 86400. 60 stays in force (the default).",
    ),
    (
        {"OTEL_METRIC_EXPORT_INTERVAL": "1m"},
        "telemetry.otel.metrics_interval ('1m', a string) from the environment variable OTEL_METRIC_EXPORT_INTERVAL is refused: expected a number of milliseconds. 60 stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delat"},
        "telemetry.otel.metrics_temporality ('delat', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE is refused: expected one of 'cumulative', 'delta', 'lowmemory'. 'cumulative' stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "native"},
        "telemetry.otel.metrics_histogram ('native', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION is refused: expected explicit_bucket_histogram or base2_exponential_bucket_histogram. 'explicit' stays in force (the default).",
    ),
    (
        {"OTEL_METRICS_EXPORTER": "console"},
        "telemetry.otel.metrics ('console', a string) from the environment variable OTEL_METRICS_EXPORTER is refused: metrics are sent by the exporter of the spans, so expected 'otlp' or 'none'. true stays in force (the default).",
    ),
    (
        {"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT": "soon"},
        "telemetry.otel.metrics_timeout ('soon', a string) from the environment variable OTEL_EXPORTER_OTLP_METRICS_TIMEOUT is refused: expected a number of seconds from 0.001 to 3600. It stays unset.",
    ),
    (
        {"TELEMETRY_OTEL_BATCHSIZE": "5"},
        "telemetry.otel.batchsize from the environment variable TELEMETRY_OTEL_BATCHSIZE is not a known key; did you mean telemetry.otel.batch_size? It is ignored.",
    ),
]


@pytest.mark.parametrize(("environ", "message"), BAD_ENVIRONMENT)
def test_a_bad_variable_gives_one_message_and_the_default_stays(environ, message):
    resolution = resolve(OtelSettings, "otel", environ=environ)
    assert [problem.message for problem in resolution.problems] == [message]
    assert resolution.settings == OtelSettings()


class Hostile:
    """Raises whatever is done with it."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __float__ = __int__ = __repr__


class HostileList(list):
    def __len__(self):
        raise RuntimeError("no")

    __repr__ = __len__


@pytest.mark.parametrize("settings_type", SETTINGS.values(), ids=SETTINGS)
def test_objects_of_no_sense_whatever_are_refused_for_every_key(settings_type):
    endless = []
    endless.append(endless)
    for key in settings_type.model_fields:
        for value in (
            Hostile(),
            HostileList([None]),
            endless,
            {"a": Hostile()},
            object,
            b"\xff",
            {None: None},
            1j,
        ):
            resolution = resolve(settings_type, "otel", environ={}, config={key: value})
            assert [problem.keys for problem in resolution.problems] == [(key,)], (key, type(value))
            assert resolution.settings.withholding({}) == settings_type()


def test_a_message_is_one_line_however_long_or_odd_the_value():
    for value in ("x" * 10_000, "a\nb\rc", "\x1b[31m", "\u2028"):
        (problem,) = resolve(OtelSettings, "otel", environ={}, config={"protocol": value}).problems
        assert len(problem.message) < 300
        assert len(problem.message.splitlines()) == 1
        assert "\x1b" not in problem.message
