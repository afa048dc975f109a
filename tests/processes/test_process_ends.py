"""Every way an exporter's process can end: what was accepted is exported exactly once, or said to be left."""

import asyncio
import gc
import pathlib
import re
import signal
import subprocess
import threading

import pytest
from otpylib import gen_server, process
from otpylib.gen_server.atoms import STOP_ACTION
from otpylib.runtime.atoms import KILLED, SHUTDOWN

from otpylib_telemetry import exporter_child_spec, start_exporter
from otpylib_telemetry.exporter.process import ExporterServer
from tests.supervision.test_supervision import bare, tree
from tests.support import ending_app, programs
from tests.support.chassis import NAME, QUICK, books, crash, emit, hang, make_exporter, runner, start, up
from tests.support.runtime import in_process
from tests.support.waiting import eventually

ROOT = pathlib.Path(__file__).parents[2]

#: Seconds after which an application is taken to hang; it needs about one.
PATIENCE = 120

BACKENDS = ["healthy", "slow", "refusing", "hanging"]


class Application:
    """A run of tests/support/ending_app.py."""

    def __init__(self, end, backend, form, directory):
        self.directory = directory
        directory.mkdir()
        command = ["-m", "tests.support.ending_app", end, backend, form, directory]
        self.process = programs.start(command)
        self.said = ""
        self.failed = None

    def finish(self, send=None):
        while "ready" not in (line := self.process.stdout.readline()):
            if not line:
                break
        if send is not None:
            self.process.send_signal(send)
        try:
            _, self.said = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.failed = "it hangs"

    def lines(self, name):
        path = self.directory / name
        return path.read_text().split() if path.exists() else []

    @property
    def numbers(self):
        return [int(line) for line in self.lines("delivered")]

    @property
    def left(self):
        return [int(number) for number in re.findall(r"(\d+) events (?:left|that)", self.said)]


