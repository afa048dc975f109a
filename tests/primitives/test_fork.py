"""What a forked child does first."""

import os

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
