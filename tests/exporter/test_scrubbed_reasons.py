"""What came from a ``${...}`` is in no reason that is shown, whoever spoke of it."""

import pytest

from otpylib_telemetry import otp, start_exporter
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.api import tracer_provider
from otpylib_telemetry_otel.service import SERVICE, start_telemetry_service
from tests.support.chassis import books, emit, make_exporter, start, stats, up
from tests.support.telemetry_service import stop
from tests.support.waiting import eventually

SECRET = "open-sesame-4711"


@pytest.fixture(autouse=True)
def _secret(monkeypatch):
    monkeypatch.setenv("SHOP_SECRET", SECRET)


def fails(*_args):
    """Fail in two ways at once, as what goes wrong in a library does."""
    try:
        raise LookupError(f"no route to {SECRET}")
    except LookupError as error:
        raise RuntimeError(f"cannot use {SECRET}") from error


async def test_a_failure_while_collecting_is_told_without_it(runtime, caplog):
    module, _ = make_exporter(collect=fails)
    await start(module, endpoint="${SHOP_SECRET}")
    emit(1)
    await eventually(lambda: books()["dropped"] == {"failed": 1})
    assert "failed while collecting (RuntimeError: cannot use <redacted>)" in caplog.text
    assert "LookupError: no route to <redacted>" in caplog.text
    assert "in fails" in caplog.text
    assert SECRET not in caplog.text


async def test_a_failure_while_collecting_that_tells_nothing_comes_with_its_exception(runtime, caplog):
    module, _ = make_exporter(collect=fails)
    await start(module)
    emit(1)
    await eventually(lambda: books()["dropped"] == {"failed": 1})
    (record,) = [record for record in caplog.records if "while collecting" in record.getMessage()]
    assert isinstance(record.exc_info[1], RuntimeError)


async def test_a_reason_not_to_work_is_told_without_it(runtime, caplog):
    module, _ = make_exporter(idle_reason=lambda self: f"nobody is at {self.settings.endpoint}")
    await start_exporter(module, {"endpoint": "${SHOP_SECRET}"})
    await up(state="idle")
    assert stats()["reason"] == "nobody is at <redacted>"
    assert SECRET not in caplog.text


async def test_the_service_keeps_the_secrets_of_its_exporters(runtime, monkeypatch, caplog):
    monkeypatch.setattr(tracer_provider, "install", fails)
    await start_otel_exporter({"endpoint": "http://127.0.0.1:1", "api_key": "${SHOP_SECRET}"})
    await up("otel_exporter")
    await start_telemetry_service()
    await eventually(lambda: service_is("idle"))
    found = await otp.safe_call(SERVICE, ("get_stats",))
    assert found["reason"] == "RuntimeError: cannot use <redacted>"
    assert SECRET not in caplog.text
    await stop()


async def service_is(state):
    return (await otp.safe_call(SERVICE, ("get_stats",)))["state"] == state


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://${SHOP_SECRET}:14268/api/traces",
        "${SHOP_SECRET}:6831",
        "ftp://${SHOP_SECRET}",
        "${SHOP_SECRET}",
    ],
)
@pytest.mark.parametrize("key", ["endpoint", "logs_endpoint"])
async def test_an_endpoint_that_cannot_be_is_refused_without_it(runtime, monkeypatch, caplog, key, endpoint):
    monkeypatch.setenv(f"TELEMETRY_OTEL_{key.upper()}", endpoint)
    await start_otel_exporter()
    await eventually(lambda: f"telemetry.otel.{key}" in caplog.text)
    told = [await otp.safe_call("otel_exporter", (request,)) for request in ("get_stats", "get_config")]
    assert told[1]["problems"]
    assert SECRET not in caplog.text + repr(told)
