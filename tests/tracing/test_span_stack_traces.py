"""The stack trace of a span that fails: whose, how long, and when there is none."""

import inspect
import sys
import traceback

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry import otp, span, span_stack_traces
from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.primitives import exceptions
from otpylib_telemetry.primitives.exceptions import failure, stack_trace
from otpylib_telemetry_prometheus import start_prometheus_exporter
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support.chassis import up
from tests.support.odd_calls import ALL, UnaskableError

LONGEST = 16_384


@pytest.fixture(autouse=True)
def as_by_default(monkeypatch):
    monkeypatch.delenv("TELEMETRY_SPAN_STACK_TRACES", raising=False)
    yield
    span_stack_traces(None)


@pytest.fixture
def written(monkeypatch):
    """How often a stack trace was written."""
    written = []
    monkeypatch.setattr(exceptions, "stack_trace", lambda *given: written.append(given) or "stack")
    return written


def fails(events, error):
    """The end of a span in which this is raised."""
    caught = None
    try:
        with span("a"):
            raise error
    except BaseException as found:
        caught = found
    assert caught is error
    return events[-1][2]


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


# --- what it says -----------------------------------------------------------------------------------------


async def test_it_is_what_python_writes(events):
    error = None
    try:
        with span("a"):
            try:
                raise KeyError("cause")
            except KeyError as cause:
                raise ValueError("effect") from cause
    except ValueError as caught:
        error = caught
    assert events[-1][2]["stacktrace"] == "".join(traceback.format_exception(error))


@pytest.mark.parametrize("keep", [False, True])
async def test_each_span_on_the_way_has_its_own_part(events, keep):
    span_stack_traces(keep)
    with pytest.raises(ValueError, match="x"), span("outer"):
        _work()
    inner, outer = (events.metadata(f"{name}.error").get("stacktrace") for name in ("inner", "outer"))
    if keep:
        assert "in _work\n" in inner
        assert "test_each_span" not in inner
        assert "test_each_span" in outer
    else:
        assert (inner, outer) == (None, None)


def _work():
    with span("inner"):
        raise ValueError("x")


# --- how long it gets -------------------------------------------------------------------------------------


def causes(count, link):
    error = None
    for number in range(count):
        try:
            if link == "cause":
                raise ValueError(number) from error
            if error is not None:
                try:
                    raise error
                except ValueError:
                    raise ValueError(number)  # noqa: B904 - during handling
            raise ValueError(number)
        except ValueError as caught:
            error = caught
    return error


def groups(width, depth):
    made = [ValueError(number) for number in range(width)]
    for _ in range(depth):
        made = [ExceptionGroup("group", made)]
    return made[0]


def annotated(count):
    error = ValueError("noted")
    for number in range(count):
        error.add_note(f"note {number} " + "x" * 100)
    return error


def in_a_circle():
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    return first


def deep(count):
    def dive(left):
        if not left:
            raise ValueError("at the bottom")
        dive(left - 1)

    return lambda: dive(count)


def endless():
    return endless()


class VerboseError(Exception):
    def __str__(self):
        return "x" * 5_000_000


HUGE = {
    "many causes": lambda: causes(3000, "cause"),
    "many contexts": lambda: causes(300, "context"),
    "wide group": lambda: groups(20_000, 1),
    "deep group": lambda: groups(2, 500),
    "wide and deep": lambda: groups(2_000, 50),
    "many notes": lambda: annotated(10_000),
    "in a circle": in_a_circle,
    "long text": VerboseError,
    "long arguments": lambda: ValueError(["x" * 100] * 10_000),
    "unaskable": UnaskableError,
}


@pytest.mark.parametrize("which", HUGE)
async def test_whatever_is_raised_there_is_an_end_to_it(events, which, monkeypatch):
    lines = []
    counted = traceback.FrameSummary.__init__
    monkeypatch.setattr(
        traceback.FrameSummary, "__init__", lambda *given, **how: lines.append(1) or counted(*given, **how)
    )
    stack = fails(events, HUGE[which]())["stacktrace"]
    assert 0 < len(stack) <= LONGEST
    assert "test_span_stack_traces.py" in stack
    # The work has an end as well: so many exceptions, so many frames of each, twice at most.
    assert len(lines) <= 2 * 8 * 64


@pytest.mark.parametrize("run", [deep(500), endless], ids=["deep", "endless"])
async def test_of_a_deep_stack_the_innermost_frames_are_kept(events, run):
    with pytest.raises((ValueError, RecursionError)), span("a"):
        run()
    stack = events[-1][2]["stacktrace"]
    assert len(stack) <= LONGEST
    assert "test_of_a_deep_stack" not in stack
    assert stack.splitlines()[-1].startswith(("ValueError: at the bottom", "RecursionError: "))


