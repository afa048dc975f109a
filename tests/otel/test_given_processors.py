"""Processors of OpenTelemetry given by a program: handed all that is sent, once, and harming nothing."""

import logging
import threading

import pytest
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import OtelSettings, child_spec
from otpylib_telemetry_otel.destinations import ProcessedDestination
from otpylib_telemetry_otel.sdk.processors import Processors
from otpylib_telemetry_otel.service import TelemetryService
from otpylib_telemetry_otel.settings.given import Given
from tests.otel.test_given_objects import QUICK, InMemoryLogs, names_of, put, start
from tests.otel.test_metrics_signal import NAME
from tests.support.chassis import crash
from tests.support.waiting import eventually

SimpleLogs = logs_export.SimpleLogRecordProcessor


class Failing(SpanProcessor):
    """Raises whatever is asked of it."""

    def on_end(self, span):
        raise RuntimeError("no disk")

    def force_flush(self, timeout_millis=30_000):
        raise RuntimeError("no disk either")


class Noting:
    """Has the methods of a span processor and no class of OpenTelemetry."""

    def __init__(self):
        self.names = []
        self.calls = []

    def on_end(self, span):
        self.names.append(span.name)

    def force_flush(self):
        self.calls.append("force_flush")

    def shutdown(self):
        self.calls.append("shutdown")


class Item:
    """Stands for a span."""

    processed = False

    def __init__(self, name):
        self.name = name


@pytest.mark.parametrize("key", ["span_processors", "log_record_processors"])
@pytest.mark.parametrize(
    "value",
    ["console", 7, True, {"a": 1}, object(), SimpleSpanProcessor, ALWAYS_ON, InMemorySpanExporter(), [3],
     [Noting(), ALWAYS_ON], logging.StreamHandler()],
)  # fmt: skip
def test_what_is_no_processor_is_refused_with_one_message(key, value):
    with pytest.raises(ValueError, match=rf"telemetry\.otel\.{key}.*expected a list of") as refused:
        child_spec({key: value})
    assert len(str(refused.value).splitlines()) == 2


def test_files_and_the_environment_cannot_give_any():
    for layers in ({"config": {"span_processors": ["a"]}}, {"environ": {"TELEMETRY_SPAN_PROCESSORS": "a"}}):
        (problem,) = resolve(OtelSettings, "otel", **{"environ": {}, **layers}).problems
        assert "which only a program can give" in problem.message


def test_a_signal_with_a_processor_is_sent_without_an_endpoint():
    for settings, signal in (
        (OtelSettings(span_processors=Noting()), "traces"),
        (OtelSettings(log_record_processors=[SimpleLogs(InMemoryLogs())]), "logs"),
    ):
        assert [name for name in ("traces", "logs", "metrics") if settings.sends(name)] == [signal]
    assert not OtelSettings(span_processors=[Noting()], traces=False).sends("traces")


@pytest.mark.parametrize("kind", [SimpleSpanProcessor, BatchSpanProcessor])
async def test_spans_reach_processors_without_an_endpoint(runtime, kind):
    spans = InMemorySpanExporter()
    processor = kind(spans)
    await start(span_processors=[processor])
    with span("shop.checkout", {"cart": 7}):
        pass
    await eventually(lambda: processor.force_flush() and names_of(spans) == ["shop.checkout"])
    assert spans.get_finished_spans()[0].attributes["cart"] == 7
    config = (await otp.safe_call(NAME, ("get_config",)))["config"]
    assert config["span_processors"] == [kind.__name__]
    processor.shutdown()


async def test_log_records_reach_processors_without_an_endpoint(runtime):
    logs = InMemoryLogs()
    await start(log_record_processors=SimpleLogs(logs))
    execute("shop.opened", {}, {"who": "me"})
    await eventually(logs.get_finished_logs)
    (found,) = logs.get_finished_logs()
    assert found.log_record.attributes["who"] == "me"


async def test_processors_stand_beside_what_sends(runtime):
    spans, logs, noting = InMemorySpanExporter(), InMemoryLogs(), Noting()
    with GrpcReceiver() as receiver:
        await start(
            endpoint=receiver.endpoint,
            span_processors=[Failing(), SimpleSpanProcessor(spans), noting],
            log_record_processors=[SimpleLogs(logs)],
        )
        with span("shop.checkout"):
            pass
        execute("shop.opened", {}, {"who": "me"})
        await eventually(lambda: receiver.spans and receiver.logs and logs.get_finished_logs())
    assert names_of(spans) == noting.names == ["shop.checkout"]


