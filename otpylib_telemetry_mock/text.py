"""Failures of assertions, put so that the reader sees what to do; bounded, and safe with any value."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.errors import encodable

if TYPE_CHECKING:
    from otpylib_telemetry_mock.recording import RecordedEvent


_MAX_BITS = 300

_MAX_NAME = 200


class _Shown(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxdict = 16
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 8
        self.maxstring = self.maxother = 120

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to print very long ones.
        return (
            super().repr_int(x, level) if x.bit_length() <= _MAX_BITS else f"<int of {x.bit_length()} bits>"
        )

    def repr_function(self, x: Any, _level: int) -> str:
        return str(x.__name__)


_shown = _Shown()


def shown(value: object) -> str:
    """Return a short text for any value, whatever its ``__repr__`` does."""
    try:
        return encodable(_shown.repr(value))
    except Exception:  # noqa: BLE001  # containers that cannot be walked
        return f"<{type(value).__name__}>"


def unawaited(value: object) -> str:
    """Return what to say of a value that was to be awaited first."""
    return "; it was not awaited" if hasattr(value, "__await__") else ""


def shown_event(event: RecordedEvent) -> str:
    """Return one line for an event."""
    parts = [name_of(event)]
    if event["measurements"]:
        parts.append(f"measurements={shown(event['measurements'])}")
    if event["metadata"]:
        parts.append(f"metadata={shown(event['metadata'])}")
    return "  ".join(parts)


def name_of(event: RecordedEvent) -> str:
    """Return an event's name, or what stands in its place."""
    name = event["event_name"]
    return printable(name[:_MAX_NAME]) if isinstance(name, str) else shown(name)


def printable(text: str) -> str:
    """Return a text of one line, in which what no terminal, file or XML report can show is an escape."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )


def counted(number: int, noun: str = "event") -> str:
    """Return for instance "1 event", "3 events"."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def tally(at_least: int, at_most: int | None) -> str:
    """Return in words how many are asked for."""
    if at_most is None:
        return f"at least {counted(at_least)}"
    if at_least == at_most:
        return f"exactly {counted(at_least)}" if at_least else counted(0)
    if at_least:
        return f"{at_least} to {counted(at_most)}"
    return f"at most {counted(at_most)}"
