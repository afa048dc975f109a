"""The record of an operation, and the events that are made of it for those who read events."""

import pytest

from otpylib_telemetry import execute, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter.base import Exporter, takes_operations
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.metrics.exporting import MetricsExporter
from otpylib_telemetry.tracing.operation import Operation, as_own_events, time_of


@pytest.fixture
def queue():
    queue = EventQueue(1000)
    queue.read_log(("*",))
    table.add("reader", ["*"], queue.offer, reads_log=True)
    yield queue
    table.remove("reader")
    queue.leave_log()


@pytest.fixture
def heard():
    """What a plain handler is given."""
    heard = []
    table.add("handler", ["*"], lambda *event: heard.append(event))
    yield heard
    table.remove("handler")


def failing():
    with pytest.raises(KeyError), span("fails", {"a": 1}):
        raise KeyError("no such tea")


def changing():
    with span("changes", {"a": 1, "b": 2}) as one:
        one.metadata["c"] = 3
        del one.metadata["b"]


def nested():
    with span("outer", {"correlation_id": "order-7"}), span("inner"):
        execute("between", {"n": 1}, {"x": 1})


@pytest.mark.parametrize("program", [failing, changing, nested])
def test_who_reads_later_is_told_what_handlers_are_told_at_once(queue, heard, program):
    program()
    entries = queue.take(100)
    assert [event[:3] for event in as_own_events(entries)] == heard
    assert [time_of(entry) for entry in entries] == sorted(time_of(entry) for entry in entries)


def test_what_is_added_meanwhile_is_part_of_the_end_alone(queue):
    given = {"a": 1}
    with span("one", given) as one:
        one.metadata["b"] = 2
        given["c"] = 3
    start, end = as_own_events(queue.take(100))
    assert "b" not in start[2]
    assert end[2]["b"] == 2
    assert "c" not in start[2]
    assert "c" not in end[2]


def test_events_know_the_operation_they_were_emitted_in(queue):
    execute("outside")
    with span("outer") as outer:
        execute("inside")
        execute("told", {}, {"trace_id": "somebody else's"})
    outside, start, inside, told, _ = queue.take(100)
    assert outside[2] == inside[2] == {}
    assert told[2] == {"trace_id": "somebody else's"}
    assert len(outside) == 5
    assert inside[5] is told[5] is start
    assert outer.metadata["span_id"] == start.ids["span_id"]


def test_a_subclass_that_collects_by_itself_gets_events():
    class Own(MetricsExporter):
        def collect(self, events, wall_offset_ns):
            return Collected(exported=len(events))

    class Plain(MetricsExporter):
        pass

    class Records(Exporter):
        takes_operations = True

        def collect(self, events, wall_offset_ns):
            return Collected(exported=len(events))

    kinds = (Own, Plain, Records, Exporter)
    assert [takes_operations(kind.__new__(kind)) for kind in kinds] == [False, True, True, False]


def test_events_of_one_reader_are_no_other_readers(queue):
    execute("a", {"n": 1}, {"x": 1})
    with span("op", {"x": 1}):
        pass
    entries = queue.take(100)
    mine, theirs = as_own_events(entries), as_own_events(entries)
    for _, measurements, metadata, *_ in mine:
        measurements.clear()
        metadata.clear()
    assert [event[2]["x"] for event in theirs] == [1, 1, 1]
    assert [event[2]["x"] for event in as_own_events(entries)] == [1, 1, 1]
    assert type(entries[1]) is Operation
