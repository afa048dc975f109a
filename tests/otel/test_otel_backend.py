"""The OpenTelemetry exporter put together: what it makes of events, and what sampling does to them."""

import logging
import random
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otpylib import gen_server

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.errors import BackendUnavailableError
from otpylib_telemetry_otel.sampling.head import SAMPLING_WEIGHT
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_otel.signals import traces
from tests.support.chassis import runner
from tests.support.examples import examples
from tests.support.waiting import eventually

MS = 1_000_000
SECOND = 1_000_000_000
LOW, HIGH = f"{1:032x}", "f" * 32


async def nothing():
    """Nothing to catch up with."""


def context():
    return ExportContext("otel_exporter", "telemetry.otel", {}, nothing, dict)


async def test_a_missing_certificate_holds_up_no_other_change(runtime, tmp_path):
    await start_otel_exporter({"endpoint": "https://localhost:1", "metrics": False, "logs": False})
    name = "otel_exporter"
    await eventually(
        lambda: registry.find(name).configuration and runner(name).lifecycle.health.status == "running"
    )
    missing = str(tmp_path / "ca.pem")
    for changes in (
        {"certificate": missing, "endpoint": "https://elsewhere:1", "sampling_rate": 0.5},
        {"compression": "gzip", "timeout": 3},
    ):
        await gen_server.cast(name, ("config_changed", "telemetry.otel", {}, changes))

    def in_force():
        settings = runner(name).exporter.settings
        return (settings.sampling_rate, settings.compression, settings.timeout) == (0.5, "gzip", 3)

    await eventually(in_force)
    answer = await otp.safe_call(name, ("get_config",))
    # A new address is not spoken to with the authorities of the old one.
    assert answer["wished"] == {"certificate": missing, "endpoint": "https://elsewhere:1"}
    assert answer["config"]["endpoint"] == "https://localhost:1"
    assert missing in (await otp.safe_call(name, ("get_stats",)))["reason"]


class Running:
    """A backend, fed with events at times of the test's own, with books that must balance."""

    def __init__(self, shared=None, **settings):
        self.context = shared or context()
        self.exporter = OtelBackend(OtelSettings(**settings), self.context)
        self.now = 0
        self.items = []
        self.given = 0
        self.sampled_out = 0
        self.exported = 0
        self.rejected = 0

    def emit(self, name, trace_id=HIGH, emitter="p", measurements=None, **metadata):
        if trace_id is not None:
            metadata["trace_id"] = trace_id
        self.given += 1
        self.book(self.exporter.collect([(name, measurements or {}, metadata, self.now, emitter)], 0))

    def pass_time(self, seconds, alive=lambda emitter: True):
        self.now += int(seconds * SECOND)
        self.book(self.exporter.tick(self.now, 0, alive))

    def give_up_held(self):
        self.book(self.exporter.give_up_held(0))

    async def change(self, **settings):
        wanted = OtelSettings(**settings)
        return await self.exporter.apply(wanted, frozenset(settings))

    def book(self, collected):
        self.items += collected.items
        self.sampled_out += collected.sampled_out
        self.exported += collected.exported
        self.rejected += collected.rejected
        waiting = sum(weight for _, weight in self.items)
        done = waiting + self.sampled_out + self.exported + self.rejected
        assert self.given == done + self.exporter.held, "the ledger balances"

    @property
    def names(self):
        return [one.name for one, _ in self.items]


def test_everything_is_sent_at_once_by_default():
    running = Running()
    running.emit("a.start")
    running.emit("a.stop")
    assert (running.names, running.exporter.held) == (["a"], 0)
    assert SAMPLING_WEIGHT not in running.items[0][0].attributes
    assert "sampling" not in running.exporter.stats()


def test_at_a_low_rate_an_error_brings_its_whole_trace_along():
    running = Running(sampling_rate=0.01)
    running.emit("outer.start", span_id="a" * 16)
    running.emit("inner.start", span_id="b" * 16, parent_span_id="a" * 16)
    running.emit("inner.stop", span_id="b" * 16)
    running.emit("other.start", trace_id="e" * 32)
    running.emit("other.stop", trace_id="e" * 32)
    assert (running.names, running.exporter.held) == ([], 5)
    assert running.exporter.stats()["sampling"] == {"held_spans": 2, "undecided_traces": 2}
    running.emit("outer.error", span_id="a" * 16)
    assert running.names == ["inner", "outer"]
    running.pass_time(1)
    assert (running.names, running.sampled_out, running.exporter.held) == (["inner", "outer"], 2, 0)
    assert running.exporter.stats()["finished_spans"] == 3


