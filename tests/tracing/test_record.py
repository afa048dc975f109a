"""An operation that is recorded without a block is the one that span() makes."""

import pytest

from otpylib_telemetry import extract, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.tracing import record
from otpylib_telemetry.tracing.operation import Operation
from otpylib_telemetry.tracing.places import enter, place_here

CAME = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03",
    "tracestate": "vendor=abc",
    "baggage": "plan=gold",
}

#: What differs between any two operations.
OWN = {"span_id", "at_ns", "ended_ns", "duration_ms", "token", "trace", "carried", "outer"}


def by_block(name, metadata, error):
    made = span(name, metadata)
    made.__enter__()
    operation = made._operation
    made.__exit__(type(error) if error else None, error, None)
    return operation


def by_record(name, metadata, error):
    operation = record.begin(record.route_of(name), name, metadata, place_here(), _emitter())
    enter(operation)
    operation.at_ns = 1
    if operation.route.begin_logged:
        record.logged(operation)
    record.end(operation, error)
    return operation


def _emitter():
    made = span("shop.who", {})
    with made:
        return made._operation.emitter


@pytest.mark.parametrize("error", [None, ValueError("odd"), SystemExit(0)], ids=["well", "failed", "exit"])
@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("came", [False, True])
def test_both_are_the_same_record(came, inside, traced, error):
    table.add("reader", ["shop.*"], lambda *_: None, reads_log=True, traces=traced)
    with extract(CAME if came else {}), span("shop.around" if inside else "nobody.listens"):
        around = place_here()
        made = []
        for make in (by_block, by_record):
            made.append(make("shop.sale", {"method": "card"}, error))
            assert place_here() is around
    block, other = made
    assert [type(each) for each in made] == [Operation, Operation]
    assert (block.ended, other.ended) == (True, True)
    assert min(block.ended_ns, other.ended_ns) > 0
    assert told(block) == told(other)
    if came or (inside and traced):
        assert block.trace_id == other.trace_id
        assert block.parent_span_id == other.parent_span_id != 0


def told(operation):
    """What a record says, less what differs between any two, and the lines of its stack."""
    found = {key: value for key, value in vars(operation).items() if key not in OWN}
    if failure := found.get("failure"):
        found["failure"] = {key: value for key, value in failure.items() if key != "stacktrace"}
    if (beyond := found.pop("beyond", None)) is not None:
        found["beyond"] = (beyond.span_id, beyond.carried)
    return found
