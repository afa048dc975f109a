"""Log records of the OpenTelemetry API become events, but for those that exporting brings about."""

import threading

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled

from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.logging import LOG_EVENT
from otpylib_telemetry_otel.sdk.suppression import unobserved
from otpylib_telemetry_otel.service import start_telemetry_service
from tests.support.chassis import collect_events
from tests.support.telemetry_service import run, stop, tracer


async def test_log_records_of_the_api_become_events(receiver):
    seen = []
    table.add("records", ["log.record", "shop.*"], lambda *event: seen.append(event))
    logger = logs_api.get_logger("shop.client", "1.2")
    with tracer().start_as_current_span("pay") as made:
        logger.emit(
            LogRecord(
                timestamp=7,
                severity_text="WARN",
                severity_number=SeverityNumber.WARN,
                body="no stock",
                attributes={"shelf": "a"},
            )
        )
    logger.emit(LogRecord(event_name="shop.sold_out", body={"shelf": "a"}))
    logger.emit(LogRecord(event_name="shop.checkout.start"))
    context = made.get_span_context()
    assert seen[0] == (
        LOG_EVENT,
        {},
        {
            "shelf": "a",
            "otel.scope.name": "shop.client",
            "otel.scope.version": "1.2",
            "body": "no stock",
            "severity": "WARN",
            "severity_number": 13,
            "time_unix_nano": 7,
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
            "traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-01",
            "log_record": seen[0][2]["log_record"],
        },
    )
    assert (seen[1][0], seen[1][2]["body"]) == ("shop.sold_out", {"shelf": "a"})
    # It is a record: no operation begins by it.
    assert (seen[2][0], seen[2][2]["event.name"]) == (LOG_EVENT, "shop.checkout.start")
    await stop()
    logger.emit(LogRecord(body="nobody hears it"))
    assert len(seen) == 3
    await start_telemetry_service()
    logger.emit(LogRecord(body="heard again"))
    assert seen[3][2]["body"] == "heard again"


async def test_a_handler_that_makes_log_records_does_not_hear_itself(receiver):
    logger = logs_api.get_logger("shop")
    seen = []

    def handle(*event):
        seen.append(event)
        logger.emit(LogRecord(body="I heard something"))

    table.add("records", [LOG_EVENT], handle)
    logger.emit(LogRecord(body="something"))
    assert len(seen) == 1


async def test_log_records_about_exporting_bring_about_no_others(receiver):
    seen = collect_events(LOG_EVENT)
    for scope in ("otpylib_telemetry", "opentelemetry.sdk.trace", "opentelemetry.exporter.otlp"):
        logs_api.get_logger(scope).emit(LogRecord(body="cannot export"))
    exporting = threading.Thread(
        name="otpylib-telemetry",
        target=logs_api.get_logger("urllib3").emit,
        args=(LogRecord(body="retrying"),),
    )
    exporting.start()
    exporting.join()
    logs_api.get_logger("opentelemetry.sdkish").emit(LogRecord(body="a word"))
    assert [metadata["body"] for _, _, metadata in seen] == ["a word"]


def test_a_logger_provider_that_takes_no_processor_is_told_of_and_left_alone(http_receiver):
    run(
        """
        from opentelemetry import _logs
        provider = _logs.NoOpLoggerProvider()
        _logs.set_logger_provider(provider)
        await start_otel_exporter(settings)
        await start_telemetry_service()
        assert _logs.get_logger_provider() is provider
        found = await stats()
        assert found["signals"]["logs"] == "the global LoggerProvider takes no processor", found
        assert found["state"] == "running", found
    """,
        http_receiver,
    )


def test_what_exports_is_not_observed():
    def look(what, *, also):
        return what, also, is_instrumentation_enabled(), is_http_instrumentation_enabled()

    assert unobserved(look, 1, also=2) == (1, 2, False, False)
    assert is_instrumentation_enabled()
    with pytest.raises(ZeroDivisionError):
        unobserved(lambda: 1 / 0)
    assert is_http_instrumentation_enabled()
