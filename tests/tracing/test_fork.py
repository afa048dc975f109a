"""A process that forks inside of an operation: the parent tells of it, and the child goes on inside of it."""

import json
import os

import pytest

from otpylib_telemetry import execute, span, trace_context
from otpylib_telemetry.bus import table
from otpylib_telemetry.tracing import bridge

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # 3.12 on: forking with threads
]


class Log:
    """What handlers hear, in a process and, once that has ended, in its child."""

    def __init__(self):
        self.here = []
        table.add("test", ("shop.*",), self._hear)
        self._read, self._write = os.pipe()

    def _hear(self, name, measurements, metadata):
        self.here.append(
            (name, metadata.get("span_id"), metadata.get("parent_span_id"), metadata.get("trace_id"))
        )

    def child_is_done(self):
        with os.fdopen(self._write, "w") as pipe:
            json.dump(self.here, pipe)
        os._exit(0)

    def of_child(self, pid):
        os.close(self._write)
        with os.fdopen(self._read) as pipe:
            heard = json.load(pipe)
        assert os.waitpid(pid, 0)[1] == 0
        return [tuple(each) for each in heard]


@pytest.fixture
def log():
    yield Log()
    table.remove("test")


def both_work(log, *, fails=False):
    """Fork inside two operations, one in the other; both processes leave them. Returns the child's pid."""
    pid = None
    try:
        with span("shop.outer"), span("shop.inner") as inner:
            pid = os.fork()
            if pid == 0:
                log.here.clear()
                with span("shop.child"):
                    execute("shop.seen", {}, trace_context())
                inner.set_attribute("late", 1)
            if fails:
                raise ValueError("no tea")
    except ValueError:
        pass
    if pid == 0:
        with span("shop.after"):
            pass
        log.child_is_done()
    return pid


@pytest.mark.parametrize("fails", [False, True])
def test_the_parent_alone_tells_of_them(log, fails):
    pid = both_work(log, fails=fails)
    ending = "error" if fails else "success"
    assert [name for name, *_ in log.here] == [
        "shop.outer.start",
        "shop.inner.start",
        f"shop.inner.{ending}",
        f"shop.outer.{ending}",
    ]
    _, inner, _, trace_id = log.here[1]
    heard = log.of_child(pid)
    assert [name for name, *_ in heard] == [
        "shop.child.start",
        "shop.seen",
        "shop.child.success",
        "shop.after.start",
        "shop.after.success",
    ]
    assert heard[0][2:] == (inner, trace_id)
    # Left as anywhere: what begins afterwards is in a trace of its own.
    assert heard[3][2] is None
    assert heard[3][3] != trace_id


def test_the_other_api_hears_of_their_end_from_the_parent_alone(log, monkeypatch):
    told = []

    class Bridge:
        def enter(self, place, baggage):
            return "token"

        def leave(self, token):
            assert token == "token"
            told.append(("left",))

        def here(self):
            return None

        def around(self, own):
            return own

        def ended(self, operation):
            told.append((operation.name,))

    monkeypatch.setattr(bridge, "installed", Bridge())
    with span("shop.outer"):
        pid = os.fork()
        if pid == 0:
            log.here.clear()
    if pid == 0:
        log.here = told
        log.child_is_done()
    assert told == [("left",), ("shop.outer",)]
    assert log.of_child(pid) == [("left",)]
