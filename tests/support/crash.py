"""Making an otpylib process crash, from outside and for real."""

from otpylib import process


class Poison:
    """A message that kills any GenServer: otpylib compares it, and comparing it raises."""

    __hash__ = None

    def __eq__(self, _other):
        raise RuntimeError("poison")


async def crash(name):
    """Make the process registered under ``name`` crash with an exception, as a defect of its own would."""
    await process.send(name, (Poison(), "crash"))
