"""Changes that somebody asks for, as acts on the keys of a section, and what is wrong with them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.acts import Act, Cause
from otpylib_telemetry.config.layers import Given

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.config.resolution import Problem, Resolution


def acts_for(
    changes: Mapping[str, Any], cause: Cause, now: Resolution[Any], monotonic: float
) -> dict[str, Act]:
    """Return what is asked for, key by key; entries of a table are laid over the rest of it."""
    until = None if cause.seconds is None else monotonic + cause.seconds
    wished: dict[str, Any] = {}
    said: dict[str, dict[str, Any]] = {}
    for key, value in changes.items():
        table, dot, entry = key.partition(".")
        if dot and table in type(now.settings).model_fields:
            current = dict(wished.get(table, getattr(now.settings, table)) or {})
            if value is None:
                current.pop(entry, None)
            else:
                current[entry] = value
            if table not in changes:
                said.setdefault(table, {})[entry] = value
            wished[table] = current
        else:
            wished[key] = value
    return {
        key: Act(
            None if value is None else Given(value, cause.words),
            until,
            counted=None if until is None else _what_counts(key, now),
            entries_said=said.get(key),
        )
        for key, value in wished.items()
    }


def _what_counts(key: str, now: Resolution[Any]) -> Given | None:
    """Return what is in force for a key, to count again some time."""
    if key not in now.origins:
        return None
    return Given(getattr(now.settings, key), now.origins[key], secret=key in now.secrets, literal=True)


def refusals(resolution: Resolution[Any], wished: Mapping[str, Act]) -> list[Problem]:
    """Return what is wrong with changes in particular."""
    origins = {act.given.origin for act in wished.values() if act.given is not None} | {"default"}
    return [
        problem
        for problem in resolution.problems
        if problem.origin in origins and not wished.keys().isdisjoint(_keys_of(problem, resolution.section))
    ]


def _keys_of(problem: Problem, section: str) -> set[str]:
    """Return the keys of a section that a problem is about, that of a table where it is about an entry."""
    if problem.keys:
        return set(problem.keys)
    return {problem.key.removeprefix(f"{section}.").split(".")[0].split(",")[0]}
