"""Two nodes, each a program of its own: context travels between them where both are instrumented."""

import asyncio
import json
import subprocess

import pytest

from otpylib_telemetry.instrument.otpylib.envelope import FAN_OUT
from tests.support import programs
from tests.support.epmd import running_epmd
from tests.support.node_app import PATIENCE, STATE
from tests.support.waiting import eventually

PROGRAM = "tests.support.node_app"
ONE, TWO = "one@127.0.0.1", "two@127.0.0.1"


class Node:
    """A node. What it writes goes to a file: otpylib prints every message, which nobody reads meanwhile."""

    def __init__(self, output):
        self.output = output
        self.program = None

    async def start(self, *arguments):
        with self.output.open("wb") as output:
            self.program = await asyncio.to_thread(
                programs.start,
                ["-m", PROGRAM, *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )

    async def end(self):
        """Let it end; what it has seen."""
        self.program.stdin.close()
        status = await asyncio.to_thread(self.program.wait, PATIENCE)
        assert status == 0, self.output.read_text()[-5000:]
        assert "Traceback" not in self.output.read_text()
        return json.loads(self.output.read_text().splitlines()[-1])

    def kill(self):
        if self.program is not None:
            self.program.kill()
            self.program.communicate()


@pytest.fixture
async def between(tmp_path):
    """A function that has one node ask another: what the one has seen, and the other has handled."""
    asking, answering = Node(tmp_path / "asking"), Node(tmp_path / "answering")
    async with running_epmd() as port:

        async def run(asker, answerer):
            loop = type(asyncio.get_running_loop()).__module__.split(".")[0]
            await answering.start(loop, port, TWO, ONE, answerer, "serves")
            await eventually(lambda: "serving\n" in answering.output.read_text())
            await asking.start(loop, port, ONE, TWO, asker, "asks")
            seen = await asking.end()
            return seen, (await answering.end())["handled"]

        try:
            yield run
        finally:
            asking.kill()
            answering.kill()


def by_span(handled):
    return {f"{event['trace_id']}-{event['span_id']}": event for event in handled}


async def test_the_trace_goes_on_at_the_other_node_and_back(between):
    seen, handled = await between("yes", "yes")
    events = by_span(handled)
    # Without a context at the sender there is none, whoever has connected the nodes.
    assert events[seen["none"][0]]["parent_span_id"] is None
    for name, number in (("by name", 2), ("by distribution", 3)):
        sent, where, tracestate, baggage, back = seen[name]
        assert sent == number
        assert where[:32] == f"{5:032x}"
        event = events[where]
        assert event["parent_span_id"] == seen["asking"][33:]
        assert event["message"] == "ask"
        assert (tracestate, baggage) == (STATE, "customer=ann")
        # The answer takes its receiver where it was sent.
        assert back == where
    # A process that receives for itself.
    assert seen["by pid"] == seen["loop asked"]
    # Beyond the bound they are linked.
    assert seen["of many"] == FAN_OUT
    linked = [event for event in handled if event.get("links")]
    assert len(linked) == 2
    assert all(seen["many"][:32] in str(event["links"]) for event in linked)
    assert seen["ends"] == ["DOWN", "", "EXIT", ""]


async def test_a_node_that_is_not_instrumented_gets_what_was_sent(between):
    seen, handled = await between("yes", "no")
    assert handled == []
    assert [seen["by name"][:2], seen["by distribution"][:2]] == [[2, ""], [3, ""]]
    assert seen["ends"] == ["DOWN", "", "EXIT", ""]
    # Its answers are of no context, and take their receiver out of the one it was in.
    assert {seen["by name"][-1], seen["by distribution"][-1], seen["none"][1]} == {""}


async def test_what_a_node_sends_that_is_not_instrumented_is_handled_in_no_context(between):
    seen, handled = await between("no", "yes")
    assert len(handled) == FAN_OUT + 5
    assert {event["parent_span_id"] for event in handled} == {None}
    assert not any(event.get("links") for event in handled)
    assert seen["ends"] == ["DOWN", "", "EXIT", ""]
    assert seen["of many"] == 0
