"""Anything as plain data that JSON has, bounded, with secrets replaced."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final

from otpylib_telemetry.config.redaction import without_secrets
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.any_value import Bounds, any_value, text
from otpylib_telemetry.scrubbing.events import scrubbed_value, strictest
from otpylib_telemetry.scrubbing.plan import DEFAULT_PLAN
from otpylib_telemetry.scrubbing.scrubber import Scrubber
from otpylib_telemetry.scrubbing.settings import ScrubSettings
from otpylib_telemetry.services import server as services

#: How much of one event is shown, and of the statistics of an exporter.
_LONGEST: Final = 500
EVENT: Final = Bounds(depth=6, width=100, elements=200, length=_LONGEST)
_UNCUT: Final = EVENT._replace(length=2 * _LONGEST)
STATISTICS: Final = Bounds(depth=12, width=2_000, elements=20_000, length=4_000)

#: What ends the name of an event of an operation, and belongs to no secret before it.
_ENDINGS: Final = frozenset({"start", "success", "stop", "error", "exception", "failed"})

#: What scrubs, by the rules of now; its counts are of all rules there ever were.
_in_force: Final = [Scrubber(DEFAULT_PLAN, Counter())]


def plain(value: object, bounds: Bounds = STATISTICS) -> Any:
    """Return any object as JSON has it; what is no number there, such as infinity, is a text."""
    return _as_json(any_value(value, bounds))


def plain_dict(value: object, bounds: Bounds = STATISTICS) -> dict[str, Any]:
    """The same of a mapping; anything else is an empty one."""
    found = plain(value, bounds)
    return found if isinstance(found, dict) else {}


def shown(value: object) -> Any:
    """Return what an application put into an event, without secrets.

    Those are what is called or looks like one, by default or by the rules of any exporter, and what the
    settings of any exporter or service mark as one.
    """
    # Cut once more afterwards: of a secret that is cut in two, the half that is left looks like none.
    found = scrubbed_value(plain(value, _UNCUT), _scrubber())
    return _scrubbed(_as_json(without_secrets(plain(found, EVENT))))


def shown_text(written: str) -> str:
    """Return a name that an application has given without secrets, by the same rules."""
    return scrubbed(_scrubber().text(written))


def shown_event(name: str) -> str:
    """The same of the name of an event: how it ends is no part of a secret."""
    stem, _, last = name.rpartition(".")
    return f"{shown_text(stem)}.{last}" if last in _ENDINGS else shown_text(name)


def shown_names(value: Any) -> Any:
    """Return plain data whose keys may be such names, with every text in it without secrets."""
    match value:
        case str():
            return shown_text(value)
        case dict():
            return {shown_text(key): shown_names(item) for key, item in value.items()}
        case list():
            return [shown_names(item) for item in value]
        case _:
            return value


def found_secrets() -> dict[str, int]:
    """Return how often each rule has found something in what was shown."""
    return dict(_in_force[0].counts)


def _scrubber() -> Scrubber:
    """Return what takes out whatever any exporter does, also one that takes nothing out itself."""
    told = (registry.settings_of(name) for name in registry.names())
    plan = strictest(each.scrub_plan() for each in told if isinstance(each, ScrubSettings))
    known = _in_force[0]
    if known.plan != plan:
        known = _in_force[0] = Scrubber(plan, known.counts)
    return known


def scrubbed(written: str) -> str:
    """Return a text without what the settings of any exporter or service mark as secret."""
    for name in registry.names():
        written = registry.scrub(name, written)
    return services.scrub(written)


def _scrubbed(value: Any) -> Any:
    # Before it is written as JSON, which writes a quotation mark in a secret in another way.
    match value:
        case str():
            return scrubbed(value)
        case dict():
            return {scrubbed(key): _scrubbed(item) for key, item in value.items()}
        case list():
            return [_scrubbed(item) for item in value]
        case _:
            return value


def dumps(value: object) -> str:
    """Write plain data."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _as_json(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return {key: _as_json(item) for key, item in value.items()}
        case list() | tuple():
            return [_as_json(item) for item in value]
        case bytes():
            return text(value)
        case _:
            return value
