"""span(): a pair of events around whatever runs, its metadata and its ids."""

import asyncio
import contextvars
import re

import pytest

from otpylib_telemetry import attach, attach_many, current_span, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.tracing import propagation
from otpylib_telemetry.tracing.propagation import SpanContext
from otpylib_telemetry.tracing.transfer import trace_context
from tests.support import absurd
from tests.tracing.span_forms import IDS, PARENT, every_block, every_form

# --- the pair ---------------------------------------------------------------------------------------------


@every_form
async def test_a_success_is_a_start_and_a_success(run, events):
    assert await run(span("shop.checkout", {"user": "u"}), lambda _: "result") == "result"

    assert events.names == ["shop.checkout.start", "shop.checkout.success"]
    (_, start, begun), (_, stop, ended) = events
    assert start == {}
    assert list(stop) == ["duration_ms"]
    assert stop["duration_ms"] >= 0
    assert begun["user"] == "u"
    assert ended == begun


@every_form
async def test_an_exception_is_an_error_with_text_and_type_and_passes(run, events):
    def fail(_):
        raise ValueError("no stock")

    with pytest.raises(ValueError, match="no stock"):
        await run(span("shop.checkout", {"user": "u"}), fail)

    assert events.names == ["shop.checkout.start", "shop.checkout.error"]
    (_, _, begun), (_, measurements, ended) = events
    assert list(measurements) == ["duration_ms"]
    stack = ended.pop("stacktrace")
    assert ended == {**begun, "error": "no stock", "error_type": "ValueError"}
    assert stack.startswith("Traceback (most recent call last):\n")
    assert stack.endswith('in fail\n    raise ValueError("no stock")\nValueError: no stock\n')


async def test_a_cancellation_is_an_outcome_of_its_own_and_passes(events):
    async def work():
        async with span("a"):
            with span("b"):
                await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert events.names == ["a.start", "b.start", "b.error", "a.error"]
    assert events.metadata("a.error")["error_type"] == "CancelledError"
    assert events.metadata("b.error")["error"] == "CancelledError"


async def test_a_cancelled_span_awaits_nothing_more(events):
    calls = []

    async def slow(name, *_rest):
        calls.append(name)
        await asyncio.sleep(60 if name == "a.error" else 0)

    await attach("slow", "*", slow)

    async def work():
        async with span("a"):
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task], timeout=60)
    assert task.cancelled()
    assert calls == ["a.start"]
    assert [call[0] for call in table.current.table.handlers["slow"].backlog] == ["a.error"]


async def test_being_cancelled_in_a_handler_of_the_start_ends_the_span(events):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "a.start", slow)
    entered = []

    async def work():
        async with span("a"):
            entered.append(1)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert entered == []
    assert events.names == ["a.start", "a.error"]


def test_being_interrupted_in_a_handler_of_the_start_ends_the_span(events):
    def interrupted(*_event):
        raise KeyboardInterrupt

    table.add("interrupted", ["a.start"], interrupted)
    with pytest.raises(KeyboardInterrupt):
        span("a").__enter__()
    assert events.names == ["a.start", "a.error"]
    assert current_span() is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
@every_block
async def test_the_end_of_the_program_is_an_error_and_passes(run, events, error):
    async def slow(*_event):
        await asyncio.sleep(60)

    await attach("slow", "a.error", slow)

    def fail(_):
        raise error

    coroutine = run(span("a"), fail)
    with pytest.raises(type(error)):
        coroutine.send(None)
    assert events.metadata("a.error")["error_type"] == type(error).__name__


async def test_an_error_that_cannot_be_printed_is_known_by_its_type(events):
    with pytest.raises(absurd.UnprintableError), span("a"):
        raise absurd.UnprintableError
    assert events.metadata("a.error")["error"] == "UnprintableError"


async def test_an_error_without_a_text_is_known_by_its_type(events):
    with pytest.raises(ValueError), span("a"):  # noqa: PT011
        raise ValueError
    assert events.metadata("a.error")["error"] == "ValueError"


