"""What the exporters say about themselves over OTLP, as a receiver gets it."""

import asyncio
import re

import pytest
from opentelemetry.semconv._incubating.attributes import otel_attributes
from opentelemetry.semconv._incubating.metrics import otel_metrics
from otpylib import gen_server

from otpylib_telemetry import execute, otp, span
from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.metrics.names import PROMETHEUS
from otpylib_telemetry.self_metrics import SELF_METRICS
from otpylib_telemetry_mock import start_mock_exporter
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, GrpcStatus, HttpReceiver, Ok, PartialSuccess
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.metrics.sdk_names import sdk_rows
from otpylib_telemetry_otel.metrics.self_metrics import SelfMetrics
from tests.support.ledger import quiet_stats, stats_of
from tests.support.otlp_metrics import CUMULATIVE, DELTA, points_at
from tests.support.waiting import eventually

NAME = "otel_exporter"
PREFIX = "otpylib.telemetry.exporter."

#: What no server listens to.
NOWHERE = "http://127.0.0.1:9"

OFTEN = {"flush_interval": 0.02, "metrics_interval": 0.05, "shutdown_timeout": 2}


@pytest.fixture(params=[GrpcReceiver, HttpReceiver])
def receiver(request):
    with request.param() as there:
        yield there


@pytest.fixture
def grpc():
    with GrpcReceiver() as there:
        yield there


async def start(receiver, **settings):
    return await start_otel_exporter(
        {"endpoint": receiver.endpoint, "protocol": receiver.protocol, **OFTEN, **settings}
    )


async def flush(seconds=60.0):
    return await otp.safe_call(NAME, ("flush", seconds), timeout=seconds + 20)


def own(points):
    return [point for point in points if point.name.startswith(("otel.sdk.", "otpylib.telemetry."))]


def told(receiver, name, **attributes):
    """The values a receiver was told of one series, in order."""
    return [
        point.value
        for point in points_at(receiver)
        if point.name == name and attributes.items() <= point.attributes.items()
    ]


def latest(receiver, exporter):
    """What a receiver was told last about an exporter: name and further attributes -> value."""
    last = {}
    for point in own(points_at(receiver)):
        if point.attributes.get("exporter") == exporter:
            rest = tuple(sorted((key, text) for key, text in point.attributes.items() if key != "exporter"))
            last[point.name.removeprefix(PREFIX), rest] = point.value
    return last


# --- what arrives


async def test_the_books_on_the_wire_are_those_of_get_stats(runtime, receiver):
    await start_mock_exporter({"event_patterns": ["shop.*"], "queue_limit": 100})
    await start(receiver)
    for number in range(25):
        execute("shop.sold", {"count": 1}, {"number": number})
    with span("shop.order"):
        execute("shop.packed")
    stats = await quiet_stats("mock_exporter")
    assert stats["accepted"] > 25
    await eventually(
        lambda: latest(receiver, "mock_exporter").get(("events_exported", ())) == stats["exported"]
    )
    said = latest(receiver, "mock_exporter")
    for key in ("accepted", "exported", "sampled_out", "queued", "in_flight", "held"):
        assert said[f"events_{key}", ()] == stats[key], key
    assert said["events_dropped", (("reason", "queue_full"),)] == 0
    assert said["queue_limit", ()] == 100
    assert said["state", (("state", "running"),)] == 1


async def test_its_own_books_balance_in_every_reading(runtime, receiver):
    await start(receiver)
    for number in range(200):
        execute("shop.sold", {"count": 1}, {"shop": f"s{number % 3}"})
        if not number % 40:
            await asyncio.sleep(0.05)
    await eventually(lambda: len(told(receiver, f"{PREFIX}events_accepted", exporter=NAME)) > 3)
    readings = {}
    for point in own(points_at(receiver)):
        if point.attributes.get("exporter") == NAME and point.name.startswith(f"{PREFIX}events_"):
            one = readings.setdefault(point.point.time_unix_nano, {})
            key = point.name.removeprefix(f"{PREFIX}events_")
            one[key] = one.get(key, 0) + point.value
    # The points of one reading have one time each slice: all of these are of one metric reading.
    whole = [one for one in readings.values() if len(one) >= 8]
    assert whole
    for one in whole:
        parts = ("exported", "rejected", "dropped", "sampled_out", "queued", "in_flight")
        assert one["accepted"] == sum(one[part] for part in parts)