def test_what_was_chosen_says_for_how_many_it_stands():
    running = Running(sampling_rate=0.25)
    for trace_id in (LOW, HIGH):
        running.emit("a.start", trace_id=trace_id, tenant="gold")
        running.emit("a.stop", trace_id=trace_id)
    running.emit("a.start", trace_id="e" * 32)
    running.emit("a.error", trace_id="e" * 32)
    running.pass_time(1)
    weights = {one.trace_id: one.attributes.get(SAMPLING_WEIGHT) for one, _ in running.items}
    assert weights == {1: 4.0, int("e" * 32, 16): None}
    assert running.items[1][0].attributes["tenant"] == "gold"


def test_what_dies_in_the_middle_of_its_work_is_kept():
    running = Running(sampling_rate=0.0)
    running.emit("a.start", emitter="dead")
    running.pass_time(1, alive=lambda emitter: emitter != "dead")
    assert [one.incomplete for one, _ in running.items] == ["emitter_died"]


def test_draining_decides_about_everything():
    running = Running(sampling_rate=0.5)
    running.emit("open.start", trace_id=LOW)
    for trace_id in (LOW, HIGH):
        running.emit("a.start", trace_id=trace_id)
        running.emit("a.stop", trace_id=trace_id)
    running.give_up_held()
    assert (running.names, running.sampled_out, running.exporter.held) == (["a", "open"], 2, 0)


def test_what_is_held_outlives_the_exporter():
    running = Running(sampling_rate=0.01)
    running.emit("a.start")
    running.emit("b.start", emitter="q")
    running.emit("b.stop", emitter="q")
    running.exporter = OtelBackend(OtelSettings(sampling_rate=0.01), running.context)
    assert running.exporter.held == 3
    running.emit("a.error")
    assert running.names == ["b", "a"]


def test_an_exporter_that_is_made_but_not_in_use_changes_nothing():
    running = Running(sampling_rate=0.5)
    OtelBackend(OtelSettings(), running.context)
    running.emit("a.start")
    running.emit("a.stop")
    assert running.exporter.held == 2


async def test_a_new_rate_is_for_new_traces():
    running = Running()
    running.emit("a.start")
    assert await running.change(sampling_rate=0.0)
    running.emit("b.start", trace_id="e" * 32)
    running.emit("b.stop", trace_id="e" * 32)
    running.emit("a.stop")
    running.pass_time(2)
    assert (running.names, running.sampled_out) == (["a"], 2)
    assert await running.change(sampling_rate=1.0)
    running.emit("c.start", trace_id="d" * 32)
    running.emit("c.stop", trace_id="d" * 32)
    assert running.names == ["a", "c"]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"always_keep_slower_than_ms": 100}, ["slow"]),
        ({"sampling_parent_based": True}, ["called"]),
        ({"sampling_rules": [{"name": "rul*", "rate": 1}]}, ["ruled"]),
        ({"sampling_rules": [{"attributes": {"tenant": "gold"}, "rate": 1}]}, ["paying"]),
        ({"max_spans_per_second": 1, "sampling_rate": 1.0}, ["slow"]),
        ({"max_held_spans": 1, "sampling_wait": 0}, []),
    ],
)
async def test_every_kind_of_sampling_changes_in_place(settings, kept):
    running = Running()
    assert await running.change(**{"sampling_rate": 0.0, **settings})
    details = {
        "slow": {"measurements": {"duration_ms": 200}},
        "called": {"traceparent": f"00-{2:032x}-00000000000000aa-01"},
        "ruled": {},
        "paying": {"tenant": "gold"},
        "uncalled": {"traceparent": f"00-{5:032x}-00000000000000aa-00"},
    }
    for number, (name, metadata) in enumerate(details.items(), start=1):
        running.emit(
            f"{name}.stop", trace_id=f"{number:032x}", **{"measurements": {"duration_ms": 1}, **metadata}
        )
    running.pass_time(2)
    assert running.names == kept


