"""Objects of OpenTelemetry given by a program where configuration can only name them."""

import itertools

import pytest
from opentelemetry.sdk._logs import export as logs_export
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
)
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
from otpylib import gen_server

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.config.resolution import changed_keys
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import (
    CallbackProducer,
    Measured,
    OtelSettings,
    add_metric_producer,
    child_spec,
    remove_metric_producer,
    start_otel_exporter,
)
from otpylib_telemetry_otel.service import TelemetryService
from otpylib_telemetry_otel.settings.given import Given
from tests.otel.test_metrics_signal import NAME, flush
from tests.otel.test_metrics_signal import start as start_sending
from tests.support.chassis import crash
from tests.support.ledger import quiet_stats
from tests.support.otlp_metrics import points_at
from tests.support.waiting import eventually

# Their names in releases of the SDK before and after 1.39.
LogExporter = getattr(logs_export, "LogRecordExporter", None) or logs_export.LogExporter
InMemoryLogs = getattr(logs_export, "InMemoryLogRecordExporter", None) or logs_export.InMemoryLogExporter

QUICK = {"flush_interval": 0.02, "metrics_interval": 0.05, "shutdown_timeout": 1.0}


class MetricsInMemory(MetricExporter):
    """Keeps the names of what is exported."""

    def __init__(self):
        super().__init__()
        self.names = []

    def export(self, metrics_data, timeout_millis=10_000, **kwargs):
        for resource in metrics_data.resource_metrics:
            for scope in resource.scope_metrics:
                self.names += [metric.name for metric in scope.metrics]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis=10_000):
        return True

    def shutdown(self, timeout_millis=30_000, **kwargs):
        self.names.append("shut down")


class Duck:
    """Has the methods of a span exporter and no class of OpenTelemetry."""

    def __init__(self):
        self.names = []
        self.calls = []

    def export(self, spans):
        self.names += [span.name for span in spans]

    def force_flush(self):
        self.calls.append("force_flush")

    def shutdown(self):
        self.calls.append("shutdown")


class OtherDuck(Duck):
    """Another one, by whose name the settings in force tell it apart."""


class Equal(InMemorySpanExporter):
    """Is equal to whatever it is compared with."""

    def __eq__(self, other):
        return True

    __hash__ = InMemorySpanExporter.__hash__


class OnlyPaid(Sampler):
    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None,
                      trace_state=None):  # fmt: skip
        return SamplingResult(Decision.RECORD_AND_SAMPLE if name == "paid" else Decision.DROP)

    def get_description(self):
        return "OnlyPaid"


class Counting(IdGenerator):
    def __init__(self):
        self.numbers = itertools.count(7)

    def generate_trace_id(self):
        return next(self.numbers)

    def generate_span_id(self):
        return next(self.numbers)


def names_of(exporter):
    return [span.name for span in exporter.get_finished_spans()]


async def start(**settings):
    await start_otel_exporter({**QUICK, **settings})
    await quiet_stats(NAME)


async def put(**settings):
    for key, value in settings.items():
        await gen_server.cast(NAME, ("config_changed", f"telemetry.otel.{key}", None, value))


async def in_force(key, value):
    return (await otp.safe_call(NAME, ("get_config",)))["config"][key] == value


@pytest.mark.parametrize("key", ["exporter", "sampler", "id_generator", "metric_producers"])
@pytest.mark.parametrize(
    "value",
    [InMemoryMetricReader(), SimpleSpanProcessor, object(), 7, 1.5, True, b"x", {"a": 1}, [3], lambda: 1],
)
def test_what_is_of_no_use_there_is_refused_with_one_message(key, value):
    with pytest.raises(ValueError, match=rf"telemetry\.otel\.{key}") as refused:
        child_spec({key: value})
    lines = str(refused.value).splitlines()
    assert len(lines) == 2
    assert "expected" in lines[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("exporter", ALWAYS_ON),
        ("exporter", RandomIdGenerator()),
        ("exporter", []),
        ("exporter", ["console"]),
        ("exporter", [InMemorySpanExporter(), ConsoleSpanExporter()]),
        ("exporter", [InMemorySpanExporter(), ALWAYS_ON]),
        ("sampler", InMemorySpanExporter()),
        ("sampler", [ALWAYS_ON]),
        ("id_generator", ALWAYS_ON),
        ("metric_producers", "console"),
        ("metric_producers", [CallbackProducer(list), InMemorySpanExporter()]),
    ],
)
def test_an_object_of_another_kind_is_refused(key, value):
    with pytest.raises(ValueError, match=rf"telemetry\.otel\.{key}.*expected"):
        child_spec({key: value})