async def test_the_duration_is_that_of_the_block_and_not_of_the_handlers(events, monkeypatch):
    now = [0]
    for module in ("span", "record"):
        monkeypatch.setattr(f"otpylib_telemetry.tracing.{module}.monotonic_ns", lambda: now[0])
    table.add("slow", ["a.*"], lambda *_: now.__setitem__(0, now[0] + 10**9))
    with span("a"):
        now[0] += 5_000_000
    assert events[1][1] == {"duration_ms": 5.0}


# --- metadata ---------------------------------------------------------------------------------------------


@every_block
async def test_what_is_added_while_it_is_open_goes_into_the_ending_only(run, events):
    await run(span("a", {"user": "u"}), lambda entered: entered.metadata.update(items=3))
    assert "items" not in events.metadata("a.start")
    assert events.metadata("a.success")["items"] == 3


async def test_what_is_added_does_not_change_what_a_handler_kept_of_the_start():
    kept = []
    table.add("keeping", ["*"], lambda *event: kept.append(event))
    with span("a") as entered:
        entered.metadata["late"] = 1
    assert "late" not in kept[0][2]


async def test_the_callers_own_dict_is_left_alone(events):
    mine = {"user": "u"}
    with span("a", mine):
        pass
    assert mine == {"user": "u"}


async def test_a_pair_stays_a_pair_whatever_is_done_to_the_metadata(events):
    with span("a") as entered:
        entered.metadata.clear()
        entered.metadata[5] = "odd key"
        entered.metadata["span_id"] = "mine"
    start, end = events.metadata("a.start"), events.metadata("a.success")
    assert {key: end[key] for key in IDS[:3]} == {key: start[key] for key in IDS[:3]}
    assert end[5] == "odd key"


async def test_metadata_may_be_read_although_nobody_listens():
    with span("a", {"user": "u"}) as entered:
        assert entered.metadata["user"] == "u"
        entered.metadata["items"] = 3
    assert entered.context is None


async def test_a_callable_gives_the_metadata_of_each_use(events):
    calls = []

    def metadata():
        calls.append(1)
        return {"call": len(calls)}

    @span("a", metadata)
    def work():
        pass

    work()
    work()
    assert [event[2]["call"] for event in events] == [1, 1, 2, 2]


@pytest.mark.parametrize("which", range(len(absurd.DETAILS)))
@every_form
async def test_no_metadata_whatever_breaks_the_operation(run, which, events):
    assert await run(span("a", absurd.DETAILS[which]), lambda _: 1) == 1
    assert events.names == ["a.start", "a.success"]
    assert events.metadata("a.start")["span_id"] == events.metadata("a.success")["span_id"]


@pytest.mark.parametrize("which", range(len(absurd.NAMES)))
@every_form
async def test_no_name_whatever_breaks_the_operation(run, which, events):
    assert await run(span(absurd.NAMES[which]), lambda _: 1) == 1


async def test_a_key_that_cannot_be_compared_breaks_nothing(events):
    class Clash:
        def __hash__(self):
            return hash("traceparent")

        def __eq__(self, other):
            raise RuntimeError("absurd")

    with span("a", {Clash(): 1}):
        pass
    assert events == []
    assert current_span() is None


async def test_a_name_of_another_class_is_its_text(events):
    with span(absurd.MaliciousStr("a")):
        pass
    assert events.names == ["a.start", "a.success"]


# --- ids --------------------------------------------------------------------------------------------------


async def test_ids_have_the_shape_of_w3c_trace_context(events):
    with span("a") as entered:
        context = entered.context
    metadata = events.metadata("a.start")
    assert re.fullmatch("[0-9a-f]{32}", metadata["trace_id"])
    assert re.fullmatch("[0-9a-f]{16}", metadata["span_id"])
    assert int(metadata["trace_id"], 16)
    assert int(metadata["span_id"], 16)
    assert metadata["parent_span_id"] is None
    assert metadata["correlation_id"] == metadata["trace_id"]
    assert context == SpanContext(metadata["trace_id"], metadata["span_id"], metadata["trace_id"])
    assert context.traceparent == f"00-{metadata['trace_id']}-{metadata['span_id']}-01"
    assert propagation.parse_traceparent(context.traceparent) is not None