def test_what_waits_never_takes_up_more_than_half_of_the_queue():
    running = Running(sampling_rate=0.01, queue_limit=100)
    for number in range(500):
        running.emit("root.start", trace_id=f"{number + 2**127:032x}", emitter=number)
        running.emit("a.start", trace_id=f"{number + 2**127:032x}")
        running.emit("a.stop", trace_id=f"{number + 2**127:032x}")
        assert running.exporter.traces._tail.held <= 50


def test_a_new_length_of_the_queue_is_noticed():
    running = Running(sampling_rate=0.01)
    running.exporter.settings = OtelSettings(sampling_rate=0.01, queue_limit=10)
    running.pass_time(1)
    assert running.exporter.traces._tail.max_events == 5


class TestWithoutSpans:
    ELSEWHERE: ClassVar = {"endpoint": "http://localhost:4317", "traces": False}

    def test_for_log_records_operations_are_known_but_neither_sampled_nor_kept(self):
        running = Running(**self.ELSEWHERE, sampling_rate=0.01)
        running.emit("a.start", correlation_id="x")
        running.emit("note", correlation_id="x", trace_id=None)
        assert running.exporter.held == 1
        running.emit("a.stop", correlation_id="x")
        (note, _), *others = running.items
        assert (note.lane, note.trace_id, others) == ("logs", int(HIGH, 16), [])
        assert (running.exported, running.sampled_out, running.exporter.held) == (2, 0, 0)
        running.emit("b.start", emitter="dead")
        running.pass_time(1, alive=lambda emitter: emitter != "dead")
        assert (running.exported, running.exporter.held) == (3, 0)

    def test_for_metrics_alone_nothing_is_put_together(self):
        running = Running(**self.ELSEWHERE, logs=False)
        running.emit("a.start")
        assert (running.exporter.held, running.exporter.stats()["open_spans"]) == (0, 0)
        running.emit("a.stop")
        assert (running.exported, running.items) == (2, [])
        assert running.exporter.stats()["metrics"]["series"] > 0

    def test_what_is_held_when_only_metrics_are_left_is_done_with(self):
        running = Running(sampling_rate=0.01)
        running.emit("a.start", trace_id=LOW)
        for trace_id in (LOW, HIGH):
            running.emit("b.start", trace_id=trace_id)
            running.emit("b.stop", trace_id=trace_id)
        assert running.exporter.held == 5
        running.exporter = OtelBackend(OtelSettings(**self.ELSEWHERE, logs=False), running.context)
        running.emit("a.stop", trace_id=LOW)
        assert (running.exported, running.items, running.exporter.held) == (6, [], 0)


class TestInstalledSamplers:
    @pytest.fixture(autouse=True)
    def _no_backend(self, monkeypatch):
        class Silent:
            def close(self):
                pass

        monkeypatch.setattr(traces, "build", lambda *_: Silent())

    async def test_it_is_loaded_when_the_exporter_is_opened_and_decides_from_then_on(self):
        running = Running(sampler="traceidratio", sampler_argument="0.5")
        for trace_id in (LOW, HIGH):
            running.emit("a.start", trace_id=trace_id)
            running.emit("a.stop", trace_id=trace_id)
        running.pass_time(2)
        assert (running.names, running.exporter.held) == ([], 4)
        await running.exporter.open()
        running.pass_time(1)
        assert ([one.trace_id for one, _ in running.items], running.sampled_out) == ([1], 2)
        await running.exporter.close()

    async def test_one_that_is_not_installed_leaves_the_exporter_degraded_with_the_reason(self):
        exporter = OtelBackend(OtelSettings(sampler="jaeger_remote"), context())
        with pytest.raises(BackendUnavailableError, match="sampler named 'jaeger_remote'"):
            await exporter.open()

    @pytest.mark.parametrize("change", [{"sampler": "always_off"}, {"sampler_argument": "0.5"}])
    async def test_another_one_needs_a_new_exporter(self, change):
        exporter = OtelBackend(OtelSettings(), context())
        assert not await exporter.apply(OtelSettings(**change), frozenset(change))

    async def test_the_one_that_is_loaded_stays_when_something_else_changes(self):
        running = Running(sampler="always_off")
        await running.exporter.open()
        wanted = OtelSettings(sampler="always_off", always_keep_errors=False)
        assert await running.exporter.apply(wanted, frozenset({"always_keep_errors"}))
        running.emit("a.start", trace_id=None)
        running.emit("a.error", trace_id=None)
        assert (running.names, running.sampled_out) == ([], 2)
        await running.exporter.close()

    async def test_a_sampler_that_fails_stops_nothing(self, caplog, monkeypatch):
        running = Running(sampler="always_on", sampling_rate=0.5)
        await running.exporter.open()
        sampler = running.exporter.traces._policy.sampler
        monkeypatch.setattr(sampler, "_sampler", None)
        with caplog.at_level(logging.WARNING, "otpylib_telemetry"):
            for trace_id in (LOW, HIGH):
                running.emit("a.start", trace_id=trace_id)
                running.emit("a.stop", trace_id=trace_id)
            running.pass_time(2)
        assert [one.trace_id for one, _ in running.items] == [1]
        assert len(caplog.records) == 1
        await running.exporter.close()


