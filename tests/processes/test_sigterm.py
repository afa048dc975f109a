"""SIGTERM: drained where nobody handles it, left alone where somebody does."""

import asyncio
import contextlib
import signal
import threading
import time

import pytest
import uvloop

from otpylib_telemetry.exporter import sigterm
from tests.processes.test_process_ends import run
from tests.support import ending_app, programs

EVERYTHING = list(range(ending_app.EVENTS))


def test_the_exit_status_stays_what_it_is_and_everything_arrives(tmp_path):
    found = run("sigterm", "alone", tmp_path, signal.SIGTERM, ["slow"])["slow"]
    assert found.process.returncode == -signal.SIGTERM
    assert sorted(found.numbers) == EVERYTHING


@pytest.mark.parametrize("loop", ["", "@uvloop"], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("blocked", ending_app.BLOCKED)
def test_a_process_whose_loop_is_blocked_ends_of_it_within_its_time(tmp_path, blocked, loop):
    began = time.monotonic()
    found = run(blocked + loop, "alone", tmp_path, signal.SIGTERM, ["healthy"])["healthy"]
    assert found.process.returncode == -signal.SIGTERM
    assert found.numbers == []
    said = "the event loop is blocked: the process ends without exporting what is held"
    assert (said in found.said) is (blocked != "logging")
    # The limit, and what a busy machine needs besides; it would be blocked for longer.
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("loop", ["", "@uvloop"], ids=["asyncio", "uvloop"])
def test_on_either_loop_everything_arrives(tmp_path, loop):
    found = run("sigterm" + loop, "alone", tmp_path, signal.SIGTERM, ["slow"])["slow"]
    assert found.process.returncode == -signal.SIGTERM
    assert sorted(found.numbers) == EVERYTHING
    assert "blocked" not in found.said


@pytest.mark.parametrize("blocked", ["spinning", "locked"])
def test_asked_twice_it_ends_at_once_though_its_loop_is_blocked(tmp_path, blocked):
    with ending(blocked, tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert "blocked" not in said


@contextlib.contextmanager
def ending(end, directory):
    command = ["-m", "tests.support.ending_app", end, "healthy", "alone", directory]
    with programs.start(command) as it:
        assert it.stdout.readline() == "ready\n"
        yield it


def test_asked_twice_it_ends_at_once(tmp_path):
    found = run("twice", "alone", tmp_path, None, ["hanging"])["hanging"]
    assert found.process.returncode == -signal.SIGTERM
    assert found.lines("closed") == []


@pytest.mark.parametrize("end", ["own_handler", "later_handler"])
def test_an_application_with_a_handler_of_its_own_keeps_it(tmp_path, end):
    found = run(end, "alone", tmp_path, signal.SIGTERM, ["healthy"])["healthy"]
    assert found.process.returncode == 0, found.said
    assert found.lines("own") == ["own"]
    assert sorted(found.numbers) == EVERYTHING
    assert found.lines("closed") == ["closed"]


def test_nothing_is_installed_outside_the_main_thread():
    outcome = []

    def body():
        loop = asyncio.new_event_loop()
        sigterm.drain_on_sigterm(loop)
        loop.close()
        outcome.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert outcome == [signal.SIG_DFL]


@pytest.fixture(autouse=True)
def _nobody_elses_handler():
    """uvloop leaves its own behind where a loop is closed with it."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


async def test_the_handler_is_installed_once_and_goes_with_the_loop():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    loop = asyncio.get_running_loop()
    sigterm.drain_on_sigterm(loop)
    installed = signal.getsignal(signal.SIGTERM)
    sigterm.drain_on_sigterm(loop)
    assert signal.getsignal(signal.SIGTERM) is installed
    assert loop.remove_signal_handler(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_after_one_that_was_closed_has_the_handler(new_loop):
    for _ in range(2):
        loop = new_loop()
        sigterm.drain_on_sigterm(loop)
        assert signal.getsignal(signal.SIGTERM).args == (loop,)
        loop.close()


async def test_a_loop_without_signal_handlers_is_no_error():
    class Plain:
        def add_signal_handler(self, *args):
            raise NotImplementedError

    sigterm.drain_on_sigterm(Plain())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
