"""Exporters are ordinary otpylib servers: whatever starts a GenServer starts them, with None or any table."""

import pytest
from otpylib import dynamic_supervisor, gen_server, process
from otpylib.module import DYNAMIC_SUPERVISOR, OTPModule

from otpylib_telemetry import execute, otp, span, start_link
from otpylib_telemetry.exporter import registry
from otpylib_telemetry_mock import MockExporterServer, assert_emitted
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.exporter import OtelExporter, otel_callbacks
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.exporter import PrometheusExporter, prometheus_callbacks
from tests.support.runtime import in_process
from tests.support.waiting import eventually

TABLES = [
    None,
    {},
    {"batch_size": 7},
    {"batch_size": 7, "flush_interval": 0.05},
    {"batch_size": 7, "flush_interval": 0.05, "queue_limit": 500},
]
SERVERS = [
    (OtelExporter, "otel_exporter"),
    (otel_callbacks, "otel_exporter"),
    (PrometheusExporter, "prometheus_exporter"),
    (prometheus_callbacks, "prometheus_exporter"),
    (MockExporterServer, "mock_exporter"),
]


async def state_is_known(name):
    return (await otp.safe_call(name, ("get_stats",)))["state"] != "starting"


def settings_for(module, table, receiver):
    """The same table, with what keeps the test to itself."""
    if table is None:
        return None
    more = {"endpoint": receiver.endpoint} if module is OtelExporter else {}
    more |= {"port": 0} if module is PrometheusExporter else {}
    return {**table, **more}


@pytest.mark.parametrize("start", [gen_server.start, gen_server.start_link], ids=["start", "start_link"])
@pytest.mark.parametrize(("module", "name"), SERVERS)
@pytest.mark.parametrize("table", TABLES, ids=repr)
async def test_gen_server_starts_it_and_its_table_counts(otlp_receiver, runtime, start, module, name, table):
    given = settings_for(module, table, otlp_receiver)

    async def scenario():
        pid = await start(module, given, name)
        assert otp.whereis(name) == pid
        stats = await otp.safe_call(name, ("get_stats",))
        assert stats["name"] == name
        await eventually(lambda: state_is_known(name))
        config = await otp.safe_call(name, ("get_config",))
        assert config["config"]["batch_size"] == (table or {}).get("batch_size", 100)
        await process.unlink(pid)
        await process.exit(pid, "bye")

    await in_process(scenario)


@pytest.mark.parametrize(
    "wrong", [5, "text", ["list"], ("otel_exporter", {}), {"endpont": "x"}, {1: 2}], ids=repr
)
async def test_a_wrong_table_leaves_it_up_with_the_reason(runtime, wrong):
    async def scenario():
        await gen_server.start(OtelExporter, wrong, "otel_exporter")
        await eventually(lambda: state_is_known("otel_exporter"))
        stats = await otp.safe_call("otel_exporter", ("get_stats",))
        assert (stats["state"], bool(stats["reason"])) == ("idle", True)

    await in_process(scenario)


async def test_without_a_name_it_has_that_of_its_class(runtime):
    async def scenario():
        await gen_server.start(MockExporterServer, None)
        execute("shop.sold")
        await eventually(lambda: registry.stats_of("mock_exporter")["exported"] == 1)
        assert otp.whereis("mock_exporter") is None

    await in_process(scenario)


@pytest.mark.parametrize("names", [(None, None, None), ("mock_exporter", None, None)], ids=str)
async def test_each_of_several_without_a_name_has_books_of_its_own(runtime, caplog, names):
    async def scenario():
        pids = [await gen_server.start(MockExporterServer, None, name) for name in names]
        execute("shop.sold")
        works_as = ["mock_exporter", "mock_exporter_2", "mock_exporter_3"]
        for name in works_as:
            await eventually(lambda name=name: registry.stats_of(name)["exported"] == 1)
        assert [registry.stats_of(name)["lives"] for name in works_as] == [1, 1, 1]
        assert caplog.text.count("without a name beside mock_exporter") == 2
        # One that comes again goes on with what its predecessor had.
        await process.exit(pids[1], "bye")
        await eventually(lambda: not registry.is_running("mock_exporter_2"))
        await gen_server.start(MockExporterServer, None)
        execute("shop.sold")
        await eventually(lambda: registry.stats_of("mock_exporter_2")["exported"] == 2)
        assert registry.stats_of("mock_exporter")["lives"] == 1

    await in_process(scenario)