async def test_drops_and_an_open_breaker_are_seen_without_prometheus(runtime, receiver):
    await start(receiver)
    other = {"endpoint": NOWHERE, "queue_limit": 10, "failure_threshold": 2, "retry_attempts": 0, **OFTEN}
    await start_otel_exporter({**other, "metrics": False, "batch_size": 5}, name="other")

    async def lost():
        for _ in range(10):
            execute("shop.note", {}, {"text": "x"})
        await asyncio.sleep(0.02)
        stats = registry.stats_of("other_exporter")
        return stats["breaker"] == "open" and stats["dropped"].get("queue_full")

    async with asyncio.timeout(60):
        while not await lost():
            pass
    dropped = registry.stats_of("other_exporter")["dropped"]["queue_full"]

    def is_seen():
        said = latest(receiver, "other_exporter")
        return (
            said.get(("breaker_state", (("state", "open"),))) == 1
            and said[("events_dropped", (("reason", "queue_full"),))] == dropped
            and said[("breaker_transitions", (("to", "open"),))] >= 1
            and said[("export_failures", ())] >= 2
        )

    await eventually(is_seen)


async def test_after_an_outage_of_its_own_an_exporter_tells_of_it(runtime, grpc):
    await start(grpc, failure_threshold=1, reset_timeout=0.05, queue_limit=5, metrics_interval=3600)
    grpc.always(GrpcStatus("UNAVAILABLE"))
    for _ in range(30):
        execute("shop.note", {}, {"text": "x"})
    await eventually(lambda: registry.stats_of(NAME)["breaker_transitions"].get("open"))
    dropped = registry.stats_of(NAME)["dropped"].get("queue_full", 0)
    grpc.always(Ok())
    # Though the interval is not over.
    await flush()
    assert told(grpc, f"{PREFIX}breaker_transitions", to="open")[-1] >= 1
    assert told(grpc, f"{PREFIX}events_dropped", reason="queue_full")[-1] == dropped


async def test_what_was_lost_is_told_of_at_the_end_of_a_short_life(runtime, grpc):
    await start(grpc, metrics_interval=3600, queue_limit=5)
    for _ in range(50):
        execute("shop.sold", {"count": 1})
    await eventually(lambda: registry.stats_of(NAME)["dropped"])
    await otp.safe_call(NAME, ("drain", 60.0), timeout=90)
    dropped = registry.stats_of(NAME)["dropped"]["queue_full"]
    assert dropped >= 45
    assert told(grpc, f"{PREFIX}events_dropped", reason="queue_full")[-1] == dropped


async def test_a_flush_before_the_first_interval_sends_what_the_application_measured_alone(runtime, grpc):
    await start(grpc, metrics_interval=3600)
    execute("shop.sold", {"count": 1})
    assert (await flush())["left"] == 0
    assert [point.name for point in points_at(grpc)] == ["shop.sold.total"]


async def test_the_sdks_names_say_what_was_sent(runtime, receiver):
    await start(receiver, logs=True)
    for _ in range(4):
        with span("shop.order"):
            pass
    execute("shop.note", {}, {"text": "x"})
    protocol = receiver.protocol.partition("/")[0]
    with span("shop.open"):
        await eventually(lambda: told(receiver, "otel.sdk.span.live")[-1:] == [1])
        await eventually(lambda: told(receiver, "otel.sdk.exporter.span.exported")[-1:] == [4])
        await eventually(lambda: told(receiver, "otel.sdk.exporter.log.exported")[-1:] == [1])
    assert len(receiver.spans) in {4, 5}
    component = {
        "otel.component.type": f"otlp_{protocol}_span_exporter",
        "otel.component.name": f"otlp_{protocol}_span_exporter/{NAME}",
    }
    assert told(receiver, "otel.sdk.exporter.span.exported", **component)
    assert told(receiver, "otel.sdk.exporter.span.inflight", **component)[-1] == 0
    queue = {"otel.component.name": f"batching_span_processor/{NAME}"}
    assert told(receiver, "otel.sdk.processor.span.queue.capacity", **queue)[-1] == 100_000
    assert told(receiver, "otel.sdk.processor.span.queue.size", **queue)[-1] == 0
    assert told(receiver, "otel.sdk.span.started")[-1] >= 5
    count, seconds = told(receiver, "otel.sdk.exporter.operation.duration", **component)[-1]
    assert count >= 1
    assert seconds > 0
    collected = "otel.sdk.metric_reader.collection.duration"
    await eventually(lambda: told(receiver, collected)[-1][0] >= 1)


