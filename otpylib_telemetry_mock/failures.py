"""Messages of failed assertions."""

from __future__ import annotations

from collections import Counter
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from otpylib_telemetry.primitives.errors import encodable
from otpylib_telemetry_mock.text import (
    _MAX_NAME,
    counted,
    name_of,
    shown_event,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otpylib_telemetry_mock.matching import Expectation
    from otpylib_telemetry_mock.recording import RecordedEvent


#: Characters of a whole message, events shown as the nearest, and names listed.
_MAX_MESSAGE = 5000

_MAX_NEAREST = 3

_MAX_NAMES = 12


#: Distinct names, and events, looked at to find the nearest.
_MAX_COMPARED_NAMES = 300

_MAX_COMPARED_EVENTS = 2000


#: How alike two names must be for one to be taken for a misspelling of the other, from 0 to 1.
_ALIKE = 0.75


def message(headline: str, *sections: Iterable[str]) -> str:
    """Return a message of a headline and blocks of lines; blocks without lines are left out."""
    blocks = [headline, *("\n".join(lines) for section in sections if (lines := list(section)))]
    text = encodable("\n\n".join(blocks))
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} ... (cut)"


def listed(title: str, events: Sequence[RecordedEvent], limit: int = 10) -> list[str]:
    """Return a block that lists events, the first and the last where they are many."""
    if not events:
        return []
    lines = [f"  {shown_event(event)}" for event in events[:limit]]
    if len(events) > limit:
        lines.append(f"  ... and {counted(len(events) - limit, 'further event')}")
    return [f"{title}:", *lines]


def nearest(expected: Expectation, events: Sequence[RecordedEvent]) -> list[str]:
    """Return a block that shows the events that come nearest to what was expected, and what differs."""
    likeness = _likenesses(expected.pattern, events)
    ranked = []
    for age, event in enumerate(reversed(events[-_MAX_COMPARED_EVENTS:])):
        named = expected.names(event)
        alike = 1.0 if named else likeness.get(name_of(event), 0.0)
        if named or alike >= _ALIKE:
            differences = expected.differences(event)
            if not named:
                differences.insert(0, f"its name is not {expected.pattern!r}")
            ranked.append((not named, len(differences), -alike, age, event, differences))
    if not ranked:
        return []
    ranked.sort(key=lambda entry: entry[:4])
    lines = ["nearest:"]
    for *_, event, differences in ranked[:_MAX_NEAREST]:
        lines.append(f"  {shown_event(event)}")
        lines.extend(f"      {difference}" for difference in differences)
    return lines


def names(events: Sequence[RecordedEvent]) -> list[str]:
    """Return a block that says which names were emitted, and how often."""
    if not events:
        return []
    counts = Counter(name_of(event) for event in events)
    shown_names = [
        f"{name} (x{number})" if number > 1 else name for name, number in list(counts.items())[:_MAX_NAMES]
    ]
    if len(counts) > _MAX_NAMES:
        shown_names.append(f"and {len(counts) - _MAX_NAMES} other names")
    return ["emitted: " + ", ".join(shown_names)]


def remarks(lines: Sequence[str]) -> list[str]:
    """Return a block of remarks."""
    return [f"note: {line}" for line in lines]


def _likenesses(pattern: str, events: Sequence[RecordedEvent]) -> dict[str, float]:
    wanted = pattern.replace("*", "")[:_MAX_NAME]
    distinct = dict.fromkeys(name_of(event) for event in events[-_MAX_COMPARED_EVENTS:])
    return {
        name: SequenceMatcher(None, wanted, name).ratio() for name in list(distinct)[:_MAX_COMPARED_NAMES]
    }
