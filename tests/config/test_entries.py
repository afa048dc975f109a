"""One wrong entry of a table costs that entry, wherever the table comes from."""

import pytest

from otpylib_telemetry.config.layers import Given
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.resolve import resolve, validate_argument
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from tests.config.reading import SECRET, messages, otel, prometheus

EDITED = "file /etc/shop/config.toml"
LEFT_OUT = "It is left out; the other entries count."

#: Settings class, key, sound entries, and one that is not.
TABLES = [
    (OtelSettings, "headers", {"a": "1", "b": "2"}, {"c": "line\nline"}),
    (OtelSettings, "headers", {"a": "1"}, {"no name": "1"}),
    (OtelSettings, "headers", {"a": "1"}, {"": "1"}),
    (OtelSettings, "headers", {"a": "1"}, {"c": ["1"]}),
    (OtelSettings, "headers", {"a": "1"}, {"Content-Length": "1"}),
    (OtelSettings, "logs_headers", {"a": "1"}, {"c": "\N{SNOWMAN}"}),
    (OtelSettings, "metrics_headers", {"a": "1"}, {"\u202e": "1"}),
    (OtelSettings, "resource", {"a": 1, "b.c": "x"}, {" ": 1}),
    (PrometheusSettings, "global_labels", {"a": "1"}, {"le": "1"}),
    (PrometheusSettings, "global_labels", {"a": "1"}, {"b-c": "1"}),
    (PrometheusSettings, "global_labels", {"a": "1"}, {"b": [1]}),
    (PrometheusSettings, "push_grouping", {"a": "1"}, {"job": "1"}),
    (PrometheusSettings, "multiprocess_modes", {"a": "all"}, {"b": "none"}),
    (PrometheusSettings, "resource", {"a": "1"}, {"": "1"}),
]


def plain(table):
    return {
        name: item.get_secret_value() if hasattr(item, "get_secret_value") else item
        for name, item in table.items()
    }


@pytest.mark.parametrize(("settings_type", "key", "sound", "wrong"), TABLES)
@pytest.mark.parametrize("layer", ["config", "argument", "runtime", "edited"])
@pytest.mark.parametrize("first", [True, False])
def test_the_others_count(settings_type, key, sound, wrong, layer, first):
    table = {**wrong, **sound} if first else {**sound, **wrong}
    layers = {"runtime": {key: Given(table, EDITED)}} if layer == "edited" else {layer: {key: table}}
    found = resolve(settings_type, settings_type.kind, environ={}, **layers)
    assert plain(getattr(found.settings, key)) == sound
    (message,) = messages(found)
    assert f"telemetry.{settings_type.kind}.{key}" in message
    assert message.endswith(LEFT_OUT)
    assert found.origins[key] == {"edited": EDITED}.get(layer, layer)


@pytest.mark.parametrize(("settings_type", "key", "sound", "wrong"), TABLES)
def test_a_table_of_nothing_else_is_refused(settings_type, key, sound, wrong):
    found = resolve(settings_type, settings_type.kind, environ={}, config={key: wrong})
    assert getattr(found.settings, key) == settings_type.model_fields[key].get_default(
        call_default_factory=True
    )
    assert len(messages(found)) == 1
    with pytest.raises(ValueError, match=key):
        validate_argument(settings_type, settings_type.kind, {key: {**sound, **wrong}}, environ={})


@pytest.mark.parametrize(
    ("variable", "key"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "headers"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "headers"),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "logs_headers"),
        ("OTEL_RESOURCE_ATTRIBUTES", "resource"),
        ("TELEMETRY_OTEL_HEADERS", "headers"),
        ("TELEMETRY_RESOURCE", "resource"),
    ],
)
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a=1,junk,b=2", 2),
        ("junk,a=1,b=2", 1),
        ("a=1,b=2,=x", 3),
        ("a=1,,junk, b = 2 ", 3),
        ("a=%31,b=2,x", 3),
    ],
)
def test_a_pair_that_is_none_costs_itself(variable, key, text, number):
    found = otel({variable: text})
    assert plain(getattr(found.settings, key)) == {"a": "1", "b": "2"}
    (message,) = messages(found)
    assert message.startswith(f"telemetry.otel.{key}, pair {number} (")
    assert variable in message
    assert message.endswith(LEFT_OUT)


