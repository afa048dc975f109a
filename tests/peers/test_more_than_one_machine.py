"""What docs/operations.md says of more than one machine, with the files that stand there."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from otpylib_telemetry import current_span, otp, span
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support import peers, programs
from tests.support.epmd import running_epmd
from tests.support.ledger import stats_of
from tests.support.machines_beside import ConfiguredCollector, ConfiguredPrometheus, files_of_the_page
from tests.support.operated import environment
from tests.support.prometheus_server import PACKAGE
from tests.support.waiting import eventually, wait_until

ROOT = Path(__file__).parents[2]
EXPORTER = "otel_exporter"
COUNT = 1_000


class Tier:
    """An agent, a gateway behind it, and what comes out there."""

    def __init__(self, directory):
        files = files_of_the_page()
        self.backend = GrpcReceiver()
        behind = {"ROTEL_OTLP_EXPORTER_ENDPOINT": self.backend.endpoint}
        self.gateway = ConfiguredCollector(directory, "gateway", files["gateway.env"], **behind)
        behind = {"ROTEL_OTLP_EXPORTER_ENDPOINT": f"http://{self.gateway.grpc}"}
        self.agent = ConfiguredCollector(directory, "agent", files["agent.env"], **behind)

    def start(self):
        self.gateway.start()
        self.agent.start()

    def close(self):
        self.agent.stop(kill=True)
        self.gateway.stop(kill=True)
        self.backend.close()


@pytest.fixture
def tier(tmp_path):
    found = Tier(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.close()


async def sell(count=COUNT):
    for number in range(count):
        with span("shop.checkout"):
            pass
        if not number % 100:
            await asyncio.sleep(0)


async def flushed():
    """Nothing waits in the application, and it has lost nothing."""
    await otp.safe_call(EXPORTER, ("flush", 30.0), timeout=60)
    found = await stats_of(EXPORTER)
    assert (found["state"], found["breaker"], found["dropped"]) == ("running", "closed", {})
    return found["queued"] + found["in_flight"] == 0


async def arrived(tier, count):
    await eventually(lambda: len(tier.backend.spans) >= count, 120)
    found = [each.span_id for each in tier.backend.spans]
    assert len(found) == len(set(found)) == count


async def test_a_tier_of_collectors_of_which_one_after_the_other_is_stopped(runtime, tier):
    settings = {"failure_threshold": 2, "reset_timeout": 0.5, "retry_attempts": 1, "flush_interval": 0.1}
    await start_otel_exporter(
        {"endpoint": f"http://{tier.agent.grpc}", "event_patterns": ["shop.*"], "metrics": False, **settings}
    )
    await sell()
    await eventually(flushed)
    await arrived(tier, COUNT)

    await asyncio.to_thread(tier.gateway.stop, kill=True)
    await sell()
    await eventually(flushed)
    assert len(tier.backend.spans) == COUNT
    await asyncio.to_thread(tier.gateway.start)
    await arrived(tier, 2 * COUNT)

    await asyncio.to_thread(tier.agent.stop)
    await sell()

    async def is_open():
        found = await stats_of(EXPORTER)
        return found["breaker"] == "open" and found["queued"] + found["in_flight"] == 2 * COUNT

    await eventually(is_open)
    await asyncio.to_thread(tier.agent.start)
    await eventually(flushed)
    await arrived(tier, 3 * COUNT)

    # What an agent holds it holds in memory.
    await asyncio.to_thread(tier.gateway.stop, kill=True)
    await sell()
    await eventually(flushed)
    await asyncio.to_thread(tier.agent.stop, kill=True)
    await asyncio.to_thread(tier.start)
    await sell(1)
    await eventually(flushed)
    await arrived(tier, 3 * COUNT + 1)


@pytest.mark.process
async def test_two_nodes_tell_of_one_trace(tier, tmp_path):
    text = files_of_the_page()["node.toml"].replace("http://localhost:4317", f"http://{tier.agent.grpc}")
    nodes = []
    async with running_epmd() as port:
        try:
            for name, peer in (("till@127.0.0.1", ""), ("shop@127.0.0.1", "till@127.0.0.1")):
                directory = tmp_path / name.partition("@")[0]
                directory.mkdir()
                (directory / "config.toml").write_text(text)
                output = directory / "output"
                nodes.append(await started(directory, output, port, name, peer))
                await eventually(lambda output=output: "\nup\n" in output.read_text())
            assert await asyncio.to_thread(nodes[1].wait, 120) == 0, output.read_text()
            nodes[0].stdin.close()
            assert await asyncio.to_thread(nodes[0].wait, 120) == 0
        finally:
            for each in nodes:
                each.kill()
                each.communicate()
    await eventually(lambda: {each.name for each in tier.backend.spans} >= {"shop.order", "shop.receipt"})
    spans = {each.span_id: each for each in tier.backend.spans}
    receipt = next(each for each in spans.values() if each.name == "shop.receipt")
    handled = spans[receipt.parent_span_id]
    order = spans[handled.parent_span_id]
    assert (handled.name, order.name, order.parent_span_id) == ("otpylib.handle", "shop.order", "")
    assert receipt.trace_id == handled.trace_id == order.trace_id
    nodes = [each.resource["service.instance.id"] for each in (order, handled, receipt)]
    assert nodes == ["shop@127.0.0.1", "till@127.0.0.1", "till@127.0.0.1"]
    assert {each.resource["service.name"] for each in spans.values()} == {"shop"}


async def started(directory, output, *arguments):
    with output.open("wb") as stream:
        return await asyncio.to_thread(
            programs.start,
            ["-m", "tests.support.shop_node", *arguments],
            cwd=directory,
            env=environment(NODE_NAME=arguments[1], PYTHONPATH=str(ROOT)),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
        )


@pytest.fixture
def servers(tmp_path):
    """A function that starts a server by files of the page in which some words are others."""
    running = []

    def start(name, changed, *flags):
        files = files_of_the_page()
        files = {each: files[each] for each in ((name, "rules.yml") if name == "prometheus.yml" else (name,))}
        for each, text in files.items():
            for old, new in {"15s": "250ms", **changed}.items():
                assert each == "rules.yml" or old in text, (old, each)
                text = text.replace(old, new)  # noqa: PLW2901  # word by word
            files[each] = text
        found = ConfiguredPrometheus(tmp_path / f"{name}{len(running)}", files, *flags)
        running.append(found)
        found.start()
        return found

    yield start
    # One that cannot write any more would wait for its receiver.
    for each in reversed(running):
        each.stop()


async def test_federation_and_remote_write(runtime, servers):
    await start_prometheus_exporter({"port": 0, "event_patterns": ["shop.*"], "flush_interval": 0.1})
    page = await eventually(page_of_metrics)
    receiver = await asyncio.to_thread(servers, "global.yml", {}, "--web.enable-remote-write-receiver")
    changed = {
        'targets: ["shop-1:9464", "shop-2:9464", "shop-3:9464", "shop-4:9464"]': f'targets: ["{page}"]',
        "http://prometheus-long:9090": f"http://127.0.0.1:{receiver.port}",
        # Whichever of the two it is.
        "modulus: 2": "modulus: 1",
    }
    leaf = await asyncio.to_thread(servers, "prometheus.yml", changed)
    changed = {'["prometheus-0:9090", "prometheus-1:9090"]': f'["127.0.0.1:{leaf.port}"]'}
    above = await asyncio.to_thread(servers, "global.yml", changed)

    traces = set()

    async def is_there(server, promql):
        with span("shop.checkout"):
            traces.add(current_span().trace_id)
        return await asyncio.to_thread(server.query, promql)

    rate = 'job:shop_checkout_duration_seconds_count:rate5m{outcome="success"} > 0'
    [found] = await eventually(lambda: is_there(above, rate))
    assert found.labels == {"job": "shop", "outcome": "success", "shard": "0"}
    names = {each.name for each in await asyncio.to_thread(above.query, '{job="shop"}')}
    assert names
    assert all(name.startswith("job:") for name in names)

    await eventually(lambda: is_there(receiver, "shop_checkout_duration_seconds_count > 3"))
    last = (await asyncio.to_thread(leaf.query, "shop_checkout_duration_seconds_count"))[0].value
    await eventually(lambda: is_there(receiver, f"shop_checkout_duration_seconds_count >= {last}"))
    names = {each.name for each in await asyncio.to_thread(receiver.query, '{job="shop"}')}
    assert {"shop_checkout_in_flight", "otpylib_telemetry_exporter_state"} <= names
    assert not [name for name in names if name.startswith("otpylib_telemetry_prometheus_")]
    assert [
        each.name
        for each in await asyncio.to_thread(leaf.query, '{__name__=~"otpylib_telemetry_prometheus_.*"}')
    ]

    async def exemplars():
        query = {"query": "shop_checkout_duration_seconds_bucket", "start": 0, "end": 4_000_000_000}
        found = await asyncio.to_thread(lambda: receiver.api("query_exemplars", **query))
        return [each["labels"]["trace_id"] for series in found for each in series["exemplars"]]

    assert set(await eventually(exemplars)) <= traces


async def page_of_metrics():
    found = await stats_of("prometheus_exporter")
    return f"127.0.0.1:{found['port']}" if found["state"] == "running" else None


def test_each_application_is_scraped_by_one_of_the_two(servers):
    one, other = (servers("prometheus.yml", {'regex: "0"': f'regex: "{shard}"'}) for shard in (0, 1))

    def shares():
        return [{each["labels"]["instance"] for each in server.targets()} for server in (one, other)]

    kept = wait_until(lambda: all(shares()) and sum(map(len, shares())) == 4 and shares())
    assert kept[0] | kept[1] == {f"shop-{number}:9464" for number in range(1, 5)}


@pytest.mark.parametrize("name", ["prometheus.yml", "global.yml"])
def test_promtool_has_nothing_to_say_against_the_files(name, tmp_path):
    promtool = peers.find_program("promtool", PACKAGE)
    for each in (name, "rules.yml"):
        (tmp_path / each).write_text(files_of_the_page()[each])
    done = subprocess.run([promtool, "check", "config", name], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stderr
