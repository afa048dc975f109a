"""One line says that an exporter works and where, and one at the end what became of all it took."""

import logging

import pytest
from otpylib import gen_server

import otpylib_telemetry_otel
from otpylib_telemetry import execute, otp
from otpylib_telemetry_mock.otlp_receiver import HttpReceiver
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.settings.places import places
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.chassis import runner
from tests.support.runtime import running_runtime
from tests.support.waiting import eventually


def said(caplog, *words):
    return [line for line in caplog.messages if all(word in line for word in words)]


async def up(name):
    await eventually(lambda: runner(name).lifecycle.health.status == "running")


async def test_the_page_is_named_with_the_port_that_was_found(caplog):
    caplog.set_level(logging.INFO)
    async with running_runtime():
        await start_prometheus_exporter({"port": 0, "path": "/numbers"})
        await up("prometheus_exporter")
        port = (await otp.safe_call("prometheus_exporter", ("get_stats",)))["port"]
        assert said(caplog, " is up: ") == [
            f"prometheus_exporter is up: metrics are served at http://127.0.0.1:{port}/numbers."
        ]


async def test_what_changes_and_moves_nothing_is_not_said_again(caplog):
    caplog.set_level(logging.INFO)
    async with running_runtime():
        await start_prometheus_exporter({"port": 0})
        await up("prometheus_exporter")

        async def change(key, value):
            message = ("config_changed", f"telemetry.prometheus.{key}", None, value)
            await gen_server.cast("prometheus_exporter", message)
            await eventually(lambda: said(caplog, "changed settings", key))

        await change("max_series", 17)
        assert len(said(caplog, " is up: ")) == 1
        await change("path", "/elsewhere")
        await eventually(lambda: len(said(caplog, " is up: ")) == 2)
        assert said(caplog, " is up: ")[1].endswith("/elsewhere.")


async def test_a_page_that_is_mounted_elsewhere_and_a_gateway_are_told(caplog):
    caplog.set_level(logging.INFO)
    async with running_runtime():
        await start_prometheus_exporter(
            {"serve": False, "push_url": "http://user:pass-word@127.0.0.1:1", "push_job": "nightly"}
        )
        await up("prometheus_exporter")
        (line,) = said(caplog, " is up: ")
    assert "by no endpoint of its own" in line
    assert "pushed to http://127.0.0.1:1/metrics/job/nightly at the end" in line
    assert "pass-word" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"endpoint": "http://c:4317"}, "traces, logs and metrics go to http://c:4317 over gRPC"),
        (
            {"endpoint": "http://c:4317", "logs": False},
            "traces and metrics go to http://c:4317 over gRPC; logs are not sent",
        ),
        (
            {"endpoint": "http://c:4318", "protocol": "http/protobuf", "metrics": False},
            "traces go to http://c:4318/v1/traces; logs go to http://c:4318/v1/logs; metrics are not sent",
        ),
        (
            {"endpoint": "http://c:4317", "metrics_endpoint": "http://n:4317"},
            "traces and logs go to http://c:4317 over gRPC; metrics go to http://n:4317 over gRPC",
        ),
        (
            {"exporter": "console", "logs": False, "metrics": False},
            "traces go to the exporter 'console'; logs and metrics are not sent",
        ),
        (
            {"endpoint": "https://me:pass-word@c:4317"},
            "traces, logs and metrics go to https://c:4317 over gRPC",
        ),
    ],
)
async def test_signals_with_one_destination_are_told_together(settings, expected):
    told = places(OtelSettings.model_validate(settings))
    assert told == expected


async def test_the_end_says_what_became_of_everything(caplog):
    caplog.set_level(logging.INFO)
    with HttpReceiver() as receiver:
        async with running_runtime():
            await otpylib_telemetry_otel.start_otel_exporter(
                {"endpoint": receiver.endpoint, "protocol": "http/protobuf", "logs": False, "metrics": False}
            )
            await up("otel_exporter")
            for number in range(3):
                execute("shop.sale.start", {}, {"span_id": f"{number + 1:016x}"})
                execute("shop.sale.stop", {}, {"span_id": f"{number + 1:016x}"})
            answer = await otp.safe_call("otel_exporter", ("drain", 20.0))
            assert answer["left"] == 0
        (line,) = said(caplog, "was drained")
        assert line.startswith("otel_exporter was drained, and nothing is left: ")
        assert line.endswith(", 6 were exported, 0 rejected, 0 dropped and 0 sampled out.")


async def test_the_end_says_one_thing_where_something_is_left(caplog):
    caplog.set_level(logging.INFO)
    async with running_runtime():
        await otpylib_telemetry_otel.start_otel_exporter(
            {"endpoint": "http://127.0.0.1:1", "shutdown_timeout": 0.3, "retry_attempts": 0}
        )
        await up("otel_exporter")
        execute("shop.sale.start", {}, {"span_id": "1" * 16})
        execute("shop.sale.stop", {}, {"span_id": "1" * 16})
    (line,) = said(caplog, "was drained")
    assert "events left" in line


async def test_one_that_did_nothing_has_no_end_to_tell(caplog):
    caplog.set_level(logging.INFO)
    async with running_runtime():
        await otpylib_telemetry_otel.start_otel_exporter({})
        await eventually(lambda: runner("otel_exporter").lifecycle.health.status == "idle")
    assert said(caplog, " is up: ") == said(caplog, "was drained") == []