async def test_what_a_backend_refuses_has_its_reason(runtime, grpc):
    await start(grpc, metrics_interval=3600)
    grpc.script(PartialSuccess(rejected=2, message="no"))
    for _ in range(5):
        with span("shop.order"):
            pass
    await eventually(lambda: registry.stats_of(NAME)["sent"].get("spans", {}).get("failed"))
    await flush()
    spans = {"otel.component.name": f"otlp_grpc_span_exporter/{NAME}"}
    failed = told(grpc, "otel.sdk.exporter.span.exported", **spans, **{"error.type": "rejected"})
    assert failed[-1] == 2
    sent = (await stats_of(NAME))["sent"]["spans"]
    assert (sent["exported"], sent["failed"], sent["in_flight"]) == (3, {"partial_success": 2}, 0)
    assert told(grpc, "otel.sdk.exporter.operation.duration", **spans, **{"error.type": "rejected"})


# --- what they cost


async def test_telling_of_them_feeds_nothing(runtime, grpc):
    await start(grpc)
    name = f"{PREFIX}metric_readings"
    await eventually(lambda: len(told(grpc, name)) >= 12)
    sizes = {}
    for point in own(points_at(grpc)):
        if point.name == f"{PREFIX}metric_readings":
            sizes[point.value] = 0
    by_request = [
        len(own(points_at(type("One", (), {"taken": [request]}))))
        for request in grpc.taken
        if request.signal == "metrics"
    ]
    whole = [size for size in by_request if size]
    # Reasons and outcomes come once each; then every reading is as large as the one before.
    assert whole[-1] == whole[-4]
    accepted = told(grpc, f"{PREFIX}events_accepted", exporter=NAME)
    steps = {after - before for before, after in zip(accepted[-5:], accepted[-4:], strict=False)}
    assert len(steps) == 1
    stats = await stats_of(NAME)
    assert stats["metrics"]["series"] == 0


async def test_while_the_backend_is_down_they_do_not_pile_up(runtime, grpc):
    await start(grpc, failure_threshold=1000)
    await eventually(lambda: own(points_at(grpc)))
    grpc.always(GrpcStatus("UNAVAILABLE"))
    await eventually(lambda: registry.stats_of(NAME)["metrics"]["skipped"] > 5)
    first = registry.find(NAME).produced_held
    await eventually(lambda: registry.stats_of(NAME)["metrics"]["skipped"] > 15)
    assert registry.find(NAME).produced_held == first


# --- settings and changes


async def test_they_can_be_switched_off_and_on(runtime, grpc):
    await start(grpc, self_metrics=False)
    execute("shop.sold", {"count": 1})
    await eventually(lambda: len(told(grpc, "shop.sold.total")) > 3)
    assert not own(points_at(grpc))
    change = ("config_changed", "telemetry.otel.self_metrics", False, True)
    await gen_server.cast(NAME, change)
    await eventually(lambda: own(points_at(grpc)))
    await gen_server.cast(NAME, ("config_changed", "telemetry.otel.self_metrics", True, False))
    await eventually(lambda: registry.stats_of(NAME)["config_generation"] == 3)
    before = len(own(points_at(grpc)))
    sold = len(told(grpc, "shop.sold.total"))
    await eventually(lambda: len(told(grpc, "shop.sold.total")) > sold + 3)
    # One reading may have been on its way.
    assert len(own(points_at(grpc))) <= before + 150


async def test_without_metrics_there_are_none(runtime, grpc):
    await start(grpc, metrics=False)
    with span("shop.order"):
        pass
    await eventually(lambda: grpc.spans)
    await flush()
    assert not points_at(grpc)