def test_on_the_page_of_prometheus_as_well():
    found = prometheus({"OTEL_RESOURCE_ATTRIBUTES": "a=1,junk", "OTEL_SERVICE_NAME": "shop"})
    assert found.settings.resource == {"a": "1", "service.name": "shop"}
    assert "pair 2" in messages(found)[0]


def test_what_the_environment_adds_is_looked_at_entry_by_entry_too():
    found = otel({"OTEL_RESOURCE_ATTRIBUTES": "a=1,junk"}, config={"resource": {"b": 2, "": 3}})
    assert found.settings.resource == {"a": "1", "b": 2}
    assert len(messages(found)) == 2


@pytest.mark.parametrize(
    "text", [f"{SECRET} x=1,a=1", f"Bearer {SECRET}=,a=1", f"a=1,{SECRET}", f"a=1,b={SECRET}%0a"]
)
def test_what_may_be_secret_is_not_said(text):
    found = otel({"OTEL_EXPORTER_OTLP_HEADERS": text})
    assert plain(found.settings.headers) == {"a": "1"}
    assert SECRET not in str(messages(found))


def test_a_wrong_entry_leaves_the_one_that_was_in_force():
    live = LiveConfig(OtelSettings, "telemetry.otel", {"headers": {"a": "1", "b": "2"}}, {})
    live.change({"headers": {"a": "line\nline", "b": "3"}})
    assert plain(live.settings.headers) == {"a": "1", "b": "3"}
    (message,) = messages(live.resolution)
    assert message.startswith("telemetry.otel.headers.a (a string, not shown) set by a message is refused")
    assert message.endswith("Its value before stays in force.")
    live.change({"batch_size": 7})
    assert plain(live.settings.headers) == {"a": "1", "b": "3"}


# --- names of headers over gRPC


GRPC_NAMES = ["x!y", "x#y", "x-y-bin", "grpc-timeout", "x|y", "X~Y"]


@pytest.mark.parametrize("name", GRPC_NAMES)
@pytest.mark.parametrize("signal", ["", "logs_", "metrics_"])
def test_a_header_that_grpc_cannot_send_costs_itself(name, signal):
    others = {
        "logs_protocol": "http/protobuf",
        "metrics_protocol": "http/protobuf",
        "protocol": "http/protobuf",
    }
    table = {"x-ok": "1", name: "2"}
    found = otel(config={**others, f"{signal}protocol": "grpc", f"{signal}headers": table})
    assert plain(getattr(found.settings, f"{signal}headers")) == {"x-ok": "1"}
    (message,) = messages(found)
    assert "over gRPC" in message
    assert message.endswith(LEFT_OUT)


@pytest.mark.parametrize("name", GRPC_NAMES)
def test_http_sends_it(name):
    found = otel(config={"protocol": "http/protobuf", "headers": {name: "1"}})
    assert found.problems == ()
    assert list(found.settings.headers) == [name.lower()]


def test_another_protocol_brings_it_back():
    live = LiveConfig(
        OtelSettings, "telemetry.otel", {"headers": {"x!y": "1", "a": "2"}, "protocol": "grpc"}, {}
    )
    assert list(live.settings.headers) == ["a"]
    live.change({"protocol": "http/protobuf"})
    assert set(live.settings.headers) == {"a", "x!y"}
    live.change({"protocol": "grpc"})
    assert live.settings.protocol == "grpc"
    assert list(live.settings.headers) == ["a"]


def test_variables_of_opentelemetry_are_checked_for_grpc_too():
    found = otel(
        {"OTEL_EXPORTER_OTLP_HEADERS": "x!y=1,a=2", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "http/protobuf"}
    )
    assert list(found.settings.headers) == ["a"]
    assert found.settings.connection("logs").headers.keys() >= {"a"}
