"""What a forked child does first."""

import builtins
import os
import threading
from concurrent.futures import ThreadPoolExecutor

from otpylib_telemetry.primitives import fork


def test_functions_are_called_in_a_child_in_their_order_and_not_in_the_parent():
    called = []
    fork.after_fork_in_child(lambda: called.append("first"))
    fork.after_fork_in_child(lambda: called.append("second"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(called).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"first second"
    assert called == []


def test_a_platform_without_fork_has_nothing_to_do(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    fork.after_fork_in_child(lambda: None)


def test_two_threads_import_modules_that_import_each_other(tmp_path, monkeypatch):
    """Python itself would have one of them see a module half made, and fail."""
    first = "import time\nbegun_by_one.set()\ntime.sleep(0.3)\nfrom second_of_two import late\n"
    (tmp_path / "first_of_two.py").write_text(first)
    (tmp_path / "second_of_two.py").write_text("import first_of_two\nlate = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    begun = threading.Event()
    monkeypatch.setattr(builtins, "begun_by_one", begun, raising=False)

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(fork.import_module, "first_of_two")
        assert begun.wait(30)
        other = pool.submit(fork.import_module, "second_of_two")
        assert one.result(60).late is other.result(60).late
