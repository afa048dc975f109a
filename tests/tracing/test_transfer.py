"""A trace goes on through whoever listens: from incoming headers to outgoing ones, and to spans inside."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry import current_span, execute, extract, inject, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.context import here

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
INCOMING = {
    "traceparent": f"00-{TRACE}-{SPAN}-03",
    "tracestate": "vendor=abc,other=1",
    "baggage": "user=ada;since=1815,plan=gold",
}


def metrics_only(pattern="*"):
    table.add("metrics", [pattern], lambda *_: None, traces=False)


def traced(pattern="*"):
    events = []
    table.add("traces", [pattern], lambda *event: events.append(event))
    return events


def outgoing():
    carrier = {}
    inject(carrier)
    return carrier


LISTENERS = {
    "nobody": lambda: None,
    "metrics": metrics_only,
    "another name": lambda: traced("other.*"),
}


@pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS)
@pytest.mark.parametrize(
    "enter", [extract, lambda headers: span("shop.serve", headers)], ids=["extract", "span"]
)
def test_where_no_trace_tells_of_it_the_callers_context_goes_on_unharmed(listen, enter):
    listen()
    with enter(INCOMING), span("shop.step"):
        assert outgoing() == INCOMING
        assert {key: trace_context()[key] for key in INCOMING} == INCOMING
        assert trace_context()["correlation_id"] == TRACE
    assert outgoing() == {}


def test_a_traced_span_is_the_parent_and_everything_else_goes_with_it():
    traced()
    with extract(INCOMING), span("shop.serve") as serve, span("shop.step") as step:
        assert (serve.metadata["parent_span_id"], serve.context.trace_id) == (SPAN, TRACE)
        assert step.metadata["parent_span_id"] == serve.context.span_id
        assert outgoing() == {**INCOMING, "traceparent": f"00-{TRACE}-{step.context.span_id}-03"}


def test_a_span_that_only_metrics_are_made_of_is_no_link_in_the_chain():
    metrics_only()
    events = traced("shop.*")
    with span("shop.serve") as serve, span("cache.look") as look, span("shop.query") as query:
        assert query.metadata["parent_span_id"] == serve.context.span_id
        assert look.metadata["parent_span_id"] == serve.context.span_id
        assert {each.context.trace_id for each in (serve, look, query)} == {serve.context.trace_id}
    assert [name for name, *_ in events] == [
        "shop.serve.start",
        "shop.query.start",
        "shop.query.success",
        "shop.serve.success",
    ]


def test_with_metrics_alone_nothing_goes_out_but_events_have_ids():
    events = []
    table.add("metrics", ["*"], lambda *event: events.append(event), traces=False)
    with span("shop.serve", {"correlation_id": "order 7"}) as serve:
        assert outgoing() == {}
        assert trace_context() == {}
        inside = here()
        assert current_span() == serve.context
        with span("shop.step") as step:
            assert step.context.correlation_id == "order 7"
            assert step.metadata["parent_span_id"] is None
        identity = serve.context
    assert (inside.span_id, inside.correlation_id) == (int(identity.span_id, 16), "order 7")
    assert all(metadata["trace_id"] and metadata["span_id"] for _, _, metadata in events)


def test_one_that_nobody_traces_begins_no_endless_trace():
    metrics_only("worker.*")
    traced("shop.*")
    with span("worker.loop"):
        ids = set()
        for _ in range(3):
            with span("shop.order") as order:
                ids.add(order.context.trace_id)
                assert order.metadata["parent_span_id"] is None
    assert len(ids) == 3


@pytest.mark.parametrize("flags", ["00", "01", "02", "03", "81", "ff"])
def test_flags_go_on_whole(flags):
    traced()
    with span("a", {"traceparent": f"00-{TRACE}-{SPAN}-{flags}"}) as a:
        assert trace_context()["traceparent"].endswith(f"-{flags}")
        assert a.context.sampled == bool(int(flags, 16) & 1)


def test_what_trace_context_gives_is_what_span_takes():
    traced()
    with span("a", {**INCOMING, "correlation_id": "order 7"}):
        sent = trace_context()
    with span("b", sent) as b:
        assert b.context.correlation_id == "order 7"
        assert (b.context.tracestate, b.context.baggage) == (INCOMING["tracestate"], INCOMING["baggage"])
        assert b.metadata["parent_span_id"] == sent["traceparent"].split("-")[2]


def test_state_without_a_parent_is_nothing_but_baggage_stands_alone():
    traced()
    with extract({"tracestate": "a=1", "baggage": "user=ada"}):
        assert outgoing() == {"baggage": "user=ada"}
        assert current_span() is None
        execute("shop.seen")
        with span("shop.one") as one:
            assert one.metadata["parent_span_id"] is None
            assert outgoing()["baggage"] == "user=ada"
            first = one.context.trace_id
        with span("shop.two") as two:
            assert two.context.trace_id != first
    assert outgoing() == {}


def test_baggage_of_an_inner_span_is_added_and_leaves_with_it():
    traced("shop.*")
    with span("shop.a", {"baggage": "user=ada,plan=gold"}):
        with span("filtered", {"baggage": {"plan": "two words", "step": 1}}), span("shop.b"):
            assert outgoing()["baggage"] == "user=ada,plan=two%20words,step=1"
        assert outgoing()["baggage"] == "user=ada,plan=gold"


def test_headers_that_say_nothing_change_nothing():
    traced()
    with span("a") as a:
        for headers in ({}, {"traceparent": "nonsense"}, None, 7, object(), "text", [1, 2], {"baggage": "="}):
            with extract(headers), span("b") as b:
                assert b.metadata["parent_span_id"] == a.context.span_id


async def test_it_is_left_where_it_was_entered_whatever_happens_meanwhile():
    traced()

    async def serve(number):
        headers = {"traceparent": f"00-{number:032x}-{number:016x}-01", "baggage": f"n={number}"}
        async with extract(headers):
            await asyncio.sleep(0)
            with contextlib.suppress(ValueError), span("shop.step"):
                await asyncio.sleep(0)
                raise ValueError
            return outgoing()

    answers = await asyncio.gather(*(serve(number) for number in range(1, 20)))
    for number, answer in enumerate(answers, 1):
        assert answer == {"traceparent": f"00-{number:032x}-{number:016x}-01", "baggage": f"n={number}"}
    assert outgoing() == {}


async def test_a_generator_that_is_closed_elsewhere_leaves_nothing_behind():
    traced()

    async def pages():
        with extract(INCOMING):
            yield 1
            yield 2

    given_up = pages()
    await anext(given_up)
    await asyncio.create_task(_close(given_up))
    assert outgoing() == {}


async def _close(generator):
    await generator.aclose()


async def test_a_task_that_outlives_the_request_still_belongs_to_it():
    traced()
    with extract(INCOMING):
        later = asyncio.create_task(_later())
    assert await later == INCOMING


async def _later():
    await asyncio.sleep(0)
    return outgoing()


def test_metadata_that_is_computed_is_not_computed_for_nobody():
    asked = []
    with span("a", lambda: asked.append(1)):
        pass
    assert asked == []


class _Rude(str):
    __slots__ = ()

    def __hash__(self):
        return hash("traceparent")

    def __eq__(self, other):
        raise RuntimeError


@pytest.mark.parametrize("listen", [lambda: None, traced, metrics_only])
def test_no_metadata_whatever_breaks_the_operation(listen):
    listen()
    for details in (
        {_Rude("x"): 1, "baggage": object()},
        {"traceparent": object(), "baggage": {object(): object()}},
    ):
        with contextlib.suppress(RuntimeError), span("a", details):
            pass
        assert current_span() is None


# --- a chain of services, each with listeners of its own

STATES = st.sampled_from(["both", "traces", "metrics", "filtered", "none"])


@given(st.lists(st.tuples(STATES, STATES, st.booleans()), min_size=1, max_size=8))
def test_a_chain_of_services_is_one_trace_and_every_parent_is_right(chain):
    headers, expected_parent = dict(INCOMING), SPAN
    for serving, calling, by_metadata in chain:
        for name, state in (("serve", serving), ("call", calling)):
            table.remove(f"{name} traces")
            table.remove(f"{name} metrics")
            if state in {"both", "traces"}:
                table.add(f"{name} traces", [f"{name}.*"], lambda *_: None)
            if state in {"both", "metrics"}:
                table.add(f"{name} metrics", [f"{name}.*"], lambda *_: None, traces=False)
            if state == "filtered":
                table.add(f"{name} traces", ["else.*"], lambda *_: None)
        with contextlib.ExitStack() as stack:
            if by_metadata:
                serve = stack.enter_context(span("serve.request", headers))
            else:
                stack.enter_context(extract(headers))
                serve = stack.enter_context(span("serve.request"))
            if serve.context is not None:
                assert serve.context.trace_id == TRACE
                assert serve.metadata["parent_span_id"] == expected_parent
            if serving in {"both", "traces"}:
                expected_parent = serve.context.span_id
            call = stack.enter_context(span("call.next"))
            if call.context is not None:
                assert call.context.trace_id == TRACE
                assert call.metadata["parent_span_id"] == expected_parent
            if calling in {"both", "traces"}:
                expected_parent = call.context.span_id
            headers = outgoing()
    assert headers == {**INCOMING, "traceparent": f"00-{TRACE}-{expected_parent}-03"}
    assert outgoing() == {}
