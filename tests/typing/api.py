"""The public API as an application uses it that is checked strictly. Never run: ``make lint`` reads it.

What a checker says here it would say to every user: a signature that lost its types, a name that is no
longer exported, an override that no longer fits.
"""

# ruff: noqa: T201
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, assert_type

import otpylib_telemetry
import otpylib_telemetry_mock
import otpylib_telemetry_otel
import otpylib_telemetry_prometheus
from otpylib_telemetry import (
    Collected,
    Event,
    Exporter,
    ExporterCircuitBreaker,
    ExportError,
    ExporterSettings,
    ExportOutcome,
    HandlerInfo,
    SpanContext,
    TelemetryManager,
    TelemetrySupervisor,
    TomlSource,
    TooLargeError,
    attach,
    attach_many,
    current_span,
    detach,
    emit,
    emit_counter,
    emit_gauge,
    emit_timer,
    execute,
    exporter_child_spec,
    exporter_module,
    extract,
    inject,
    list_handlers,
    metrics,
    run_in_thread,
    span,
    span_stack_traces,
    start_exporter,
    start_link,
    trace_context,
)
from otpylib_telemetry.instrument import loguru as loguru_bridge
from otpylib_telemetry.instrument.logging import LogBridge, install, severity_number, uninstall
from otpylib_telemetry.instrument.loguru import LoguruBridge
from otpylib_telemetry.meters.views import View
from otpylib_telemetry_mock import (
    Capture,
    MockExporter,
    MockExporterServer,
    MockSettings,
    RecordedEvent,
    assert_emitted,
    assert_spans_balanced,
    capture,
    mock_callbacks,
    refute_emitted,
    start_mock_exporter,
    wait_for,
)
from otpylib_telemetry_otel import (
    CallbackProducer,
    Measured,
    MetricProducer,
    OtelExporter,
    OtelSettings,
    PrometheusRegistryProducer,
    TelemetryService,
    add_metric_producer,
    otel_callbacks,
    remove_metric_producer,
    start_otel_exporter,
    start_telemetry_service,
)
from otpylib_telemetry_prometheus import (
    PrometheusExporter,
    PrometheusSettings,
    RegistryCollector,
    asgi_app,
    merge_registry,
    private_registry,
    prometheus_callbacks,
    start_prometheus_exporter,
    unmerge_registry,
    wsgi_app,
)
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from otpylib_telemetry_prometheus.multiprocess import MultiProcessRegistry

# --- versions ------------------------------------------------------------------------------------------

assert_type(otpylib_telemetry.__version__, str)
assert_type(otpylib_telemetry_otel.__version__, str)
assert_type(otpylib_telemetry_prometheus.__version__, str)
assert_type(otpylib_telemetry_mock.__version__, str)


# --- emitting ------------------------------------------------------------------------------------------


async def emits() -> None:
    execute("shop.sold")
    execute("shop.sold", {"count": 3}, {"item": "tea"})
    await emit("shop.sold", {"value": 1.5}, {"item": "tea"})
    await emit_counter("shop.sold", 2, item="tea")
    await emit_counter("shop.sold", item="tea")
    await emit_timer("shop.paid", 12.5, method="card")
    await emit_gauge("shop.stock", 40, item="tea")


async def nests() -> None:
    with span("shop.order", {"order": 7}) as outer:
        print(outer)
    async with span("shop.order"):
        context: dict[str, Any] = trace_context()
        assert_type(current_span(), SpanContext | None)
        execute("shop.order.checked", metadata=context)


async def passes_on(headers: dict[str, str]) -> None:
    with extract(headers), span("shop.order"):
        assert_type(inject(headers), None)
    async with extract([(b"traceparent", b"")]):
        pass


def identity(context: SpanContext) -> None:
    assert_type(context.trace_id, str)
    assert_type(context.span_id, str)
    assert_type(context.sampled, bool)
    assert_type(context.trace_flags, int)
    assert_type(context.tracestate, str)
    assert_type(context.baggage, str)


def put_on_spans(carrier: dict[str, str]) -> None:
    with span("shop.order") as order:
        order.set_attribute("items", 3)
        order.add_event("shop.picked", {"shelf": 7})
        order.add_event("shop.packed", lambda: {"weight": 1.5})
        order.add_link(trace_context())
        order.add_link(carrier["traceparent"], {"why": "batch"})
        order.record_exception(ValueError("no tea"))
        order.measure(rows=12, weight=1.5)
        order.fail("status 502")
    span_stack_traces(False)
    span_stack_traces(None)


@span
def unnamed(amount: int) -> int:
    return amount


@span
async def unnamed_later(amount: int) -> str:
    return str(amount)


@span("shop.rows")
def rows(count: int) -> Iterator[int]:
    yield from range(count)


assert_type(unnamed(1), int)
assert_type(rows(1), Iterator[int])


@span("shop.decorated")
def decorated(amount: int) -> str:
    return str(amount)


@span("shop.decorated")
async def decorated_async(amount: int) -> str:
    return str(amount)


async def keeps_their_types() -> None:
    assert_type(decorated(3), str)
    assert_type(await decorated_async(3), str)


# --- listening -----------------------------------------------------------------------------------------


def listener(name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any], _: object) -> None:
    print(name, measurements, metadata)


async def async_listener(name: str, _measurements: object, _metadata: object) -> None:
    print(name)


async def listens() -> None:
    await attach("log", "shop.*", listener)
    await attach_many("more", ["shop.*", "stock.*"], async_listener)
    assert_type(await detach("log"), int)
    handlers: list[HandlerInfo] = list_handlers("shop.*")
    assert_type(handlers[0].pattern, str)


# --- an exporter of one's own --------------------------------------------------------------------------


