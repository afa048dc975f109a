"""Workers that come and go: what they counted is there when they have ended, in whichever orderly way."""

import os
import subprocess

import pytest

from tests.support import programs
from tests.support.shared_metrics import value
from tests.support.waiting import wait_until
from tests.support.worker_app import JOBS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs what forking servers need")


def command(how, method):
    return ["-m", "tests.support.worker_app", how, method]


def about(directory):
    """How these programs are run."""
    return {
        "env": {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        "options": ("-W", "ignore"),
    }


def run(how, method, directory, said=""):
    ended = programs.run(command(how, method), timeout=240, **about(directory))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == "" if not said else said in ended.stderr
    return ended.stdout


def counted(directory):
    """What was counted, and what an exporter that sends has sent."""
    lines = directory / "lines"
    return (
        value(directory, "jobs_done_total"),
        len(lines.read_text().splitlines()) if lines.exists() else 0,
    )


@pytest.mark.parametrize(
    ("how", "method"),
    [
        ("pool", "fork"),
        ("pool", "spawn"),
        ("pool", "forkserver"),
        ("executor", "fork"),
        ("executor", "spawn"),
        ("jobs", "fork"),
        ("jobs", "forkserver"),
    ],
)
def test_children_that_multiprocessing_starts_lose_nothing(how, method, tmp_path):
    run(how, method, tmp_path)
    assert counted(tmp_path) == (JOBS, JOBS)


@pytest.mark.parametrize("how", ["here", "os.fork"])
def test_processes_that_end_as_any_interpreter_lose_nothing(how, tmp_path):
    run(how, "fork", tmp_path)
    assert counted(tmp_path) == (JOBS, JOBS)


def test_the_exit_status_of_a_child_stays(tmp_path):
    assert run("failing_jobs", "fork", tmp_path) == "5\n"
    assert counted(tmp_path) == (JOBS, JOBS)


def test_a_child_whose_threads_outlast_its_main_one_loses_nothing(tmp_path):
    run("jobs_on_a_thread", "fork", tmp_path)
    assert counted(tmp_path) == (JOBS, JOBS)


def test_a_loop_that_was_left_is_run_once_more(tmp_path):
    run("jobs_on_a_stopped_loop", "fork", tmp_path)
    assert counted(tmp_path) == (JOBS, JOBS)


def test_of_a_loop_that_was_closed_what_needs_no_connection_is_saved(tmp_path):
    run(
        "jobs_on_a_closed_loop", "fork", tmp_path, f"ends with {JOBS} events that lines_exporter had accepted"
    )
    assert counted(tmp_path)[0] == JOBS


def test_a_worker_that_lives_writes_without_being_asked_and_a_kill_takes_nothing_of_that_back(tmp_path):
    """However long the interval for sending is: within a second, as the page says."""
    worker = programs.start(command("wait", "fork"), stdin=subprocess.PIPE, **about(tmp_path))
    wait_until(lambda: value(tmp_path, "jobs_done_total") == JOBS, 120, "the worker")
    worker.kill()
    worker.communicate()
    assert value(tmp_path, "jobs_done_total") == JOBS