async def test_a_name_that_one_without_a_name_works_under_is_refused_aloud(runtime):
    async def scenario():
        await gen_server.start(OtelExporter, None)
        with pytest.raises(RuntimeError, match="a process of that name is running"):
            await start_otel_exporter({})

    await in_process(scenario)


async def test_what_it_holds_is_sent_and_released_when_it_ends(otlp_receiver, runtime):
    async def scenario():
        pid = await gen_server.start(
            OtelExporter, {"endpoint": otlp_receiver.endpoint, "logs": False}, "otel_exporter"
        )
        await eventually(lambda: state_is_known("otel_exporter"))
        with span("shop.checkout"):
            pass
        await process.exit(pid, "bye")

    await in_process(scenario)
    await eventually(lambda: [each.name for each in otlp_receiver.spans] == ["shop.checkout"])


async def test_a_crash_of_one_linked_ends_its_starter_and_nothing_is_lost(otlp_receiver, runtime):
    async def scenario():
        settings = {"endpoint": otlp_receiver.endpoint, "logs": False, "flush_interval": 0.05}
        await gen_server.start(OtelExporter, settings, "otel_exporter")
        with span("first"):
            pass
        await process.exit(otp.whereis("otel_exporter"), "crash")
        await eventually(lambda: otp.whereis("otel_exporter") is None)
        with span("second"):
            pass
        await gen_server.start(OtelExporter, settings, "otel_exporter")

    await in_process(scenario)
    await eventually(lambda: {each.name for each in otlp_receiver.spans} == {"first", "second"})
    assert len(otlp_receiver.spans) == 2


class Dynamic(metaclass=OTPModule, behavior=DYNAMIC_SUPERVISOR, version="1.0.0"):
    async def init(self, _args):
        return [], dynamic_supervisor.options(max_restarts=10, max_seconds=60)

    async def terminate(self, reason, state):
        pass


@pytest.mark.parametrize("table", TABLES, ids=repr)
async def test_a_dynamic_supervisor_starts_and_restarts_it(runtime, table):
    async def scenario():
        await dynamic_supervisor.start(Dynamic, None, "dynamic")
        spec = dynamic_supervisor.child_spec(
            id="mock", module=MockExporterServer, args=table, name="mock_exporter"
        )
        await process.send("dynamic", (dynamic_supervisor.ADD_CHILD, spec, process.self()))
        await eventually(lambda: otp.whereis("mock_exporter") is not None)
        await eventually(lambda: state_is_known("mock_exporter"))
        config = await otp.safe_call("mock_exporter", ("get_config",))
        assert config["config"]["batch_size"] == (table or {}).get("batch_size", 100)

    await in_process(scenario)


async def test_a_cast_to_the_manager_emits(runtime, telemetry):
    await start_link({})
    for message in (
        ("emit", "shop.sold", {"count": 2}, {"order": 7}),
        ("emit", "shop.closed", None, None),
        ("emit", "too", "short"),
        ("emit", 5, object(), "nothing of a kind"),
    ):
        await gen_server.cast("telemetry_manager", message)
    stats = await otp.safe_call("telemetry_manager", ("get_stats",))
    assert_emitted(telemetry, "shop.sold", {"count": 2}, {"order": 7}, count=1)
    assert_emitted(telemetry, "shop.closed", count=1)
    assert (stats["unknown_messages"], stats["refused_events"]) == (1, 1)


async def test_the_statistics_have_the_names_of_the_design(otlp_receiver, runtime):
    names = {"events_processed", "events_failed", "events_exported"}
    await start_otel_exporter({"endpoint": otlp_receiver.endpoint, "metrics": False, "logs": False})
    await start_prometheus_exporter({"port": 0})
    for _ in range(3):
        with span("shop.checkout"):
            execute("shop.sold", {"count": 1})
    with span("still.open"):
        for name, more in (
            ("otel_exporter", {"spans_created": 4, "spans_exported": 3}),
            ("prometheus_exporter", {"metrics_updated": 10}),
        ):
            await otp.safe_call(name, ("flush", 30.0))
            stats = await otp.safe_call(name, ("get_stats",))
            assert {key: stats[key] for key in more} == more
            assert names <= set(stats)
            assert stats["events_processed"] == stats["events_exported"] + stats["events_failed"]
            assert stats["events_processed"] == stats["accepted"] - stats["queued"] - stats["in_flight"]