class FileSettings(ExporterSettings):
    path: str = "events.txt"


class FileExporter(Exporter[FileSettings]):
    settings_type = FileSettings

    async def open(self) -> None:
        assert_type(self.settings, FileSettings)
        assert_type(self.settings.batch_size, int)
        assert_type(await run_in_thread(len, self.settings.path), int)

    async def export(self, batch: Sequence[Event]) -> ExportOutcome | None:
        names = [event.name for event in batch]
        assert_type(names, list[str])
        if not names:
            raise ExportError("nothing there", retryable=False)
        if len(names) > self.settings.batch_size:
            raise TooLargeError("too many")
        return ExportOutcome(rejected=1, message="one too long")

    async def close(self) -> None:
        """Nothing is held."""


FileExporterServer = exporter_module(
    "FileExporterServer", FileExporter, name="file_exporter", section="telemetry.file", module=__name__
)


async def runs_it() -> None:
    await start_exporter(FileExporterServer, {"path": "a.txt"}, name="audit")
    children: list[Any] = [
        exporter_child_spec(FileExporterServer, {"path": "a.txt"}),
        otpylib_telemetry.child_spec({"enabled": True}),
        otpylib_telemetry_otel.child_spec({"service_name": "shop"}, name="audit"),
        otpylib_telemetry_prometheus.child_spec({"port": 0}),
        otpylib_telemetry_mock.child_spec(),
        TelemetryManager,
        TelemetrySupervisor,
        OtelExporter,
        otel_callbacks,
        TelemetryService,
        PrometheusExporter,
        prometheus_callbacks,
        MockExporterServer,
        mock_callbacks,
    ]
    print(children, await start_link(), Collected(exported=3), TomlSource("config.toml", priority=2))


async def breaks(fetch: Callable[[str], Any]) -> None:
    breaker = ExporterCircuitBreaker(failure_threshold=3, reset_timeout=10)
    await breaker.call(fetch, "page")
    assert_type(breaker.failure_count, int)
    assert_type(breaker.reset_timeout, float)


# --- metrics -------------------------------------------------------------------------------------------


def size(measurements: Mapping[str, Any], _metadata: Mapping[str, Any]) -> float:
    return float(measurements["size"])


DEFINITIONS: list[metrics.Definition] = [
    metrics.counter("shop.orders", event="shop.order", tags=["country"], description="Orders."),
    metrics.sum("shop.order.amount", unit="EUR", monotonic=False),
    metrics.last_value("shop.stock.items", keep={"country": "de"}),
    metrics.summary("shop.order.duration_ms", unit=("ms", "s")),
    metrics.distribution("shop.order.size", measurement=size, buckets=metrics.exponential(1, 2, 8)),
    metrics.distribution("shop.order.weight", buckets=metrics.base2(max_size=80)),
]


# --- OpenTelemetry -------------------------------------------------------------------------------------


class Sensor:
    """A producer needs no base class."""

    def produce(self, timeout_millis: float) -> Any:
        return timeout_millis


async def exports_with_opentelemetry(registry: object) -> None:
    await start_otel_exporter({"service_name": "shop", "metrics_definitions": DEFINITIONS}, name="audit")
    await start_telemetry_service({"metrics": True})
    sensor: MetricProducer = Sensor()
    add_metric_producer(sensor)
    add_metric_producer(CallbackProducer(lambda: [Measured("depth", 3, {"queue": "a"}, unit="1")]))
    add_metric_producer(PrometheusRegistryProducer(registry), exporter="audit_exporter")
    assert_type(remove_metric_producer(sensor), bool)
    assert_type(OtelSettings.model_validate({"sampling_rate": 0.5}).sampling_rate, float)


# --- Prometheus ----------------------------------------------------------------------------------------


async def exports_to_prometheus() -> None:
    await start_prometheus_exporter({"port": 0, "metrics": DEFINITIONS})
    registry = private_registry()
    merge_registry(registry)
    assert_type(unmerge_registry(registry), bool)
    registry.register(RegistryCollector())
    print(asgi_app(), wsgi_app("audit_exporter"), MultiProcessRegistry("files"))
    assert_type(PrometheusSettings.model_validate({"port": 0}).port, int)
    provider = PrometheusMeterProvider(views=[View(instrument_name="*.size", name="sizes")])
    provider.get_meter("shop").create_counter("sales").add(1, {"country": "de"})


# --- logging -------------------------------------------------------------------------------------------


def logs() -> None:
    assert_type(install("shop", level="INFO", ignored=["shop.noise"]), LogBridge)
    assert_type(severity_number(20), int)
    assert_type(uninstall("shop"), bool)
    assert_type(loguru_bridge.install(level="INFO", ignored=["shop.noise"], enqueue=True), LoguruBridge)
    assert_type(loguru_bridge.uninstall(), bool)


# --- tests ---------------------------------------------------------------------------------------------


def test_of_a_user(telemetry: Capture) -> None:
    found = assert_emitted(telemetry, "shop.sold", {"count": 3}, {"item": str}, at_least=1)
    assert_type(found, list[RecordedEvent])
    assert_type(found[0]["event_name"], Any)
    refute_emitted(telemetry.events, "shop.lost", where=lambda event: "order" in event["metadata"])
    assert_type(assert_spans_balanced(telemetry, count=1), list[tuple[RecordedEvent, RecordedEvent]])


async def others() -> AsyncIterator[RecordedEvent]:
    mock = MockExporter()
    await attach("mock", "*", mock.handle_telemetry_event)
    await start_mock_exporter({"max_events": 10})
    assert_type(MockSettings.model_validate({}).max_events, int)
    with capture(["shop.*"], scope="all") as captured:
        (event,) = await wait_for(captured, "shop.sold", timeout=1.0)
        yield event
