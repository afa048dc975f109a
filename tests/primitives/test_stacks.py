"""Exceptions that are written many times, as Python writes them."""

import gc
import sys
import traceback
import weakref

import pytest

from otpylib_telemetry import span
from otpylib_telemetry.bus import table
from otpylib_telemetry.primitives import stacks
from otpylib_telemetry.primitives.exceptions import MAX_FRAMES, failure, stack_trace


def dive(depth):
    if depth:
        dive(depth - 1)
    else:
        raise ValueError("at the bottom\nof it")


def one(depth):
    if depth:
        return other(depth - 1)
    raise LookupError(3)


def other(depth):
    return one(depth)


def from_another():
    try:
        dive(2)
    except ValueError as error:
        raise KeyError("x") from error


def during_another():
    try:
        from_another()
    except KeyError:
        _ = unknwon  # noqa: F821 - Python says what may have been meant
    finally:
        unknown = 1
        del unknown


def from_nothing():
    try:
        dive(1)
    except ValueError:
        raise OSError(5, "disk") from None


def with_notes():
    error = RuntimeError("noted")
    error.add_note("first\nof two lines")
    error.add_note("Traceback (most recent call last):")
    raise error


def group():
    try:
        dive(1)
    except ValueError as error:
        raise ExceptionGroup("several", [error, KeyError(1)]) from error


def in_a_circle():
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__context__ = second, first
    raise first


WAYS = {
    **{f"dive {depth}": (lambda depth=depth: dive(depth)) for depth in (0, 1, 2, 3, 4, 5, 63, 64, 65, 200)},
    **{f"in turn {depth}": (lambda depth=depth: one(depth)) for depth in (1, 3, 64, 300)},
    "from another": from_another,
    "during another": during_another,
    "from nothing": from_nothing,
    "notes": with_notes,
    "group": group,
    "circle": in_a_circle,
    "syntax": lambda: compile("a b c", "<given>", "exec"),
    "attribute": lambda: sys.pathh,
    "import": lambda: __import__("there_is_none"),
    "exit": lambda: sys.exit(3),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_written_as_python_writes_it_the_first_time_and_the_next(way):
    stacks._kept.clear()
    for _ in range(3):
        try:
            WAYS[way]()
        except BaseException as error:
            expected = traceback.format_exception(type(error), error, error.__traceback__, limit=-MAX_FRAMES)
            assert stack_trace(error) == "".join(expected)  # noqa: PT017 - of whatever kind it is


def test_code_of_two_files_that_is_the_same_is_told_apart():
    source = "def work():\n    raise ValueError('x')\n"
    for name in ("first.py", "second.py"):
        made = {}
        exec(compile(source, name, "exec"), made)  # noqa: S102 - code of a file that is named so
        with pytest.raises(ValueError, match="x") as raised:
            made["work"]()
        assert f'"{name}", line 2, in work' in stack_trace(raised.value)


def test_an_exception_that_passes_many_spans_has_each_of_its_frames_written_once(monkeypatch):
    """Of so many nested spans the frames used to be written half as often as the square of their number."""
    depth = 40
    stacks._kept.clear()
    written = []
    counted = traceback.FrameSummary.__init__
    monkeypatch.setattr(
        traceback.FrameSummary, "__init__", lambda *given, **how: written.append(1) or counted(*given, **how)
    )
    ended = []
    table.add("test", ("*.error",), lambda name, measurements, metadata: ended.append(metadata["stacktrace"]))

    def nested(left):
        with span(f"level.{left}"):
            if left:
                nested(left - 1)
            else:
                raise ValueError("at the bottom")

    with pytest.raises(ValueError, match="bottom"):
        nested(depth)
    table.remove("test")
    assert len(ended) == depth + 1
    # Two places in one function, and whatever is around it: no more than that, however many spans there are.
    assert len(written) <= 5


def test_what_is_kept_is_bounded_and_keeps_no_exception(monkeypatch):
    class Held:
        pass

    class OwnError(Exception):
        pass

    def fail():
        held = Held()
        alive.append(weakref.ref(held))
        raise OwnError(held)

    alive = []
    try:
        fail()
    except OwnError as error:
        alive.append(weakref.ref(error))
        written = stack_trace(error)
    assert "in fail" in written
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    monkeypatch.setattr(stacks, "_MAX_KEPT", 10)
    for number in range(50):
        made = {}
        exec(f"def work{number}(): raise ValueError({number})", made)  # noqa: S102 - code of its own each time
        with pytest.raises(ValueError, match=str(number)) as raised:
            made[f"work{number}"]()
        stack_trace(raised.value)
        assert len(stacks._kept) <= 10


def test_one_that_raises_where_it_should_speak_says_the_same_everywhere():
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    said = "<MuteError that cannot be shown>"
    heard = []
    table.add("test", ("*.error",), lambda name, measurements, metadata: heard.append(metadata))
    error = None
    try:
        with span("shop.order") as made:
            made.record_exception(MuteError())
            raise MuteError
    except MuteError as raised:
        error = raised
    table.remove("test")
    (metadata,) = heard
    assert metadata["error"] == said
    assert metadata["stacktrace"].endswith(f"MuteError: {said}\n")
    assert metadata["span_events"][0]["attributes"]["exception.message"] == said
    told = failure(error)
    assert told["exception.message"] == said
    assert told["exception.stacktrace"].endswith(f"MuteError: {said}\n")
