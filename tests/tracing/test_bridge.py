"""Where the context of our spans meets that of another tracing API: the seam, without OpenTelemetry."""

import pytest

from otpylib_telemetry import SpanContext, current_span, span, trace_context
from otpylib_telemetry.bus import context, table
from otpylib_telemetry.tracing import bridge as bridge_module


class Recording:
    """A bridge that remembers what it was told; ``foreign`` is what is open on its side."""

    def __init__(self):
        self.calls = []
        self.over = []
        self.foreign = None

    def enter(self, place, _baggage):
        self.calls.append(("enter", place.context.span_id))
        return place.context.span_id

    def here(self):
        return context.here()

    def ended(self, operation):
        assert operation.ended_ns
        self.over.append(operation.context.span_id)

    def leave(self, token):
        self.calls.append(("leave", token))

    def around(self, own):
        return self.foreign or own

    def baggage(self, own):
        return own


@pytest.fixture
def bridge():
    made = Recording()
    table.add("listener", ["*"], lambda *_: None)
    bridge_module.install(made)
    yield made
    bridge_module.uninstall(made)


def test_it_is_told_of_every_span_in_order(bridge):
    with span("a") as a, span("b") as b:
        ids = (a.context.span_id, b.context.span_id)
    assert bridge.calls == [("enter", ids[0]), ("enter", ids[1]), ("leave", ids[1]), ("leave", ids[0])]
    assert bridge.over == [ids[1], ids[0]]


def test_out_of_order_each_is_left_once_and_from_the_inside(bridge):
    a, b = span("a"), span("b")
    a.__enter__()
    b.__enter__()
    ids = (a.context.span_id, b.context.span_id)
    a.__exit__(None, None, None)
    assert len(bridge.calls) == 2
    b.__exit__(None, None, None)
    assert bridge.calls[2:] == [("leave", ids[1]), ("leave", ids[0])]


def test_what_is_open_on_the_other_side_is_the_parent(bridge):
    bridge.foreign = SpanContext("1" * 32, "2" * 16, "order 7", trace_flags=0)
    assert current_span() == bridge.foreign
    assert trace_context() == {"traceparent": f"00-{'1' * 32}-{'2' * 16}-00", "correlation_id": "order 7"}
    with span("a") as a:
        assert a.context[0] == "1" * 32
        assert (a.metadata["parent_span_id"], a.context.correlation_id) == ("2" * 16, "order 7")
        assert a.context.sampled is False


def test_a_header_goes_before_what_is_open(bridge):
    bridge.foreign = SpanContext("1" * 32, "2" * 16, "order 7")
    with span("a", {"traceparent": f"00-{'3' * 32}-{'4' * 16}-01"}) as a:
        assert (a.context.trace_id, a.metadata["parent_span_id"]) == ("3" * 32, "4" * 16)


def test_a_span_it_was_not_told_of_counts_as_the_innermost():
    table.add("listener", ["*"], lambda *_: None)
    made = Recording()
    made.foreign = SpanContext("1" * 32, "2" * 16, "order 7")
    with span("a") as a:
        bridge_module.install(made)
        assert current_span() == a.context
    bridge_module.uninstall(made)
    assert made.calls == []


def test_a_span_leaves_through_the_bridge_it_was_entered_by(bridge):
    with span("a") as a:
        told = a.context.span_id
        bridge_module.uninstall(bridge)
        with span("b"):
            pass
    assert bridge.calls == [("enter", told), ("leave", told)]


def test_taking_out_another_bridge_changes_nothing(bridge):
    bridge_module.uninstall(Recording())
    assert bridge_module.installed is bridge


def test_where_nobody_listens_it_hears_nothing():
    made = Recording()
    bridge_module.install(made)
    with span("a"):
        pass
    bridge_module.uninstall(made)
    assert made.calls == []
