"""Who emits."""

import threading

from otpylib import process

from otpylib_telemetry import otp
from tests.support.otp_defects import gone
from tests.support.runtime import in_process


def test_the_emitter_is_the_thread_outside_any_process():
    assert otp.current_emitter() == threading.get_ident()
    assert otp.is_running(otp.current_emitter())


async def test_the_emitter_is_the_pid_inside_a_process(runtime):
    async def body():
        return process.self(), otp.current_emitter()

    pid, emitter = await in_process(body)
    # The short way says what the long one does; otherwise current_emitter must go.
    assert pid == emitter
    await gone(pid)
    assert not otp.is_running(pid)