def test_files_and_the_environment_name_and_give_nothing():
    for layers in ({"config": {"metric_producers": ["a"]}}, {"environ": {"TELEMETRY_METRIC_PRODUCERS": "a"}}):
        resolution = resolve(OtelSettings, "otel", **{"environ": {}, **layers})
        (problem,) = resolution.problems
        assert "which only a program can give" in problem.message
    resolution = resolve(OtelSettings, "otel", environ={"TELEMETRY_EXPORTER": "Console"})
    assert (resolution.settings.exporter, resolution.problems) == ("console", ())


def test_an_object_beats_a_name_and_is_shown_by_its_class():
    exporter = InMemorySpanExporter()
    resolution = resolve(
        OtelSettings, "otel", environ={}, config={"exporter": "console"}, argument={"exporter": exporter}
    )
    assert resolution.settings.exporter.objects == (exporter,)
    assert "exporter='InMemorySpanExporter'" in repr(resolution.settings)
    bad = resolve(OtelSettings, "otel", environ={}, runtime={"exporter": 5}, previous=resolution)
    assert bad.settings.exporter.objects == (exporter,)
    assert "InMemorySpanExporter" in bad.problems[0].message


def test_objects_are_the_same_only_if_they_are_the_same_one():
    one, other = Equal(), Equal()
    settings = OtelSettings(exporter=one, sampler=ALWAYS_ON)
    assert changed_keys(settings, OtelSettings(exporter=one, sampler=ALWAYS_ON)) == set()
    assert changed_keys(settings, OtelSettings(exporter=other, sampler=ALWAYS_OFF)) == {"exporter", "sampler"}
    assert Given(one) != one
    assert len({Given(one), Given(one), Given(other)}) == 2


def test_what_an_exporter_takes_is_told_by_its_class():
    spans, logs, metrics, duck = ConsoleSpanExporter(), InMemoryLogs(), ConsoleMetricExporter(), Duck()
    given = OtelSettings(exporter=[metrics, spans, logs])
    assert [given.exporter.exporter(s) for s in ("traces", "logs", "metrics")] == [spans, logs, metrics]
    for exporter, signal in ((spans, "traces"), (logs, "logs"), (metrics, "metrics"), (duck, "traces")):
        settings = OtelSettings(exporter=exporter)
        assert [name for name in ("traces", "logs", "metrics") if settings.sends(name)] == [signal]
    assert issubclass(type(logs), LogExporter)
    assert issubclass(type(spans), SpanExporter)


async def test_each_signal_goes_to_its_own_exporter(runtime):
    spans, logs, metrics = InMemorySpanExporter(), InMemoryLogs(), MetricsInMemory()
    await start(exporter=[spans, logs, metrics])
    with span("shop.checkout"):
        pass
    execute("shop.sold", {"count": 3})
    execute("shop.opened", {}, {"who": "me"})
    await eventually(lambda: spans.get_finished_spans() and logs.get_finished_logs() and metrics.names)
    assert names_of(spans) == ["shop.checkout"]
    config = (await otp.safe_call(NAME, ("get_config",)))["config"]
    assert config["exporter"] == f"InMemorySpanExporter, {type(logs).__name__}, MetricsInMemory"


async def test_what_objects_do_not_take_goes_over_otlp(runtime):
    spans = InMemorySpanExporter()
    with GrpcReceiver() as receiver:
        await start(exporter=spans, endpoint=receiver.endpoint)
        with span("shop.checkout"):
            pass
        execute("shop.sold", {"count": 3})
        await eventually(lambda: spans.get_finished_spans() and points_at(receiver))
        assert receiver.spans == []


