"""Foreign functions, each called with a time limit."""

import threading
import time

from otpylib_telemetry.primitives.polling import Outcome, Round, Watch, Watches
from tests.support.waiting import wait_until


def test_what_functions_return_or_raise_is_kept_apart():
    def fails(_argument):
        raise SystemExit("no")

    good, bad, empty = Watch(lambda argument: [argument, 2]), Watch(fails), Watch(lambda _argument: None)
    outcomes = Round([good, bad, empty], 1, limit=5).wait()
    assert outcomes[good] == Outcome((1, 2))
    assert outcomes[empty] == Outcome(())
    assert repr(outcomes[bad].error) == "SystemExit('no')"


def test_a_generator_is_sent_the_argument_and_its_end_is_an_error():
    def yields():
        argument = yield
        yield [argument]

    watch = Watch(yields())
    assert Round([watch], 1, limit=5).wait()[watch] == Outcome((1,))
    ended = Round([watch], 2, limit=5).wait()[watch]
    assert "the generator has ended" in str(ended.error)


def test_nothing_to_call_takes_no_thread():
    before = threading.active_count()
    assert Round([], None, limit=5).wait() == {}
    assert threading.active_count() == before


def test_one_that_takes_long_holds_up_no_other_and_is_not_called_again_before_it_has_come_back():
    gate, calls = threading.Event(), []

    def slow(_argument):
        calls.append("slow")
        gate.wait(30)
        return ["late"]

    watches = [Watch(lambda _argument: ["first"]), Watch(slow), Watch(lambda _argument: ["last"])]
    for _ in range(2):
        outcomes = Round(watches, None, limit=0.1, step=0.01).wait()
        assert [outcome and outcome.observations for outcome in outcomes.values()] == [
            ("first",),
            None,
            ("last",),
        ]
    assert calls == ["slow"]
    gate.set()
    wait_until(lambda: not watches[1].busy)
    assert Round(watches, None, limit=30).wait()[watches[1]] == Outcome(("late",))


def test_when_time_is_up_nobody_is_called_whose_turn_has_not_come():
    gate, calls = threading.Event(), []

    def slow(number):
        def call(_argument):
            calls.append(number)
            gate.wait(30)

        return call

    watches = [Watch(slow(number)) for number in range(5)]
    outcomes = Round(watches, None, limit=30, step=30).wait(0.1)
    gate.set()
    wait_until(lambda: not watches[0].busy)
    time.sleep(0.02)
    assert set(outcomes.values()) == {None}
    assert calls == [0]


def test_what_has_come_back_by_the_end_of_the_time_counts():
    watch = Watch(lambda _argument: ["done"])
    begun = Round([watch], None, limit=30)
    wait_until(lambda: not watch.busy and begun._done.qsize())
    assert begun.wait(0)[watch] == Outcome(("done",))


def test_watches_go_with_their_objects_unless_they_have_not_come_back():
    gate = threading.Event()

    def call(each):
        if each == ["slow"]:
            gate.wait(30)
        return each

    watches, quick, slow = Watches(call), ["quick"], ["slow"]
    first = watches.of([quick, slow])
    outcomes = Round(first, None, limit=0.05, step=0.01).wait()
    assert outcomes[first[0]] == Outcome(("quick",))
    assert watches.of([]) == []
    again = watches.of([slow, quick])
    assert again[0] is first[1]
    assert again[1] is not first[0]
    gate.set()
