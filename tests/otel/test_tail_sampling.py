"""The tail's decision: what failed or was slow is kept whole, and nothing is lost count of on the way."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry.tracing.propagation import TraceParent
from otpylib_telemetry_otel.sampling.policy import Policy, Verdict
from otpylib_telemetry_otel.sampling.rules import rules_from, tables
from otpylib_telemetry_otel.sampling.tail import _SLICE, _TICKS, Tail
from otpylib_telemetry_otel.traces.assembly import Assembler
from otpylib_telemetry_otel.traces.spans import FinishedSpan
from tests.support.examples import examples

MS = 1_000_000
SECOND = 1_000_000_000
#: The head keeps low trace ids and leaves high ones out, whatever the rate.
HIGH = 2**128 - 1
PERCENT = Policy(rate=0.01)


class Process:
    """A tail together with the spans that are open, which an assembler would know."""

    def __init__(self, policy=PERCENT, **limits):
        self.tail = Tail(policy)
        for name, value in limits.items():
            setattr(self.tail, name, value)
        self.now = 0
        self.open = {}
        self.kept = []
        self.kept_events = 0
        self.sampled_out = 0
        self.looked = 0
        self.given = 0
        self.numbers = 0

    def open_traces(self):
        self.looked += 1
        return {trace_id: began for trace_id, (count, began) in self.open.items() if count}

    def begin(self, trace_id):
        count, began = self.open.get(trace_id, (0, self.now))
        self.open[trace_id] = (count + 1, began if count else self.now)

    def end(self, trace_id, **details):
        count, began = self.open[trace_id]
        self.open[trace_id] = (count - 1, began)
        return self.finished(trace_id, **details)

    def finished(
        self,
        trace_id,
        error=False,
        ms=1,
        name="a",
        parent=0,
        handed_on=True,
        weight=2,
        caller=None,
        **attributes,
    ):
        self.numbers += 1
        if handed_on:
            attributes["trace_id"] = f"{trace_id:032x}"
        one = FinishedSpan(
            name,
            trace_id,
            self.numbers,
            parent,
            caller,
            self.now,
            attributes,
            weight=weight,
            end_ns=self.now + ms * MS,
            error=error,
        )
        self.take(one)
        return one

    def take(self, *spans):
        self.given += sum(one.weight for one in spans)
        self.book(self.tail.take(spans, self.now, self.open_traces))

    def pass_time(self, seconds):
        self.now += int(seconds * SECOND)
        self.book(self.tail.sweep(self.now, self.open_traces))

    def pass_ticks(self, ticks=2 * _TICKS):
        """A few seconds: the rest of one round, and another whole one."""
        for _ in range(ticks):
            self.pass_time(1)

    def decide_all(self):
        self.book(self.tail.decide_all())

    def use(self, policy):
        self.tail.use(policy, self.open_traces)

    def book(self, decided):
        self.kept += decided.kept
        self.kept_events += sum(one.weight for one, _ in decided.kept)
        self.sampled_out += decided.sampled_out
        assert self.given == self.kept_events + self.sampled_out + self.tail.held, "the books balance"

    def ids(self):
        return [one.trace_id for one, _ in self.kept]

    def weights(self):
        return [weight for _, weight in self.kept]


# --- whole traces


def test_a_trace_the_head_refuses_is_held_until_it_is_over_and_then_left_out():
    process = Process()
    process.begin(HIGH)
    process.begin(HIGH)
    process.end(HIGH, parent=9)
    process.pass_time(50)
    assert (process.kept, process.sampled_out, process.tail.held) == ([], 0, 2)
    process.end(HIGH)
    process.pass_time(2)
    assert (process.kept, process.sampled_out, process.tail.held) == ([], 4, 0)


def test_an_error_anywhere_keeps_the_whole_trace():
    process = Process()
    for _ in range(4):
        process.begin(HIGH)
    process.end(HIGH, parent=9)
    process.end(HIGH, parent=9, error=True)
    assert len(process.kept) == 2, "what failed does not wait"
    process.end(HIGH, parent=9)
    process.end(HIGH)
    assert (len(process.kept), process.sampled_out, process.weights()) == (4, 0, [1.0] * 4)


def test_one_slow_operation_keeps_the_whole_trace():
    process = Process(Policy(rate=0.0, keep_slower_than_ns=100 * MS))
    process.begin(HIGH)
    process.end(HIGH, parent=9, ms=5)
    process.end(HIGH, ms=101)
    assert len(process.kept) == 2


def test_an_operation_that_has_been_open_for_too_long_already_is_slow():
    process = Process(Policy(rate=0.0, keep_slower_than_ns=5 * SECOND))
    process.begin(HIGH)
    process.begin(HIGH)
    process.end(HIGH, parent=9)
    process.pass_time(5)
    assert process.kept == []
    process.pass_time(1)
    assert len(process.kept) == 1


def test_a_trace_the_head_chooses_stands_for_many_unless_it_would_have_been_kept_anyway():
    process = Process()
    process.finished(1)
    process.finished(2, error=True)
    process.pass_time(2)
    assert dict(zip(process.ids(), process.weights(), strict=True)) == {1: pytest.approx(100), 2: 1.0}


def test_a_message_may_carry_a_trace_on_after_its_last_span_has_ended():
    process = Process()
    process.finished(HIGH)
    process.pass_time(0.9)
    process.finished(HIGH)
    process.pass_time(0.9)
    process.finished(HIGH, error=True)
    assert len(process.kept) == 3


def test_how_long_it_may_take_is_a_setting():
    process = Process(Policy(rate=0.0, wait_ns=0))
    process.finished(HIGH)
    process.pass_time(0)
    assert process.sampled_out == 2


def test_a_span_that_nobody_can_add_to_is_decided_about_at_once():
    process = Process()
    process.finished(HIGH, handed_on=False)
    assert (process.sampled_out, process.tail.held, process.tail.stats()) == (2, 0, {})
    process.finished(HIGH - 1, handed_on=False, error=True)
    process.finished(1, handed_on=False)
    assert process.weights() == [1.0, pytest.approx(100)]


@pytest.mark.parametrize("key", ["span_id", "traceparent", "correlation_id"])
def test_whoever_knows_one_of_its_ids_can_add_to_a_trace(key):
    process = Process()
    process.finished(HIGH, handed_on=False, **{key: "x"})
    assert process.tail.held == 2


def test_attributes_that_cannot_even_be_looked_up_are_waited_for():
    class Hostile:
        def __eq__(self, other):
            raise RuntimeError

        def __hash__(self):
            return hash("trace_id")

    process = Process()
    one = FinishedSpan("a", HIGH, 1, 0, None, 0, {Hostile(): 1})
    process.take(one)
    assert process.tail.held == 1


def test_the_death_of_an_emitter_counts_as_an_error():
    process = Process()
    process.finished(HIGH)
    one = FinishedSpan("a", HIGH, 2, 0, None, 0, {})
    one.incomplete = "emitter_died"
    process.take(one)
    assert len(process.kept) == 2


# --- late


def test_late_spans_follow_the_decision():
    process = Process()
    process.finished(HIGH)
    process.finished(1)
    process.pass_time(2)
    process.finished(HIGH)
    process.finished(1)
    assert (process.sampled_out, process.ids(), process.tail.held) == (4, [1, 1], 0)
    assert process.weights() == [pytest.approx(100)] * 2


def test_a_late_error_is_kept_with_what_comes_after_it_and_counted():
    process = Process()
    process.finished(HIGH)
    process.pass_time(2)
    process.finished(HIGH, error=True)
    process.finished(HIGH)
    assert (process.weights(), process.sampled_out) == ([1.0, 1.0], 2)
    assert process.tail.stats() == {"kept_in_part": 1}


def test_decisions_are_remembered_for_a_minute_at_least_and_forgotten_after_two():
    process = Process(Policy(rate=0.0, keep_errors=False, keep_slower_than_ns=10**15))
    process.finished(HIGH)
    process.pass_time(2)
    process.pass_time(59)
    process.use(Policy())
    process.finished(HIGH)
    assert (process.kept, process.sampled_out) == ([], 4)
    for _ in range(4):
        process.pass_time(60)
    process.finished(HIGH)
    assert len(process.kept) == 1
    assert process.tail.passing


def test_the_memory_of_decisions_is_bounded():
    process = Process()
    for number in range(80_000):
        process.finished(HIGH - number, error=True)
        if number % 1000 == 0:
            process.pass_time(0)
    remembered = process.tail._decided
    assert 25_000 <= len(remembered) <= 50_000
    assert len(process.kept) == 80_000


# --- bounds


def test_room_is_made_by_what_is_over_first():
    process = Process(max_spans=10)
    process.begin(HIGH)
    process.finished(HIGH)
    for number in range(1, 10):
        process.finished(HIGH - number)
    assert (process.tail.held_spans, process.looked) == (10, 0)
    process.finished(HIGH - 10)
    assert HIGH in process.tail._traces, "the one that is open, though it is the oldest"
    assert process.tail.held_spans == 9, "and no more than there must be: the others may still go on"
    assert "decided_early" not in process.tail.stats()


def test_then_what_is_bound_to_be_slow_is_kept():
    process = Process(Policy(rate=0.0, keep_slower_than_ns=SECOND), max_spans=3)
    process.begin(HIGH)
    process.finished(HIGH)
    process.now += 2 * SECOND
    for number in range(1, 4):
        process.begin(HIGH - number)
        process.finished(HIGH - number)
    assert (process.ids(), process.tail.held_spans) == ([HIGH], 3)


def test_then_the_oldest_are_decided_about_by_their_heads():
    process = Process(max_spans=10)
    trace_ids = [1, HIGH, *(HIGH - number for number in range(1, 10))]
    for trace_id in trace_ids:
        process.begin(trace_id)
        process.finished(trace_id)
    assert (process.ids(), process.sampled_out, process.tail.held_spans) == ([1], 2, 9)
    assert process.tail.stats()["decided_early"] == 2
    process.end(HIGH)
    assert process.sampled_out == 4, "and the decision stands"


def test_the_events_that_spans_are_made_of_are_bounded_as_well():
    process = Process(max_events=100)
    for number in range(5):
        process.begin(HIGH - number)
        process.finished(HIGH - number, weight=30)
    assert process.tail.held <= 90


def test_a_trace_that_does_not_end_is_decided_about_when_its_time_is_up():
    process = Process(max_age_ns=10 * SECOND)
    process.begin(HIGH)
    process.finished(HIGH)
    process.pass_time(9)
    assert process.tail.held == 2
    process.pass_time(1)
    assert (process.tail.held, process.sampled_out) == (0, 2)


@pytest.mark.slow
def test_memory_is_bounded_under_twice_as_many_traces_as_it_holds_that_do_not_end():
    process = Process()
    for number in range(40_000):
        process.begin(HIGH - number)
        process.finished(HIGH - number)
    assert process.tail.held_spans <= 20_000
    assert process.looked < 100, "making room is no work to be done for every span"
    process.open.clear()
    process.pass_ticks()
    assert (process.tail.held, len(process.tail._traces)) == (0, 0)


class Counted(dict):
    """The traces with open spans; counts how many traces were asked after."""

    asked = 0

    def get(self, *args):
        Counted.asked += 1
        return super().get(*args)


def held_traces(count, **details):
    process = Process(max_spans=10 * count, max_events=100 * count)
    process.open_traces = lambda: Counted(
        {trace_id: began for trace_id, (open_here, began) in process.open.items() if open_here}
    )
    for number in range(count):
        process.finished(HIGH - number, **details)
    return process


def work_of_one_tick(process):
    """How many traces were looked at, and how many were decided about."""
    before, Counted.asked = process.tail.held_spans, 0
    process.pass_time(1)
    return Counted.asked, before - process.tail.held_spans


def test_a_tick_does_a_part_of_the_work_and_a_few_ticks_do_all_of_it():
    process = held_traces(20_000)
    process.now += SECOND
    work = [work_of_one_tick(process) for _ in range(_TICKS)]
    assert all(looked <= 20_000 / _TICKS and decided <= looked for looked, decided in work), work
    assert (process.tail.held, process.sampled_out) == (0, 40_000)


def test_a_tick_does_little_where_nothing_is_over():
    process = held_traces(20_000)
    for number in range(20_000):
        process.begin(HIGH - number)
    work = [work_of_one_tick(process) for _ in range(10)]
    assert all((looked, decided) == (20_000 / _TICKS, 0) for looked, decided in work), work
    assert process.tail.held == 40_000


def test_a_tick_looks_at_everything_where_that_is_little():
    process = held_traces(_SLICE)
    process.now += SECOND
    assert work_of_one_tick(process) == (_SLICE, _SLICE)


def test_no_trace_waits_for_more_than_a_few_ticks_while_others_come():
    process = held_traces(8_000)
    born, number = {}, 8_000
    for tick in range(30):
        for _ in range(1_200):
            process.finished(HIGH - number)
            born[HIGH - number] = tick
            number += 1
        process.pass_time(1)
        waiting = [tick - born[trace_id] for trace_id in process.tail._traces if trace_id in born]
        # A second of patience, the rest of a round, and a round.
        assert max(waiting, default=0) <= 1 + 2 * _TICKS
    process.pass_ticks()
    assert process.tail.held == 0


def test_the_end_in_the_middle_of_a_round_decides_about_everything_at_once():
    process = held_traces(20_000)
    process.pass_time(2)
    assert 0 < process.tail.held < 40_000
    process.decide_all()
    assert (process.tail.held, process.sampled_out) == (0, 40_000)
    process.finished(1, error=True)
    process.pass_time(2)
    assert process.ids() == [1]


def test_a_trace_that_goes_on_between_two_slices_is_kept_whole():
    process = held_traces(20_000)
    process.now += SECOND
    process.pass_time(0)
    last = HIGH - 19_999
    process.finished(last, error=True)
    process.pass_ticks()
    assert process.ids() == [last, last]


def test_traces_that_are_decided_and_over_do_not_pile_up_between_two_looks():
    process = Process(max_spans=100)
    for number in range(10_000):
        process.finished(HIGH - number, error=True)
        assert len(process.tail._traces) <= 101
    assert process.looked <= 100


# --- a limit per second


def test_errors_go_first_when_spans_are_limited():
    process = Process(Policy(spans_per_second=20))
    for number in range(100):
        process.finished(HIGH - number, error=number % 20 == 0)
    process.pass_time(2)
    failed = [one for one, _ in process.kept if one.error]
    assert len(failed) == 5
    assert len(process.kept) <= 21


def test_a_flood_of_errors_comes_under_the_limit_too():
    process = Process(Policy(spans_per_second=20))
    for number in range(100):
        process.finished(HIGH - number, error=True)
    assert len(process.kept) == 20
    assert process.tail.stats()["left_out_errors"] == 80
    process.finished(HIGH - 99, error=True)
    assert len(process.kept) == 20, "a trace that was left out for want of room stays out"


def test_limited_traces_are_whole():
    process = Process(Policy(spans_per_second=10, wait_ns=0))
    for number in range(50):
        for _ in range(5):
            process.finished(HIGH - number)
        process.pass_time(0.1)
    process.pass_time(1)
    counts = {trace_id: process.ids().count(trace_id) for trace_id in process.ids()}
    assert set(counts.values()) == {5}
    assert 50 <= len(process.kept) <= 75


def test_what_passes_the_limit_stands_for_what_did_not():
    process = Process(Policy(spans_per_second=10, wait_ns=0))
    for number in range(400):
        process.finished(HIGH - number, name="a" if number % 4 else "b")
        process.pass_time(0.01)
    process.now += 10 * SECOND
    for name in ("a", "b"):
        process.finished(1 if name == "a" else 2, name=name)
    process.pass_time(2)
    by_name = {"a": 0.0, "b": 0.0}
    for one, weight in process.kept:
        by_name[one.name] += weight
    assert by_name == {"a": 301.0, "b": 101.0}
    assert len(process.kept) < 60


def test_names_made_from_data_do_not_fill_the_memory_of_the_limit():
    process = Process(Policy(spans_per_second=1, wait_ns=0))
    for number in range(3000):
        process.finished(HIGH - number, name=f"a{number}")
    for _ in range(_TICKS):
        process.pass_time(0)
    assert len(process.tail._left_out) <= 1002
    process.now += 10 * SECOND
    assert sum(process.weights()) + sum(process.tail._left_out.values()) == 3000


# --- another policy


def test_a_trace_that_has_begun_keeps_its_policy():
    process = Process(Policy())
    process.begin(HIGH)
    process.begin(HIGH)
    process.finished(5)
    process.use(Policy(rate=0.0))
    process.end(HIGH)
    process.finished(HIGH - 1)
    process.end(HIGH)
    process.pass_time(2)
    process.finished(HIGH)
    assert process.ids() == [5, HIGH, HIGH, HIGH]
    assert process.sampled_out == 2


def test_what_is_held_is_decided_about_by_the_policy_it_began_under():
    process = Process()
    process.finished(HIGH)
    process.use(Policy())
    assert not process.tail.passing
    process.finished(HIGH)
    process.finished(HIGH - 1)
    process.pass_time(2)
    assert (process.ids(), process.sampled_out) == ([HIGH - 1], 4)


def test_the_same_policy_again_changes_nothing():
    process = Process(Policy())
    process.begin(HIGH)
    process.use(Policy())
    assert process.tail.passing


def test_nothing_is_decided_before_the_sampler_is_there():
    class Never:
        def decide(self, one):
            return Verdict(keep=False)

    process = Process(Policy(awaits_sampler=True))
    process.finished(1)
    process.finished(2, handed_on=False)
    process.pass_time(100)
    assert process.tail.held == 4
    process.finished(3, error=True)
    assert process.ids() == [3], "but for what is kept in any case"
    process.use(Policy(sampler=Never()))
    process.pass_time(2)
    assert (process.ids(), process.sampled_out) == ([3], 4)


def test_the_ratio_decides_if_the_sampler_does_not_come_in_time():
    process = Process(Policy(rate=0.5, awaits_sampler=True), max_age_ns=10 * SECOND)
    process.finished(1)
    process.finished(HIGH)
    process.pass_time(10)
    assert (process.ids(), process.sampled_out) == ([1], 2)


def test_without_anything_to_wait_for_the_ratio_decides_span_by_span():
    process = Process(Policy(rate=0.5, keep_errors=False))
    process.finished(1)
    process.finished(HIGH, error=True)
    assert (process.ids(), process.weights(), process.sampled_out) == ([1], [2.0], 2)
    assert process.tail.stats() == {}


def test_a_span_further_up_may_say_that_the_caller_keeps_the_trace():
    process = Process(Policy(rate=0.0, parent_based=True))
    process.begin(HIGH)
    process.finished(HIGH, parent=9)
    process.end(HIGH, caller=TraceParent(HIGH, 9, True))
    process.pass_time(2)
    assert process.ids() == [HIGH, HIGH]


def test_rules_are_about_whole_traces():
    policy = Policy(rules=rules_from(tables([{"name": "health.*", "rate": 0}])))
    process = Process(policy)
    process.begin(1)
    process.finished(1, name="db", parent=2)
    process.end(1, name="health.check")
    process.pass_time(2)
    assert (process.kept, process.sampled_out) == ([], 4)


def test_the_end_decides_about_everything():
    process = Process()
    process.finished(1)
    process.begin(HIGH)
    process.finished(HIGH)
    process.decide_all()
    assert (process.ids(), process.sampled_out, process.tail.held, process.tail.held_spans) == ([1], 2, 0, 0)
    process.decide_all()
    assert process.ids() == [1]


# --- through an assembler


def traces_of(generator, count):
    """Random traces as events, interleaved, and what is true of each: events, whether it failed, was slow."""
    truth, scripts = {}, []
    for _ in range(count):
        trace_id = generator.getrandbits(128) or 1
        fate = generator.random()
        failed, slow = fate < 0.05, 0.05 <= fate < 0.1
        script, spans = [], generator.randint(1, 6)
        bad = generator.randrange(spans)
        stack = []
        for number in range(spans):
            ids = {"trace_id": f"{trace_id:032x}", "span_id": f"{generator.getrandbits(64) or 1:016x}"}
            if stack:
                ids["parent_span_id"] = stack[-1][0]["span_id"]
            script.append(("op.start", {}, ids))
            stack.append((ids, number))
            while stack and (number == spans - 1 or generator.random() < 0.5):
                ids, index = stack.pop()
                is_bad = index == bad
                name = "op.error" if is_bad and failed else "op.stop"
                script.append((name, {"duration_ms": 900 if is_bad and slow else 1}, ids))
        truth[trace_id] = (spans, failed or slow)
        scripts.append(script)
    while scripts:
        script = generator.choice(scripts[:50])
        name, measurements, metadata = script.pop(0)
        if not script:
            scripts.remove(script)
        yield name, measurements, metadata
    yield truth


@pytest.mark.parametrize("seed", range(5))
def test_at_one_percent_every_failed_and_every_slow_trace_arrives_whole(seed):
    generator = random.Random(seed)
    assembler, tail = Assembler(10_000, 300 * SECOND), Tail(Policy(rate=0.01, keep_slower_than_ns=500 * MS))
    *script, truth = traces_of(generator, 2000)
    kept, out, now = [], 0, 0

    def book(decided):
        nonlocal out
        kept.extend(decided.kept)
        out += decided.sampled_out

    for at in range(0, len(script), 100):
        events = [(*event, now + number, "p") for number, event in enumerate(script[at : at + 100])]
        now += 20 * MS
        book(tail.take(assembler.collect(events, 0).spans, now, assembler.open_traces))
        if at % 5000 == 0:
            book(tail.sweep(now, assembler.open_traces))
    for _ in range(2 * _TICKS):
        now += SECOND
        book(tail.sweep(now, assembler.open_traces))
    assert (len(assembler), tail.held) == (0, 0)
    arrived = {}
    for one, _ in kept:
        arrived[one.trace_id] = arrived.get(one.trace_id, 0) + 1
    assert all(count == truth[trace_id][0] for trace_id, count in arrived.items()), "whole or not at all"
    assert {trace_id for trace_id, (_, bad) in truth.items() if bad} <= arrived.keys()
    fine = [trace_id for trace_id in arrived if not truth[trace_id][1]]
    assert 5 <= len(fine) <= 40
    assert sum(one.weight for one, _ in kept) + out == len(script)


# --- whatever happens

POLICIES = [
    Policy(),
    PERCENT,
    Policy(rate=0.5, keep_errors=False),
    Policy(rate=0.5, keep_slower_than_ns=50 * MS, wait_ns=0),
    Policy(parent_based=True),
    Policy(spans_per_second=3),
    Policy(rate=0.5, rules=rules_from(tables([{"name": "a", "rate": 0}, {"name": "b", "rate": 1}]))),
    Policy(awaits_sampler=True),
]
TRACE_IDS = st.sampled_from([1, 2, 2**63 - 1, 2**63 + 1, HIGH - 1, HIGH])
STEPS = st.one_of(
    st.tuples(st.just("begin"), TRACE_IDS),
    st.tuples(
        st.just("finished"),
        TRACE_IDS,
        st.fixed_dictionaries(
            {
                "error": st.booleans(),
                "ms": st.sampled_from([1, 100]),
                "weight": st.integers(1, 9),
                "name": st.sampled_from("ab"),
                "parent": st.integers(0, 3),
                "handed_on": st.booleans(),
            }
        ),
    ),
    st.tuples(st.just("pass_time"), st.sampled_from([0, 0.5, 1, 30, 90])),
    st.tuples(st.just("use"), st.sampled_from(POLICIES)),
    st.tuples(st.just("decide_all")),
)


@settings(max_examples=examples(300), deadline=None)
@given(st.lists(STEPS, max_size=60), st.sampled_from(POLICIES), st.integers(1, 6), st.integers(1, 20))
def test_no_event_is_lost_or_counted_twice_whatever_happens(steps, policy, max_spans, max_events):
    process = Process(policy, max_spans=max_spans, max_events=max_events)
    for action, *arguments in steps:
        match action, arguments:
            case "finished", (trace_id, details) if process.open.get(trace_id, (0, 0))[0]:
                process.end(trace_id, **details)
            case "finished", (trace_id, details):
                process.finished(trace_id, **details)
            case _:
                getattr(process, action)(*arguments)
        assert process.tail.held_spans <= max_spans
        assert process.tail.held <= max_events
    process.decide_all()
    assert (process.tail.held, process.tail.held_spans) == (0, 0)
    handed_out = [id(one) for one, _ in process.kept]
    assert len(handed_out) == len(set(handed_out))
