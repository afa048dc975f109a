"""Servers, plain and through the workarounds, for the tests that show each defect of otpylib."""

import asyncio

from otpylib import process
from otpylib.gen_server.data import NoReply, Reply
from otpylib.module import GEN_SERVER, OTPModule

from otpylib_telemetry import otp
from tests.support.waiting import eventually


def repaired(what):
    """What to say when a defect is not there any more."""
    return f"otpylib is repaired: {what} can go"


def server(**callbacks):
    """A GenServer class: callbacks(self, ...) over defaults that do nothing."""

    async def init(self, arg):
        return arg

    async def handle_call(self, message, from_, state):
        return (Reply(payload=message), state)

    async def handle_other(self, message, state):
        return (NoReply(), state)

    async def terminate(self, reason, state):
        """Nothing."""

    body = {
        "init": init,
        "handle_call": handle_call,
        "handle_cast": handle_other,
        "handle_info": handle_other,
        "terminate": terminate,
        **callbacks,
    }
    return OTPModule("Probe", (), body, behavior=GEN_SERVER, version="1.0.0")


def ours(**callbacks):
    """The same through otp.server_module; init gets (name, argument)."""
    plain = server(**callbacks)
    body = {
        key: plain.__dict__[key] for key in ("init", "handle_call", "handle_cast", "handle_info", "terminate")
    }
    return otp.server_module("Ours", body, default_name="ours", module=__name__, doc="A probe.")


async def outside(work):
    """Await it outside the process that is running: a call would eat the messages waited for."""
    return await otp.run_in_background(asyncio.get_running_loop(), work)


async def gone(pid):
    await eventually(lambda: not process.is_alive(pid))
