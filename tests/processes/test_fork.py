"""Forked workers: what the parent accepted is exported once, by the parent."""

import json
import os
import signal
from collections import Counter

import pytest

from otpylib_telemetry.exporter import registry
from tests.support import programs
from tests.support.chassis import balance
from tests.support.forking_app import NAME

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning"
    ),  # 3.12 on: forking with threads is what is tested
]


class Outcome:
    def __init__(self, directory, ended):
        self.ended = ended
        self.directory = directory
        self.parent = self._read("parent")[0]
        self.children = self._read("child")
        self.delivered = Counter((directory / "delivered").read_text().splitlines())

    def _read(self, name):
        path = self.directory / name
        assert path.exists(), (name, self.ended.stdout, self.ended.stderr)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def by(self, pid):
        """How often a process delivered each number."""
        return {
            int(line.split()[1]): count
            for line, count in self.delivered.items()
            if line.startswith(f"{pid} ")
        }


def run(how, directory):
    program = ["-m", "tests.support.forking_app", how, directory]
    ended = programs.run(program, options=("-W", "ignore"), timeout=240)
    assert ended.returncode == 0, ended.stderr
    outcome = Outcome(directory, ended)
    balance(outcome.parent["books"])
    return outcome


def check_parent(outcome):
    """All that the parent emitted was delivered by it, once, whatever a child did."""
    assert outcome.parent["left"] == 0
    assert outcome.by(outcome.parent["pid"]) == dict.fromkeys(range(45), 1)
    assert outcome.parent["books"]["accepted"] == outcome.parent["books"]["exported"] == 45


@pytest.mark.parametrize("how", ["plain", "exit"])
def test_a_child_starts_with_nothing_and_may_run_exporters_of_its_own(how, tmp_path):
    outcome = run(how, tmp_path)
    check_parent(outcome)
    assert outcome.parent["status"] == 0
    (child,) = outcome.children
    assert child["inherited"] == {"states": [], "handlers": []}
    assert (child["accepted"], child["left"]) == (30, 0)
    balance(child["books"])
    assert outcome.by(child["pid"]) == dict.fromkeys(range(2000, 2030), 1)
    assert "could not export" not in outcome.ended.stderr


def test_workers_that_run_no_exporter_neither_deliver_nor_pile_up(tmp_path):
    outcome = run("pool", tmp_path)
    check_parent(outcome)
    assert outcome.parent["status"] == 0
    assert [child["inherited"] for child in outcome.children] == [{"states": [], "handlers": []}] * 2
    assert sum(outcome.delivered.values()) == 45


def test_a_child_dies_of_its_own_signal_and_the_parent_lives_on(tmp_path):
    outcome = run("term", tmp_path)
    check_parent(outcome)
    assert outcome.parent["status"] == signal.SIGTERM


def test_state_that_was_inherited_holds_nothing():
    mine = registry.state_of(NAME)
    for number in range(10):
        mine.queue.offer("e", {"n": number}, {})
    mine.queue.take(4)
    mine.held_events = 4
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        report = {"left": mine.left, "books": mine.books(), "names": registry.names()}
        os.write(writing, json.dumps(report).encode())
        os._exit(0)
    os.waitpid(child, 0)
    report = json.loads(os.read(reading, 10_000))
    assert (report["left"], report["names"]) == (0, [])
    assert report["books"]["accepted"] == 0
    assert mine.left == 10