STEPS = st.one_of(
    st.tuples(
        st.just("emit"),
        st.sampled_from(["a.start", "a.stop", "a.error", "b.start", "b.stop", "note"]),
        st.sampled_from([LOW, HIGH, "e" * 32, None]),
        st.sampled_from([None, "x"]),
        st.sampled_from([None, 1, 1000]),
    ),
    st.tuples(st.just("pass_time"), st.sampled_from([0.1, 1, 10])),
    st.tuples(st.just("crash")),
    st.tuples(
        st.just("change"),
        st.sampled_from(
            [
                {"sampling_rate": 1.0},
                {"sampling_rate": 0.5},
                {"sampling_rate": 0.5, "always_keep_errors": False},
                {"sampling_rate": 0.0, "always_keep_slower_than_ms": 500},
                {"max_spans_per_second": 2},
                {"sampling_rules": [{"name": "a", "rate": 0}]},
                {"max_held_spans": 2, "max_active_spans": 3, "sampling_rate": 0.1},
            ]
        ),
    ),
)


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(STEPS, max_size=50))
def test_the_ledger_balances_whatever_is_emitted_changed_or_crashes(steps):
    running, current = Running(), {}
    for action, *arguments in steps:
        match action, arguments:
            case "emit", (name, trace_id, correlation_id, duration):
                measurements = {} if duration is None else {"duration_ms": duration}
                running.emit(name, trace_id, measurements=measurements, correlation_id=correlation_id)
            case "pass_time", (seconds,):
                running.pass_time(seconds)
            case "change", (current,):
                applying = running.change(**current)
                with pytest.raises(StopIteration) as done:
                    applying.send(None)
                assert done.value.value is True
            case _:
                running.exporter = OtelBackend(OtelSettings(**current), running.context)
    running.give_up_held()
    assert running.exporter.held == 0


def test_at_one_percent_whole_traces_arrive_through_the_exporter():
    generator = random.Random(1)
    running = Running(sampling_rate=0.01, always_keep_slower_than_ms=500)
    bad, lengths = set(), {}
    for _ in range(1500):
        trace_id, fate = generator.getrandbits(128) or 1, generator.random()
        ids = {"trace_id": f"{trace_id:032x}", "correlation_id": f"{trace_id}"}
        inner = generator.randint(1, 4)
        running.emit("outer.start", **ids)
        for number in range(inner):
            running.emit("inner.start", **ids)
            running.emit("inner.error" if fate < 0.03 and number == 0 else "inner.stop", **ids)
        running.emit("outer.stop", measurements={"duration_ms": 900 if 0.03 <= fate < 0.06 else 5}, **ids)
        lengths[trace_id] = inner + 1
        if fate < 0.06:
            bad.add(trace_id)
        running.now += 10 * MS
        if running.now % SECOND == 0:
            running.pass_time(0)
    running.pass_time(2)
    arrived = Counter(one.trace_id for one, _ in running.items)
    assert len(bad) > 50
    assert bad <= arrived.keys()
    assert all(count == lengths[trace_id] for trace_id, count in arrived.items())
    assert 3 <= len(arrived) - len(bad) <= 35
    assert running.exporter.held == 0


async def test_the_ids_of_every_operation_come_from_the_generator_that_is_named(monkeypatch):
    monkeypatch.setattr(
        traces, "load_id_generator", lambda name: propagation.IdSource(lambda: 77, lambda: 78)
    )
    settings = OtelSettings(endpoint="http://127.0.0.1:1", id_generator="seventies")
    exporter = OtelBackend(settings, context())
    await exporter.open()
    assert (propagation.new_trace_id(), propagation.new_span_id()) == (77, 78)
    await exporter.close()
    assert propagation.new_trace_id() != 77
