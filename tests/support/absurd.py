"""Arguments that no sane program passes, and that telemetry has to survive all the same."""

import asyncio
from collections.abc import Mapping


class Malicious:
    """Raises whatever it is asked."""

    def __init__(self, error=RuntimeError):
        self.error = error

    def _raise(self, *_args):
        raise self.error("absurd")

    __str__ = __eq__ = __hash__ = __len__ = __bool__ = __iter__ = __format__ = _raise
    __getitem__ = __contains__ = _raise

    def __repr__(self):
        # An ordinary exception, which pytest survives as well.
        raise RuntimeError("absurd")

    @property
    def __class__(self):
        raise self.error("absurd")


class MaliciousStr(str):
    """A string whose every method raises; its text is still there to be read."""

    __slots__ = ()

    def _raise(self, *_args):
        raise SystemExit("absurd")

    __str__ = __eq__ = __hash__ = __len__ = __format__ = __ne__ = _raise

    def __repr__(self):
        raise RuntimeError("absurd")


class MaliciousMapping(Mapping):
    """Is a mapping, and raises when it is read."""

    def _raise(self, *_args):
        raise RuntimeError("absurd")

    __getitem__ = __iter__ = __len__ = _raise


class MaliciousDict(dict):
    """Is a dict, and raises when it is read."""

    def _raise(self, *_args):
        raise SystemExit("absurd")

    keys = items = copy = __iter__ = __getitem__ = __len__ = __bool__ = _raise


class UnprintableError(Exception):
    """Its text cannot be had, and the attempt ends in something worse than an exception."""

    def __str__(self):
        raise SystemExit("absurd")


def raising(error):
    """A callable without arguments that raises."""

    def call():
        raise error

    return call


async def coroutine_function():
    """What somebody passes who forgot that metadata is asked for by a plain call."""
    return {}


#: Everything a handler could raise that is not the end of the program.
ERRORS = [
    ValueError("plain"),
    SystemExit(3),
    asyncio.CancelledError(),
    RecursionError("deep"),
    GeneratorExit(),
    StopIteration(1),
    StopAsyncIteration(),
    MemoryError(),
    KeyError("k"),
    BaseException("base"),
    BaseExceptionGroup("group", [SystemExit(1), ValueError("x")]),
    UnprintableError(),
]

#: What is neither a mapping nor a callable that gives one.
DETAILS = [
    5,
    0,
    "text",
    b"bytes",
    [1, 2],
    [("a", 1)],
    {1, 2},
    object(),
    Malicious(),
    MaliciousMapping(),
    MaliciousDict(a=1),
    int,
    lambda _needed: {},
    lambda: 5,
    coroutine_function,
    *[raising(error) for error in ERRORS],
]

#: What is no event name.
NAMES = [
    None,
    5,
    1.5,
    b"shop.sale",
    (),
    ["shop"],
    {"shop": 1},
    object(),
    Malicious(),
    Malicious(SystemExit),
    "",
    "x" * 2000,
    lambda: "shop.sale",
]
