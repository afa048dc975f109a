"""What an assertion expects of an event, and how an event differs from it: pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

from otpylib_telemetry_mock.recording import RecordedEvent, matches
from otpylib_telemetry_mock.text import shown


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an event has to be like."""

    pattern: str
    measurements: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    where: Callable[[RecordedEvent], object] | None = None

    def names(self, event: RecordedEvent) -> bool:
        """Tell whether the event has the right name."""
        return matches(event["event_name"], self.pattern)

    def accepts(self, event: RecordedEvent) -> bool:
        """Tell whether the event is as expected."""
        return self.names(event) and not self.differences(event)

    def differences(self, event: RecordedEvent) -> list[str]:
        """Return what is not as expected, apart from the name; each entry a line to be read."""
        # Asked first: whoever gives a function may rule out events whose values cannot be compared at all.
        refused = None if self.where is None else _refused(self.where, event)
        found = [
            *entries(event["measurements"], self.measurements, "measurements"),
            *entries(event["metadata"], self.metadata, "metadata"),
        ]
        return found if refused is None else [*found, f"where {refused}"]

    def __str__(self) -> str:
        parts = [f"named {self.pattern!r}"]
        if self.measurements:
            parts.append(f"with measurements {shown(dict(self.measurements))}")
        if self.metadata:
            parts.append(f"with metadata {shown(dict(self.metadata))}")
        if self.where is not None:
            parts.append(f"where {shown(self.where)}")
        return " ".join(parts)


def expectation(
    pattern: object, measurements: object, metadata: object, where: Callable[[RecordedEvent], object] | None
) -> Expectation:
    """Make an expectation of what a test passed."""
    check_text("an event pattern", pattern)
    check_table("measurements", measurements, "the event")
    check_table("metadata", metadata, "the event")
    check_function("where", where, "the event")
    return Expectation(pattern, measurements or {}, metadata or {}, where)  # type: ignore[arg-type]  # checked above


def check_text(what: str, given: object) -> None:
    """Raise TypeError for a name or a pattern that is no text."""
    if not isinstance(given, str):
        raise TypeError(f"{what} is a string, not {shown(given)}")


def check_table(what: str, given: object, whose: str) -> None:
    """Raise TypeError for entries that are no table."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{what} is a mapping of what {whose} has to contain, not {shown(given)}")


def check_function(what: str, given: object, whose: str) -> None:
    """Raise TypeError for a predicate that cannot be called."""
    if given is not None and not callable(given):
        raise TypeError(f"{what} is a function that is given {whose}, not {shown(given)}")


def check_number(what: str, given: object) -> None:
    """Raise TypeError for a number of events or spans that is none."""
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
        raise TypeError(f"{what} is a whole number, 0 or more, not {shown(given)}")


def entries(actual: Mapping[str, Any], expected: Mapping[str, Any], name: str) -> list[str]:
    """Return how the entries of a table differ from what is expected of them, a line each."""
    return [
        f"{name}[{shown(key)}] {difference}"
        for key, value in expected.items()
        if (difference := _difference(actual, key, value)) is not None
    ]


def difference(value: Any, expected: Any) -> str | None:
    """Return how a value differs from what is expected of it; None where it does not."""
    try:
        satisfied = _satisfies(value, expected)
    except Exception as error:  # noqa: BLE001  # values and predicates may do anything
        return f"is {shown(value)}, and to compare it with {_wish(expected)} raised {type(error).__name__}"
    return None if satisfied else f"is {shown(value)}, expected {_wish(expected)}"


def _difference(actual: Mapping[str, Any], key: str, expected: Any) -> str | None:
    try:
        value = actual[key]
    except KeyError:
        return f"is missing, expected {_wish(expected)}"
    except Exception as error:  # noqa: BLE001  # a key among them that refuses to be compared
        return f"could not be looked up ({type(error).__name__})"
    return difference(value, expected)


def _satisfies(value: Any, expected: Any) -> bool:
    if value is expected:
        return True
    if isinstance(expected, type | UnionType):
        return isinstance(value, expected)
    if isinstance(expected, re.Pattern):
        return isinstance(value, str) and expected.search(value) is not None
    if callable(expected):
        # Asked before anything is compared: many a value, such as an array, refuses to be compared. Functions
        # that were recorded are compared all the same: bound methods are equal without being one object.
        return bool(expected(value)) if not callable(value) else value == expected or bool(expected(value))
    return bool(value == expected) or (_is_nan(value) and _is_nan(expected))


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _wish(expected: object) -> str:
    if isinstance(expected, type):
        return f"a value of type {expected.__name__}"
    if isinstance(expected, UnionType):
        return f"a value of type {expected}"
    if isinstance(expected, re.Pattern):
        return f"a text that matches {shown(expected.pattern)}"
    if callable(expected):
        return f"what {shown(expected)} accepts"
    return shown(expected)


def _refused(where: Callable[[RecordedEvent], object], event: RecordedEvent) -> str | None:
    try:
        result = where(event)
        accepted = bool(result)
    except Exception as error:  # noqa: BLE001  # a predicate that indexes what is not there says no
        return f"{shown(where)} raised {type(error).__name__}"
    return None if accepted else f"{shown(where)} gave {shown(result)}"
