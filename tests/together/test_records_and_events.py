"""The fast way and the slow one: what is made of records of operations is what is made of their events."""

import asyncio
import random

import pytest

from otpylib_telemetry import execute, span
from otpylib_telemetry.aggregation.exporter_stores import store_in
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter.base import ExportContext
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.tracing.operation import Operation, as_event
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend
from otpylib_telemetry_prometheus.exposition.writer import Exposition

#: What makes wall-clock time of the events' times.
OFFSET = 1_700_000_000 * 10**9


async def nothing():
    """What an exporter may ask of its process."""


class Program:
    """Random operations, one inside another or beside it, that end in every way."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def metadata(self):
        draw = self.random
        values = ["tea", "x" * 300, 7, 1.5, True, None, "ö", (1, 2), {"a": 1}, "", 2**70, b"b"]
        made = {f"key{draw.randint(0, 4)}": draw.choice(values) for _ in range(draw.randint(0, 3))}
        if draw.random() < 0.1:
            made["correlation_id"] = f"order-{draw.randint(0, 3)}"
        if draw.random() < 0.1:
            made["traceparent"] = (
                f"00-{draw.getrandbits(128):032x}-{draw.getrandbits(64):016x}-0{draw.randint(0, 1)}"
            )
        if draw.random() < 0.1:
            made["span.kind"] = draw.choice(["server", "client", "odd"])
        return made or None

    def put_on(self, one):
        draw = self.random
        one.set_attribute(f"key{draw.randint(0, 4)}", draw.choice(["late", 2, 2.5, None, [1]]))
        if draw.random() < 0.3:
            one.measure(
                **{draw.choice(["rows", "count", "value", "duration_ms"]): draw.choice([1, 2.5, True])}
            )
        if draw.random() < 0.3:
            one.add_link(f"00-{draw.randint(1, 3):032x}-{draw.randint(1, 3):016x}-01", {"n": draw.random()})

    def operate(self, depth=0):
        draw = self.random
        for _ in range(draw.randint(1, 4)):
            try:
                with span(f"shop.op{draw.randint(0, 3)}", self.metadata()) as one:
                    if draw.random() < 0.2:
                        one.metadata[f"late{draw.randint(0, 1)}"] = draw.choice(["a", 1])
                    if draw.random() < 0.3:
                        self.put_on(one)
                    if depth < 3 and draw.random() < 0.6:
                        self.operate(depth + 1)
                    if draw.random() < 0.2:
                        raise draw.choice([ValueError("no tea"), KeyError(1), asyncio.CancelledError()])
            except (ValueError, KeyError, asyncio.CancelledError):
                pass
            if draw.random() < 0.3:
                execute("shop.counted", {"count": 1}, {"kind": draw.choice("ab")})


def entries_of(program):
    queue = EventQueue(1_000_000)
    queue.read_log(("shop.*",))
    table.add("reader", ["shop.*"], queue.offer, reads_log=True)
    try:
        program()
        return queue.take(1_000_000)
    finally:
        table.remove("reader")
        queue.leave_log()


def outside(entry):
    """A bare event without what it was emitted in: the subject is operations."""
    return entry if type(entry) is Operation or len(entry) != 6 else entry[:5]


def chunks(entries, size):
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def told(span):
    span.seal()
    failures = [(event.name, event.attributes) for event in span.events or ()]
    for _, attributes in failures:
        # An event has the short name of an exception, as a label.
        attributes["exception.type"] = attributes["exception.type"].rpartition(".")[2]
    links = [(link.trace_id, link.span_id, link.attributes) for link in span.links or ()]
    parent = (span.parent_span_id, span.parent_is_remote, span.caller)
    times = (span.start_ns, span.end_ns)
    rest = (span.kind, span.error, span.message, span.weight, span.incomplete, span.dropped_attributes)
    return (span.name, span.trace_id, span.span_id, *parent, *times, span.attributes, failures, links, *rest)


def exported(entries, size, *, ending=True):
    context = ExportContext("twin", "telemetry.otel", {}, nothing, dict)
    exporter = OtelBackend(OtelBackend.settings_type(metrics=False), context)
    made = [exporter.collect(chunk, OFFSET) for chunk in chunks(entries, size)]
    if ending:
        made.append(exporter.give_up_held(OFFSET))
    spans = [told(item) for collected in made for item, _ in collected.items]
    events = sum(collected.events() for collected in made)
    return sorted(spans, key=lambda span: span[2]), events, exporter.held


def page(entries, size, **settings):
    context = ExportContext("twin", "telemetry.prometheus", {}, nothing, dict)
    exporter = PrometheusBackend(PrometheusBackend.settings_type(exemplars=False, **settings), context)
    for chunk in chunks(entries, size):
        exporter.collect(chunk, OFFSET)
    # When a series was born is said by OpenMetrics alone.
    return Exposition().text([store_in(context.memory, "twin")])


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("seed", range(20))
def test_spans_and_books_are_equal(seed, size):
    entries = list(map(outside, entries_of(Program(seed).operate)))
    assert exported(entries, size) == exported(list(map(as_event, entries)), size)


@pytest.mark.parametrize("seed", range(10))
def test_spans_are_equal_where_the_end_is_not_told(seed):
    entries = list(map(outside, entries_of(Program(seed).operate)))
    kept = [entry for number, entry in enumerate(entries) if type(entry) is Operation or number % 3]
    for entry in entries:
        if type(entry) is not Operation and len(entry) == 1 and entry not in kept:
            # The record of one that is open knows what was put on it, of which no event has told.
            entry[0].final, entry[0].links = None, ()
    fast, slow = exported(kept, 50), exported(list(map(as_event, kept)), 50)
    assert fast == slow
    assert any(span[-2] == "shutdown" for span in fast[0]) or len(kept) == len(entries)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"span_metrics": False},
        {"labels": ["key1", "trace_id"]},
        {"drop_labels": ["key0"]},
    ],
)
@pytest.mark.parametrize("seed", range(10))
def test_pages_are_equal(seed, settings):
    entries = list(map(outside, entries_of(Program(seed).operate)))
    events = list(map(as_event, entries))
    # The fast way times by the measured duration, the slow one by the event's, which is the same.
    assert sorted(page(entries, 10_000, **settings).splitlines()) == sorted(
        page(events, 10_000, **settings).splitlines()
    )


def sums(text):
    """How much each metric counted, whatever the labels."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.split("{")[0].split(" ")[0], float(line.rsplit(" ", 1)[1])
            if name.endswith(("_count", "_total", "_in_flight")):
                found[name] = found.get(name, 0) + value
    return found


@pytest.mark.parametrize("seed", range(10))
def test_nothing_is_lost_where_there_is_room_for_few_series(seed):
    """Which labels come first may differ: one that has ended when it is looked at is first seen then."""
    entries = list(map(outside, entries_of(Program(seed).operate)))
    events = list(map(as_event, entries))
    assert sums(page(entries, 10_000, max_series=3)) == sums(page(events, 10_000, max_series=3))


@pytest.mark.parametrize("again", [False, True])
def test_an_end_that_found_no_room_is_told_by_the_record(again):
    """A full queue refuses the end of what it took the start of: nothing of how it ended is lost by that."""

    def program():
        with pytest.raises(ValueError, match="no"), span("shop.fails", {"kind": "tea"}):
            raise ValueError("no tea")
        with span("shop.works"):
            pass

    entries = entries_of(program)
    starts, ends = [e for e in entries if type(e) is Operation], [e for e in entries if type(e) is tuple]
    otel = OtelBackend(
        OtelBackend.settings_type(metrics=False), ExportContext("lost", "telemetry.otel", {}, nothing, dict)
    )
    memory = {}
    context = ExportContext("lost", "telemetry.prometheus", memory, nothing, dict)
    prometheus = PrometheusBackend(PrometheusBackend.settings_type(exemplars=False), context)
    for exporter in (otel, prometheus):
        exporter.collect(starts, OFFSET)
    soon, later = ends[-1][0].ended_ns + 10**9, ends[-1][0].ended_ns + 6 * 10**9
    assert otel.tick(soon, OFFSET, lambda _: True).items == []
    found = otel.tick(later, OFFSET, lambda _: True)
    prometheus.tick(later, OFFSET, lambda _: True)
    spans = {item.name: item for item, _ in found.items}
    assert {name: (one.error, one.incomplete, one.weight) for name, one in spans.items()} == {
        "shop.fails": (True, None, 1),
        "shop.works": (False, None, 1),
    }
    assert otel.held == 0
    if again:
        # It was only late.
        collected = otel.collect(ends, OFFSET)
        prometheus.collect(ends, OFFSET)
        assert (collected.items, collected.events()) == ([], 2)
    text = Exposition().text([store_in(memory, "lost")])
    assert 'shop_works_duration_seconds_count{outcome="success"} 1' in text
    assert "shop_works_in_flight 0" in text
    assert 'shop_fails_in_flight{kind="tea"} 0' in text


class Spoilt(str):
    """A key that is like another and raises when it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        raise RuntimeError("not to be compared")


@pytest.mark.parametrize("key", ["duration_ms", "correlation_id", "trace_id"])
def test_an_operation_that_cannot_be_used_costs_itself_alone(key):
    def program():
        with span("shop.before"):
            pass
        with span("shop.spoilt", {Spoilt(key): 1}) as spoilt:
            spoilt.set_attribute("late", 1)
        with span("shop.endless") as endless:
            endless.measure(duration_ms=float("inf"))
        with span("shop.after"):
            pass

    entries = entries_of(program)
    context = ExportContext("spoilt", "telemetry.otel", {}, nothing, dict)
    exporter = OtelBackend(OtelBackend.settings_type(metrics=False), context)
    collected = exporter.collect(entries, OFFSET)
    assert {"shop.before", "shop.after"} <= {item.name for item, _ in collected.items}
    assert collected.events() + exporter.held == len(entries)
    text = page(entries, 10_000)
    assert 'shop_after_duration_seconds_count{outcome="success"} 1' in text