async def test_they_stand_beside_an_exporter_object(runtime):
    spans, noting = InMemorySpanExporter(), Noting()
    await start(exporter=spans, span_processors=[noting])
    with span("shop.checkout"):
        pass
    await eventually(lambda: names_of(spans) == noting.names == ["shop.checkout"])


async def test_they_outlive_crashes_and_changes_and_their_maker_shuts_them_down(runtime):
    first, second = Noting(), Noting()
    await start(span_processors=[first])
    await crash(NAME)
    await start(span_processors=[first])
    with span("one"):
        pass
    await eventually(lambda: first.names == ["one"])
    # The life that crashed may have flushed it too.
    first.calls.clear()
    await put(span_processors=[second])
    await eventually(lambda: "force_flush" in first.calls)
    with span("two"):
        pass
    await eventually(lambda: second.names == ["two"])
    assert first.names == ["one"]
    assert "shutdown" not in first.calls


def test_an_application_without_otpylib_gives_them_too():
    spans = InMemorySpanExporter()
    telemetry = TelemetryService("shop", span_processors=[SimpleSpanProcessor(spans)], **QUICK)
    with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
        pass
    assert telemetry.shutdown().report["left"] == 0
    assert names_of(spans) == ["shop.checkout"]
    assert spans.get_finished_spans()[0].resource.attributes["service.name"] == "shop"


def test_what_is_sent_again_is_handed_over_once(caplog):
    class Down:
        attempts = 0

        def send(self, items):
            self.attempts += 1
            if self.attempts < 3:
                raise ExportError("down")

        def close(self):
            pass

    noting, items = Noting(), [Item("a"), Item("b")]
    destination = ProcessedDestination(Processors([Given(Failing()), Given(noting)], list, 5.0), Down())
    for _ in range(2):
        with pytest.raises(ExportError):
            destination.send(items)
    assert destination.send(items) is None
    destination.close()
    assert noting.names == ["a", "b"]
    assert noting.calls == ["force_flush"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "The OpenTelemetry Failing failed (RuntimeError: no disk); exporting goes on. "
        "Further cases are not logged."
    )


async def test_what_there_is_no_time_for_goes_past(caplog):
    noting, items = Noting(), [Item("a"), Item("b")]
    assert ProcessedDestination(Processors([Given(noting)], list, -1.0), None).send(items) is None
    assert noting.names == []
    await eventually(lambda: "Noting takes too long" in caplog.text)
    assert len(caplog.records) == 1


class Hanging(Noting):
    """Hangs in one of its methods, until it is released."""

    def __init__(self, method):
        super().__init__()
        self.released = threading.Event()
        setattr(self, method, self.hang)

    def hang(self, *_):
        self.calls.append("hang")
        self.released.wait(60)


@pytest.mark.parametrize("method", ["on_end", "force_flush"])
async def test_one_that_hangs_costs_its_time_once(runtime, caplog, method):
    hanging, noting = Hanging(method), Noting()
    try:
        with GrpcReceiver() as receiver:
            await start(endpoint=receiver.endpoint, timeout=0.4, span_processors=[hanging, noting])
            for number in range(3):
                with span(f"shop.{number}"):
                    pass
                await eventually(lambda: len(receiver.spans) == number + 1)  # noqa: B023
            assert (await otp.safe_call(NAME, ("drain", 5.0)))["left"] == 0
        assert noting.names == ["shop.0", "shop.1", "shop.2"]
        assert noting.calls == ["force_flush"]
        assert hanging.calls == ["hang"]
        stats = await otp.safe_call(NAME, ("get_stats",))
        assert (stats["export_failures"], stats["breaker_failures"]) == (0, 0)
        said = [one.getMessage() for one in caplog.records if "Hanging" in one.getMessage()]
        late = "takes too long; what it has no time for goes past it. Further cases are not logged."
        assert said == [f"The OpenTelemetry Hanging {late}"]
    finally:
        hanging.released.set()


def test_what_cannot_be_converted_is_handed_over_as_text():
    def convert(items):
        if not isinstance(items[0].attributes["x"], str):
            raise TypeError("no bytes")
        return items

    item, noting = Item("a"), Noting()
    item.attributes = {"x": b"1"}
    Processors([Given(noting)], convert, 5.0).take([item])
    assert noting.names == ["a"]
