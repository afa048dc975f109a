"""Definitions of metrics that stand in a file, while the file is edited."""

import pytest

from otpylib_telemetry import TomlSource, execute
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.ledger import stats_of
from tests.support.waiting import eventually

COUNT = """
[[{table}]]
type = "counter"
name = "shop.sold.count"
tags = ["shop"]
"""
DEPTH = """
[[{table}]]
type = "last_value"
name = "shop.queue.depth"
"""
TOOK = """
[[{table}]]
type = "distribution"
name = "shop.sold.duration_ms"
unit = ["ms", "s"]
buckets = [{bounds}]
"""
MISSPELT = """
[[{table}]]
type = "counter"
name = "shop.refund.count"
tag = ["shop"]
"""


class Exit:
    """An exporter whose definitions are in a file."""

    def __init__(self, name, table, start, settings):
        self.name, self.table = name, table
        self.start, self.settings = start, settings

    def write(self, path, *tables, bounds="0.1, 1"):
        section = self.table.rpartition(".")[0]
        text = "".join(tables).format(table=self.table, bounds=bounds)
        fresh = path.with_suffix(".new")
        fresh.write_text(f"[{section}]\n{self.settings}\n{text}\n", encoding="utf-8")
        fresh.replace(path)

    def has(self, *parts):
        """Whether there are these metrics and no others, each told by a part of its name."""
        names = [metric.name.replace("_", ".") for metric in store_of(self.name).metrics]
        return len(names) == len(parts) and all(any(part in name for name in names) for part in parts)

    def find(self, part):
        (found,) = [one for one in store_of(self.name).metrics if part in one.name.replace("_", ".")]
        return found

    async def running(self):
        return (await stats_of(self.name))["state"] == "running"


EXITS = [
    Exit(
        "prometheus_exporter",
        "telemetry.prometheus.metrics",
        start_prometheus_exporter,
        'port = 0\nself_metrics = false\nevent_patterns = ["shop.*"]',
    ),
    Exit(
        "otel_exporter",
        "telemetry.otel.metrics_definitions",
        start_otel_exporter,
        'metrics_interval = 3600\ntraces = false\nlogs = false\nevent_patterns = ["shop.*"]',
    ),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)


@pytest.fixture(params=EXITS, ids=["prometheus", "otel"])
async def edited(request, runtime, config_manager, tmp_path, http_receiver):
    """Start an exporter under a file; returns a function that edits it, and the exporter."""
    there, path = request.param, tmp_path / "config.toml"
    there.write(path, COUNT, DEPTH, TOOK)
    await config_manager(TomlSource(path))
    endpoint = {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf"}
    await there.start(endpoint if there.name == "otel_exporter" else None)
    await eventually(there.running)
    await eventually(lambda: there.has("count", "depth", "duration"))
    execute("shop.sold", {"duration_ms": 50}, {"shop": "north"})
    execute("shop.queue", {"depth": 3}, {})
    await eventually(lambda: len(there.find("depth").series) == 1)
    return lambda *tables, **options: there.write(path, *tables, **options), there


async def test_what_stays_in_the_file_goes_on_what_leaves_it_goes_and_what_changes_starts_again(edited):
    edit, there = edited
    kept, changed = there.find("count"), there.find("duration")
    edit(COUNT, TOOK, bounds="0.5, 2")
    await eventually(lambda: there.has("count", "duration") and there.find("duration") is not changed)
    assert there.find("count") is kept
    assert [one.value for one in kept.all_series()] == [1]
    assert there.find("duration").bounds == (0.5, 2.0)
    assert there.find("duration").all_series() == []
    execute("shop.sold", {"duration_ms": 50}, {"shop": "north"})
    await eventually(lambda: [one.count for one in there.find("duration").all_series()] == [1])
    assert [one.value for one in kept.all_series()] == [2]


async def test_a_bad_edit_changes_nothing_and_says_which_table_and_a_good_one_is_taken(edited, caplog):
    edit, there = edited
    before = list(store_of(there.name).metrics)
    edit(COUNT, MISSPELT, TOOK, bounds="0.5, 2")

    def complaints():
        return [record.getMessage() for record in caplog.records if "'shop.refund.count'" in record.message]

    await eventually(complaints)
    (message,) = complaints()
    assert message.startswith(there.table)
    assert (
        "item 2 (counter 'shop.refund.count'): 'tag' is no option of a counter; did you mean tags?" in message
    )
    assert list(store_of(there.name).metrics) == before
    execute("shop.sold", {"duration_ms": 50}, {"shop": "north"})
    await eventually(lambda: [one.count for one in there.find("duration").all_series()] == [2])
    edit(COUNT, MISSPELT.replace("tag =", "tags ="), TOOK)
    await eventually(lambda: there.has("sold.count", "refund", "duration"))
    assert [one.value for one in there.find("sold.count").all_series()] == [2]
    assert [one.count for one in there.find("duration").all_series()] == [2]
