"""Whatever actors do: every message is handled where it was sent, and nothing stays of it."""

import asyncio
import gc

import pytest

from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, identity, recorder, timers
from otpylib_telemetry.instrument.otpylib.envelope import Envelope, Inbound, arrived, watched
from otpylib_telemetry.instrument.otpylib.identity import Identity
from otpylib_telemetry.instrument.otpylib.statem import Arrival
from otpylib_telemetry.tracing.operation import Operation
from tests.support.random_systems import System
from tests.support.runtime import in_process, running_runtime

OURS = (Envelope, Inbound, Operation, Identity, Arrival)


def alive():
    """How many there are of what we make of messages and processes."""
    gc.collect()
    found = [type(one) for one in gc.get_objects() if type(one) in OURS]
    return {kind.__name__: found.count(kind) for kind in OURS if kind in found}


@pytest.mark.parametrize(("seed", "messages"), [(0, 2_000), (1, 1_500), (2, 1_500)])
async def test_every_message_is_handled_where_it_was_sent_and_nothing_leaks(
    background_errors, seed, messages, capsys
):
    before = alive()
    system = System(seed)
    system.listen()
    OtpylibInstrumentor().instrument()
    try:
        async with running_runtime():
            await in_process(system.start)
            await in_process(system.run, messages, timeout=300)
            there = set(identity.known)
    finally:
        table.remove("heard")
    try:
        assert system.wrong == []
        assert system.handled >= messages
        assert there
        # asyncio reports what nobody has awaited: processes that crashed, which is meant here.
        background_errors.clear()
        del system
        await asyncio.sleep(0)
        assert identity.known == {}
        assert timers._firing == set()
        # It keeps so many operations that failed, and no more.
        recorder.forget_all()
        gc.collect()
        assert watched() == []
        assert (innermost.get(), arrived.get()) == (None, None)
        # What tests before this one have left may go meanwhile.
        after = alive()
        assert {kind: count for kind, count in after.items() if count > before.get(kind, 0)} == {}
    finally:
        OtpylibInstrumentor().uninstrument()