def run(end, form, tmp_path, send=None, backends=BACKENDS):
    """Run the application with every backend, side by side."""
    running = {backend: Application(end, backend, form, tmp_path / backend) for backend in backends}
    threads = [threading.Thread(target=found.finish, args=(send,)) for found in running.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for backend, found in running.items():
        assert found.failed is None, f"{backend}: {found.failed}"
    return running


def check(found, backend, status):
    assert found.process.returncode == status, found.said
    everything = list(range(ending_app.EVENTS))
    assert "Traceback" not in found.said.partition("KeyboardInterrupt")[0].replace(
        "Traceback (most recent call last)", "", int(status == -signal.SIGINT)
    ), found.said
    assert "destroyed but it is pending" not in found.said, found.said
    if backend in {"healthy", "slow"}:
        assert sorted(found.numbers) == everything
        assert found.left == []
    else:
        assert found.numbers == []
        assert found.left == [ending_app.EVENTS]
    assert found.lines("closed") == ["closed"]


ENDS = {
    "return": (None, 0),
    "under_way": (None, 0),
    "shutdown": (None, 0),
    "shutdown_return": (None, 0),
    "sigint": (signal.SIGINT, None),
    "sigterm": (signal.SIGTERM, -signal.SIGTERM),
}


#: In a tree the backend is asked in the same way: one that takes what it gets, late, and one that never does.
FORMS = {"alone": BACKENDS, "wrapped": ["slow", "hanging"], "bare": ["slow", "hanging"]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ENDS)
def test_an_application_ends(end, form, tmp_path):
    send, status = ENDS[end]
    for backend, found in run(end, form, tmp_path, send, FORMS[form]).items():
        if status is None:
            assert found.process.returncode in {0, 130, -signal.SIGINT}, found.said
        check(found, backend, found.process.returncode if status is None else status)


# --- ends of the process alone ------------------------------------------------------------------------------


async def stop_it(name):
    await process.send(name, (STOP_ACTION, "told to"))


async def exit_shutdown(name):
    await process.exit(name, SHUTDOWN)


async def exit_killed(name):
    await process.exit(name, KILLED)


async def exit_other(name):
    await process.exit(name, "some reason")


async def leak(name):
    """A CancelledError out of a handler."""
    server = next(iter(_servers(name)))

    def raise_it():
        raise asyncio.CancelledError

    server.work = raise_it
    server.wake()


def _servers(name):
    # The garbage of an earlier test may not have been collected yet: only the one at work counts.
    at_work = runner(name)
    return [found for found in gc.get_objects() if type(found) is ExporterServer and found.runner is at_work]


ALONE = [stop_it, crash, leak, exit_shutdown, exit_killed, exit_other]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.shutdown.SUCCESSION", 0.05)


@pytest.mark.parametrize("backend_is", ["healthy", "refusing", "hanging"])
@pytest.mark.parametrize("end", ALONE)
async def test_an_unsupervised_process_ends(runtime, end, backend_is, caplog, capsys):
    module, backend = make_exporter()
    await start(module, flush_interval=60, shutdown_timeout=0.2)
    backend.always = {"healthy": None, "refusing": OSError("down"), "hanging": hang()}[backend_is]
    emit(25)
    await end(NAME)
    await eventually(lambda: runner(NAME) is None)
    assert process.whereis(NAME) is None
    assert backend.open_now == 0
    found = books()
    if backend_is == "healthy":
        assert backend.numbers == list(range(25))
        assert found["exported"] == 25
        assert "left" not in caplog.text
    else:
        assert backend.delivered == []
        assert found["queued"] == 25
        assert caplog.text.count("x_exporter was drained with 25 events left") == 1


@pytest.mark.parametrize("end", ["supervisor", "backend", "nested"])
@pytest.mark.parametrize("backend_is", ["healthy", "refusing", "hanging"])
@pytest.mark.parametrize("form", ["wrapped", "bare"])
async def test_a_supervised_process_ends_with_its_tree(runtime, form, end, backend_is, caplog):
    module, backend = make_exporter()
    settings = {**QUICK, "flush_interval": 60, "shutdown_timeout": 0.2}
    spec = exporter_child_spec(module, settings)
    if form == "bare":
        spec = bare(module)
        spec.args = settings
    pid = await in_process(tree(spec).start_link, None, "application")
    await up()
    backend.always = {"healthy": None, "refusing": OSError("down"), "hanging": hang()}[backend_is]
    emit(25)
    if end == "supervisor":
        await process.send(pid, SHUTDOWN)
    elif end == "backend":
        await runtime.shutdown()
    else:
        await process.exit(f"{NAME}_sup" if form == "wrapped" else NAME, SHUTDOWN)
    await eventually(lambda: runner(NAME) is None and backend.open_now == 0)
    assert process.whereis(NAME) is None
    found = books()
    if backend_is == "healthy":
        assert sorted(backend.numbers) == list(range(25))
    else:
        assert found["queued"] == 25
        assert caplog.text.count("25 events left") == 1


async def test_an_export_under_way_is_waited_for_and_not_sent_twice(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    pid = await start(module, shutdown_timeout=5.0)
    emit(25)
    await eventually(lambda: books()["in_flight"] == 10)
    await process.exit(pid, SHUTDOWN)
    await asyncio.sleep(0.05)
    assert process.is_alive(pid)
    for _ in range(3):
        # Cancelled again, as asyncio.run does at the end.
        runtime._processes[pid].task.cancel()
        await asyncio.sleep(0)
    gate.set_result(None)
    await eventually(lambda: not process.is_alive(pid))
    assert backend.numbers == list(range(25))


async def test_shutting_down_does_not_wait_for_a_long_drain_that_is_under_way(runtime):
    module, backend = make_exporter()
    backend.always = hang()
    pid = await start(module, shutdown_timeout=0.2)
    emit(5)
    draining = asyncio.ensure_future(gen_server.call(NAME, ("drain", 3000.0), timeout=60))
    await eventually(lambda: runner().shutdown._draining is not None)
    await process.exit(pid, SHUTDOWN)
    await eventually(lambda: not process.is_alive(pid), timeout=60)
    assert books()["queued"] == 5
    draining.cancel()
    await asyncio.wait({draining})


async def test_an_application_that_ends_while_its_exporter_opens_loses_nothing(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.opening.append(gate)
    pid = await start_exporter(module, {**QUICK, "shutdown_timeout": 5.0})
    emit(5)
    await process.exit(pid, SHUTDOWN)
    await asyncio.sleep(0.05)
    gate.set_result(None)
    await eventually(lambda: not process.is_alive(pid))
    assert backend.numbers == list(range(5))
    assert backend.open_now == 0


async def test_no_time_at_all_is_enough_to_close(runtime):
    module, backend = make_exporter()
    pid = await start(module, shutdown_timeout=0)
    emit(5)
    await process.exit(pid, SHUTDOWN)
    await eventually(lambda: not process.is_alive(pid) and backend.open_now == 0)
    found = books()
    assert found["queued"] + found["exported"] == 5