async def test_an_object_outlives_crashes_and_other_settings_and_its_maker_shuts_it_down(runtime):
    duck, other = Duck(), OtherDuck()
    await start(exporter=duck)
    for number, disturb in enumerate([None, "timeout", "crash"]):
        if disturb == "timeout":
            await put(timeout=3.0)
        elif disturb == "crash":
            await crash(NAME)
            await start(exporter=duck)
        with span(f"span{number}"):
            pass
        await eventually(lambda name=f"span{number}": name in duck.names)
    await put(exporter=other)
    await eventually(lambda: in_force("exporter", "OtherDuck"))
    with span("last"):
        pass
    await eventually(lambda: other.names == ["last"])
    await eventually(lambda: "force_flush" in duck.calls)
    assert "last" not in duck.names
    assert "shutdown" not in duck.calls


async def test_a_sampler_object_decides(runtime):
    spans = InMemorySpanExporter()
    await start(exporter=spans, sampler=OnlyPaid(), sampling_wait=0.0)
    for name in ("looked", "paid", "left"):
        with span(name):
            pass
    await eventually(lambda: names_of(spans) == ["paid"])
    assert (await otp.safe_call(NAME, ("get_config",)))["config"]["sampler"] == "OnlyPaid"


async def test_an_id_generator_object_makes_the_ids(runtime):
    spans = InMemorySpanExporter()
    await start(exporter=spans, id_generator=Counting())
    with span("shop.checkout"):
        pass
    await eventually(spans.get_finished_spans)
    assert 0 < spans.get_finished_spans()[0].context.trace_id < 1000


def test_an_application_without_otpylib_gives_objects_too():
    spans = InMemorySpanExporter()
    telemetry = TelemetryService("shop", exporter=spans, **QUICK)
    with telemetry.initialize_tracing().start_as_current_span("shop.checkout"):
        pass
    assert telemetry.shutdown().report["left"] == 0
    assert names_of(spans) == ["shop.checkout"]


def depth(value):
    return CallbackProducer(lambda: [Measured("shop.depth", value, unit="1")])


def depths(receiver):
    return [point.value for point in points_at(receiver) if point.name == "shop.depth"]


class TestMetricProducers:
    @pytest.fixture
    def receiver(self):
        with GrpcReceiver() as receiver:
            yield receiver

    @pytest.mark.parametrize("as_list", [True, False])
    async def test_they_are_asked(self, runtime, receiver, as_list):
        producer = depth(3)
        await start_sending(receiver, metric_producers=[producer] if as_list else producer)
        await flush()
        assert depths(receiver) == [3]
        assert (await otp.safe_call(NAME, ("get_config",)))["config"]["metric_producers"] == [
            "CallbackProducer"
        ]

    async def test_nobody_is_asked_twice(self, runtime, receiver):
        producer = depth(3)
        add_metric_producer(producer)
        try:
            await start_sending(receiver, metric_producers=[producer, producer])
            await flush()
            assert depths(receiver) == [3]
        finally:
            remove_metric_producer(producer)

    async def test_they_belong_to_the_life_they_were_given_to(self, runtime, receiver):
        await start_sending(receiver, metric_producers=[depth(3)])
        await flush()
        await crash(NAME)
        await start_sending(receiver)
        await flush()
        assert depths(receiver) == [3]

    async def test_they_can_be_changed_while_it_runs(self, runtime, receiver):
        first, second = depth(3), depth(4)
        await start_sending(receiver, metric_producers=[first])
        await put(metric_producers=[second])

        async def sent():
            await flush()
            return depths(receiver)

        while 4 not in await sent():
            pass
        before = len(depths(receiver))
        assert set((await sent())[before:]) == {4}

    async def test_one_that_fails_costs_only_itself(self, runtime, receiver):
        def fail():
            raise RuntimeError("no")

        await start_sending(receiver, metric_producers=[CallbackProducer(fail), depth(3)])
        await flush()
        assert depths(receiver) == [3]
        told = (await quiet_stats(NAME))["metrics"]["producers"]
        assert [(one["failures"], one["points"]) for one in told] == [(1, 0), (0, 1)]