async def test_at_the_end_of_the_stack_spans_still_end(events):
    """Every span that began has ended, and what is raised is what the program would have raised."""
    depth = [0]

    def dive():
        depth[0] += 1
        with span("a"):
            dive()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        with pytest.raises(RecursionError):
            dive()
    finally:
        sys.setrecursionlimit(limit)
    with span("after"):
        pass
    assert depth[0] > 10
    assert events.names.count("a.start") - events.names.count("a.error") <= 3
    assert events.names[-1] == "after.success"


@pytest.mark.parametrize("which", ALL)
async def test_an_exception_of_anything_has_one(events, which):
    for error in (ValueError(ALL[which]), KeyError(ALL[which]), OSError(5, ALL[which])):
        assert fails(events, error)["stacktrace"]


def test_the_causes_of_many_are_told_from_the_last(events):
    stack = stack_trace(causes(100, "cause"))
    assert stack.startswith("(More that came before is left out.)\n")
    assert stack.count("The above exception was the direct cause") == 8
    assert stack.endswith("ValueError: 99\n")
    assert "ValueError: 92\n" in stack
    assert "ValueError: 91\n" not in stack


def test_the_first_of_many_members_are_told():
    stack = stack_trace(raised(groups(100, 1)))
    assert "  | ValueError: 7\n" in stack
    assert stack.endswith("  | and 92 more\n")


def test_a_context_that_is_suppressed_is_left_out():
    error = causes(20, "context")
    error.__suppress_context__ = True
    assert stack_trace(error).count("\nValueError: ") == 1


def test_what_there_is_little_of_is_told_as_python_does():
    for error in (groups(3, 2), annotated(3), causes(3, "cause"), causes(3, "context")):
        caught = raised(error)
        assert stack_trace(caught) == "".join(traceback.format_exception(caught))


def test_of_a_class_that_answers_nothing_the_name_is_known():
    class Mute(type):
        def __getattribute__(cls, name):
            raise RuntimeError

    class MuteError(Exception, metaclass=Mute):
        def __getattribute__(self, name):
            raise RuntimeError

    told = failure(raised(MuteError()))
    assert told["exception.type"].endswith(".MuteError")


# --- when there is none -----------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["false", "0", "no", "OFF", " False "])
async def test_the_variable_leaves_it_out(events, monkeypatch, said, written):
    monkeypatch.setenv("TELEMETRY_SPAN_STACK_TRACES", said)
    assert "stacktrace" not in fails(events, ValueError("x"))
    with span("a") as made:
        made.record_exception(ValueError("x"))
    assert "exception.stacktrace" not in events[-1][2]["span_events"][0]["attributes"]
    assert written == []


@pytest.mark.parametrize("said", ["true", "1", "", "yes", "nonsense"])
async def test_any_other_variable_does_not(events, monkeypatch, said):
    monkeypatch.setenv("TELEMETRY_SPAN_STACK_TRACES", said)
    assert "stacktrace" in fails(events, ValueError("x"))


async def test_a_program_goes_before_the_variable(events, monkeypatch):
    monkeypatch.setenv("TELEMETRY_SPAN_STACK_TRACES", "false")
    span_stack_traces(True)
    assert "stacktrace" in fails(events, ValueError("x"))
    span_stack_traces(None)
    assert "stacktrace" not in fails(events, ValueError("x"))


async def test_where_nobody_listens_none_is_written(written):
    with pytest.raises(ValueError, match="x"), span("a"):
        raise ValueError("x")
    assert written == []


async def test_it_is_written_once_whoever_reads(events, written):
    queues = []
    for number in range(3):
        queues.append(EventQueue(1000))
        queues[-1].read_log(("*",))
        table.add(f"reader{number}", ["*"], queues[-1].offer, reads_log=True)
        table.add(f"handler{number}", ["*"], lambda *_: None)
    fails(events, ValueError("x"))
    for number, queue in enumerate(queues):
        (end,) = [entry[0] for entry in queue.take(10) if type(entry) is tuple]
        assert end.failure["stacktrace"] == "stack"
        table.remove(f"reader{number}")
        queue.leave_log()
    assert len(written) == 1


async def test_where_only_metrics_are_made_none_is_written(written):
    queue = EventQueue(1000)
    queue.read_log(("*",))
    table.add("metrics", ["*"], queue.offer, reads_log=True, traces=False)
    with pytest.raises(ValueError, match="x"), span("a"):
        raise ValueError("x")
    table.remove("metrics")
    queue.leave_log()
    assert written == []


async def test_it_is_no_label(runtime, events):
    await start_prometheus_exporter({"port": 0})
    await up("prometheus_exporter")
    fails(events, ValueError("x"))
    await otp.safe_call("prometheus_exporter", ("flush", 60.0), timeout=70.0)
    page = Exposition().text([store_of("prometheus_exporter")], form=CLASSIC)
    labels = {
        label
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("a_")
        for label in sample.labels
    }
    assert "error_type" in labels
    assert labels.isdisjoint({"stacktrace", "error"})
    await otp.safe_call("prometheus_exporter", ("drain", 10.0), timeout=20.0)
