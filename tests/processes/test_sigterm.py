"""SIGTERM: drained where nobody handles it, left alone where somebody does."""

import asyncio
import signal
import threading

import pytest

from otpylib_telemetry.exporter import sigterm
from tests.processes.test_process_ends import run
from tests.support import ending_app

EVERYTHING = list(range(ending_app.EVENTS))


def test_the_exit_status_stays_what_it_is_and_everything_arrives(tmp_path):
    found = run("sigterm", "alone", tmp_path, signal.SIGTERM, ["slow"])["slow"]
    assert found.process.returncode == -signal.SIGTERM
    assert sorted(found.numbers) == EVERYTHING


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


async def test_the_handler_is_installed_once_and_goes_with_the_loop():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    loop = asyncio.get_running_loop()
    sigterm.drain_on_sigterm(loop)
    installed = signal.getsignal(signal.SIGTERM)
    sigterm.drain_on_sigterm(loop)
    assert signal.getsignal(signal.SIGTERM) is installed
    assert loop.remove_signal_handler(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_a_loop_without_signal_handlers_is_no_error():
    class Plain:
        def add_signal_handler(self, *args):
            raise NotImplementedError

    sigterm.drain_on_sigterm(Plain())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