@pytest.mark.parametrize(
    ("preference", "temporality"), [("cumulative", CUMULATIVE), ("delta", DELTA), ("lowmemory", CUMULATIVE)]
)
async def test_the_temporality_is_the_one_of_all_metrics(runtime, grpc, preference, temporality):
    await start(grpc, metrics_temporality=preference)
    await start_mock_exporter({"event_patterns": ["shop.*"]})
    for _ in range(7):
        execute("shop.sold", {"count": 1})
    name, mock = f"{PREFIX}events_accepted", {"exporter": "mock_exporter"}
    together = sum if temporality is DELTA else max
    await eventually(lambda: together(told(grpc, name, **mock) or [0]) == 7)
    points = own(points_at(grpc))
    assert {point.temporality for point in points if point.name == name} == {temporality}
    assert {point.temporality for point in points if point.name == "otel.sdk.span.live"} == {CUMULATIVE}
    assert {point.form for point in points if point.name.endswith("breaker_state")} == {"gauge"}


async def test_they_are_of_a_scope_of_their_own(runtime, grpc):
    await start(grpc)
    execute("shop.sold", {"count": 1})
    await eventually(lambda: own(points_at(grpc)) and told(grpc, "shop.sold.total"))
    scopes = {point.scope[0] for point in own(points_at(grpc))}
    assert scopes == {"otpylib_telemetry.exporter"}
    assert {point.scope[0] for point in points_at(grpc) if point.name == "shop.sold.total"} != scopes


# --- names


@pytest.mark.parametrize("metric", SELF_METRICS, ids=lambda metric: metric.name)
def test_a_collector_makes_the_names_of_the_page_of_those_sent(metric):
    kind = {"counter": Kind.COUNTER, "gauge": Kind.GAUGE, "summary": Kind.HISTOGRAM}[metric.type]
    name, unit = metric.instrument
    assert PROMETHEUS.instrument(name, unit, kind)[0] == metric.name
    assert re.fullmatch(r"otpylib\.telemetry\.(exporter|prometheus)\.[a-z_]+", name)


STATS = {
    "name": NAME,
    "components": {"spans": "otlp_grpc_span_exporter", "logs": "x", "metrics": "y"},
    "lanes": {},
    "sent": {"spans": {"attempts": {"ok": 1, "refused": 2}, "seconds": {"ok": 0.5, "refused": 1.0}}},
    "queue_limit": 10,
    "open_spans": 0,
    "spans_created": 0,
    "metrics": {"readings": 1, "reading_seconds": 0.1},
}


def test_the_sdks_names_and_units_are_those_of_the_conventions():
    constants = {
        value for name, value in vars(otel_metrics).items() if name.isupper() and isinstance(value, str)
    }
    types = {one.value for one in otel_attributes.OtelComponentTypeValues}
    rows = [*sdk_rows(NAME, STATS)]
    assert {row.name for row in rows} <= constants
    assert {row.labels["otel.component.type"] for row in rows} <= types | {"x", "y"}
    assert len({(row.name, tuple(sorted(row.labels.items()))) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"name": object(), "state": object(), "dropped": 5, "lanes": [], "breaker": None},
        {"name": "x", "components": {"what": 1}, "sent": 3},
        {"name": "x", "components": {"spans": "y"}, "sent": {"spans": {"failed": None}}, "queue_limit": "no"},
        {**STATS, "queue_limit": float("nan"), "spans_created": -1, "open_spans": "many"},
    ],
)
def test_an_answer_that_is_nonsense_costs_the_others_nothing(answer):
    metrics = SelfMetrics({})
    good = {"name": "good", "accepted": 3, "dropped": {}}
    metrics.observe([answer, good])
    found = metrics._store.find(f"{PREFIX}events_accepted")
    assert {labels: series.value for labels, series in found.series.items()} == {(("exporter", "good"),): 3}


def test_nothing_is_told_of_an_exporter_that_is_gone():
    metrics = SelfMetrics({})
    metrics.observe([{**STATS, "accepted": 3}, {"name": "other", "accepted": 4}])
    assert metrics._store.series_count() > 10
    metrics.observe([{"name": "other", "accepted": 5}])
    assert metrics._store.series_count() == 1


def test_what_begins_anew_is_counted_anew():
    metrics = SelfMetrics({})
    metrics.observe([STATS])
    fewer = {**STATS, "metrics": {"readings": 0, "reading_seconds": 0.0}}
    metrics.observe([fewer])
    [series] = metrics._store.find("otel.sdk.metric_reader.collection.duration").all_series()
    assert (series.count, series.sum) == (0, 0.0)
