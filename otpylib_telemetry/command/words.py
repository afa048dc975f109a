"""Numbers, times and values as a person reads them."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

from otpylib_telemetry.command.screen import UsageError

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86400
_LONGEST: Final = 160


def seconds_of(text: str, option: str = "--for") -> float:
    """Return the seconds that ``90s``, ``10m``, ``1h30m`` or ``600`` stand for."""
    found = text.strip().lower()
    try:
        seconds = float(found)
    except ValueError:
        parts = _PART.findall(found)
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if "".join(number + unit for number, unit in parts) != found:
            seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UsageError(f"{option}: expected a time such as 90s, 10m or 1h30m, not {text[:50]!r}")
    return seconds


def duration(seconds: float) -> str:
    """Return a time span in at most two units."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def clock(at: float, *, fraction: bool = False) -> str:
    """Return the time of day here."""
    text = time.strftime("%H:%M:%S", time.localtime(at))
    return f"{text}.{int(at % 1 * 1000):03}" if fraction else text


def moment(at: float) -> str:
    """Return day and time here."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def until(at: float) -> str:
    """Return when something will be, and how long that is from now."""
    return f"at {clock(at)}, in {duration(max(0.0, at - time.time()))}"


def count(number: float) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}"


def counted(number: int, noun: str) -> str:
    """Return so many of something."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"


def value(found: Any) -> str:
    """Return a value as JSON has it; cut off where it is long."""
    if found is None:
        return "none"
    text = json.dumps(found, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
