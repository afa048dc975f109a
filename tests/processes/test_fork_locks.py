"""A fork while other threads are in the library leaves no lock taken in the child."""

import ast
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from otpylib_telemetry.primitives import fork
from otpylib_telemetry_mock.otlp_receiver.ports import free_port

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_a_child_emits_though_every_lock_was_held_when_it_was_forked():
    line = [sys.executable, "-W", "ignore", "-m", "tests.support.forking_with_locks"]
    line.append(f"http://127.0.0.1:{free_port()}")
    ended = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=ROOT)
    held, there_are, status = map(int, ended.stdout.split()[-3:])
    assert status == 0, ended.stderr
    assert held == there_are
    assert held > 15


@pytest.mark.parametrize("make", [fork.new_lock, fork.new_rlock])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lock_is_free_in_a_child_and_held_in_the_parent(make):
    lock, release, held = make(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not lock.acquire(blocking=False)
    release.set()
    holder.join()
    with lock:
        assert lock in fork.locks()


def test_a_lock_that_nobody_has_any_more_is_forgotten():
    before = len(fork.locks())
    for _ in range(100):
        fork.new_lock()
    assert len(fork.locks()) <= before + 1


SLOW = """
from tests.support.forking_while_importing import begun, forking

begun.set()
forking.wait()
for _ in range(1_000_000):
    pass
WHOLE = True
"""


def test_a_child_imports_what_another_thread_was_importing_when_it_was_forked(tmp_path):
    (tmp_path / "slow_to_import.py").write_text(SLOW)
    line = [sys.executable, "-W", "ignore", "-m", "tests.support.forking_while_importing", "slow_to_import"]
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    ended = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environ)
    assert ended.returncode == 0, ended.stderr


def test_modules_are_imported_by_name_in_one_place():
    """Those that a thread was importing otherwise can never be imported in a child."""
    found = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("otpylib_telemetry*/**/*.py"))
        if "importlib.import_module(" in path.read_text() or ", importlib.import_module" in path.read_text()
    ]
    assert found == [
        "otpylib_telemetry/primitives/fork.py",
        # On the thread that imports the library itself.
        "otpylib_telemetry/primitives/process_end.py",
    ]


def test_no_lock_is_made_anywhere_else():
    """A lock of any other origin would stay taken in a child."""
    found = []
    for path in sorted(ROOT.glob("otpylib_telemetry*/**/*.py")):
        text = path.read_text()
        if path.name == "fork.py" or "thread" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Load)
                and isinstance(node.value, ast.Name)
                and node.value.id in {"threading", "_thread"}
                and node.attr in {"Condition", "Semaphore", "BoundedSemaphore", "Barrier", "allocate_lock"}
            ):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"threading.Lock", "threading.RLock"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []
