"""Telemetry never breaks the application: what is replaced in otpylib does its own part, or leaves it."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("otpylib_telemetry")
_said = Once(100)


def guarded(function: Callable[P, R]) -> Callable[P, R | None]:
    """Return a function that raises nothing; what it would have raised is logged once."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # objects of the application may do anything where they are asked
            if _said.is_news((function.__qualname__, type(error).__qualname__)):
                _log.warning(
                    "Something that an actor did was not told of (%s: %s). The application goes on; this is "
                    "not reported again.",
                    function.__qualname__,
                    describe(error),
                )
            return None

    return call
