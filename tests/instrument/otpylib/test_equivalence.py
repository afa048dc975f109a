"""Whatever can be seen of otpylib through its public functions is the same, bare and instrumented."""

import contextlib
import io

import pytest
from otpylib import process
from otpylib.atom import ensure
from otpylib.runtime import get_runtime

from otpylib_telemetry import span
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import Heard
from tests.support.runtime import in_process, running_runtime
from tests.support.scenarios import SCENARIOS, Notes

#: With what it runs: instrumented, with listeners, within a span, with everything left out.
WAYS = {
    "instrumented": (True, False, False, Rules()),
    "instrumented, heard": (True, True, False, Rules()),
    "instrumented, in a span": (True, False, True, Rules()),
    "instrumented, heard, in a span": (True, True, True, Rules()),
    "instrumented, heard, in a span, left out": (True, True, True, Rules(include=())),
    "instrumented, heard, in a span, linked": (
        True,
        True,
        True,
        Rules(calls="link", casts="link", infos="none"),
    ),
}
BARE = (False, True, True, Rules())


async def noted(scenario, way):
    """What a scenario notes, with what otpylib prints and logs, and what its runtime has counted."""
    instrumented, listens, within, rules = way
    note, logged, printed = Notes(), Notes(), io.StringIO()
    put_in_force(rules)
    if listens:
        Heard("*")
    else:
        Heard("within.*")
    if instrumented:
        OtpylibInstrumentor().instrument()

    async def logger():
        while True:
            logged(await process.receive())

    async def run():
        with contextlib.ExitStack() as around:
            if within:
                around.enter_context(span("within"))
            await scenario(note)

    try:
        with contextlib.redirect_stdout(printed):
            async with running_runtime():
                await process.spawn(logger, name=ensure("logger"), mailbox=True)
                await in_process(run)
                statistics = get_runtime().statistics()
    finally:
        OtpylibInstrumentor().uninstrument()
        put_in_force(Rules())
        table.remove("heard")
    counted = {
        key: value
        for key, value in vars(statistics).items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    return {"noted": note, "logged": logged, "printed": Notes([printed.getvalue()]), "counted": counted}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_it_is_the_same(name):
    bare = await noted(SCENARIOS[name], BARE)
    assert bare["noted"]
    for way, conditions in WAYS.items():
        seen = await noted(SCENARIOS[name], conditions)
        for what, expected in bare.items():
            assert seen[what] == expected, (way, what)