async def test_spans_nest(events):
    with span("a"):
        async with span("b"):
            with span("c"):
                pass
        with span("d"):
            pass
    with span("e"):
        pass
    a, b, c, d, e = (events.metadata(f"{name}.start") for name in "abcde")
    assert {each["trace_id"] for each in (a, b, c, d)} == {a["trace_id"]}
    assert [each["parent_span_id"] for each in (a, b, c, d, e)] == [
        None,
        a["span_id"],
        b["span_id"],
        a["span_id"],
        None,
    ]
    assert e["trace_id"] != a["trace_id"]
    assert len({each["span_id"] for each in (a, b, c, d, e)}) == 5


async def test_the_correlation_id_is_inherited(events):
    with span("a", {"correlation_id": "order-7"}), span("b"), span("c", {"correlation_id": None}):
        assert current_span().correlation_id == "order-7"
        with span("d", {"correlation_id": 8}), span("e"):
            pass
    found = [events.metadata(f"{name}.success")["correlation_id"] for name in "abcde"]
    assert found == ["order-7", "order-7", "order-7", 8, 8]


async def test_a_traceparent_joins_that_trace(events):
    with span("a", {"traceparent": PARENT}), span("b"):
        pass
    a, b = events.metadata("a.start"), events.metadata("b.start")
    assert a["trace_id"] == b["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert a["parent_span_id"] == "b7ad6b7169203331"
    assert b["parent_span_id"] == a["span_id"]


async def test_a_traceparent_goes_before_the_span_around(events):
    with span("around", {"correlation_id": "c"}), span("a", {"traceparent": PARENT}):
        pass
    a = events.metadata("a.start")
    assert a["parent_span_id"] == "b7ad6b7169203331"
    assert a["correlation_id"] == "c"


@pytest.mark.parametrize(
    "text", ["", "nonsense", PARENT[:-1], 5, None, b"", "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
async def test_a_traceparent_that_is_none_is_ignored(events, text):
    with span("a", {"traceparent": text}):
        pass
    assert events.metadata("a.start")["parent_span_id"] is None


async def test_what_is_not_sampled_stays_so_further_on(events):
    with span("a", {"traceparent": PARENT[:-2] + "00"}), span("b") as inner:
        assert inner.context.traceparent.endswith("-00")


async def test_the_trace_context_carries_a_span_to_another_process(events):
    assert trace_context() == {}
    with span("a", {"correlation_id": "order-7"}):
        message = trace_context()

    def elsewhere():
        with span("b", message):
            pass

    contextvars.Context().run(elsewhere)
    a, b = events.metadata("a.start"), events.metadata("b.start")
    assert b["trace_id"] == a["trace_id"]
    assert b["parent_span_id"] == a["span_id"]
    assert b["correlation_id"] == "order-7"


async def test_a_handler_that_handles_its_own_spans_does_not_hold_up_the_application(caplog):
    """Each of its spans calls it twice: without an end to that, a million times at a depth of twenty."""
    calls = []

    def audit(name, _measurements, _metadata):
        calls.append(name)
        with span("audit.write"):
            pass

    async def audit_later(name, *_):
        calls.append(name)
        async with span("audit.later"):
            pass

    await attach_many("audit", ["shop.*", "audit.write.*"], audit)
    await attach_many("audit.later", ["stock.*", "audit.later.*"], audit_later)
    with span("shop.order"):
        pass
    assert {"shop.order.start", "shop.order.success"} < set(calls)
    assert len(calls) < 2**10
    calls.clear()
    async with span("stock.count"):
        pass
    assert {"stock.count.start", "stock.count.success"} < set(calls)
    assert len(calls) < 2**10
    assert [record for record in caplog.messages if "opens spans that it handles itself" in record] != []
    # What comes after is as before.
    calls.clear()
    with span("shop.order"):
        pass
    assert calls[0] == "shop.order.start"
