"""One message for each refused value, unknown key and unknown section."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.messages import in_force_words, origin_words, value_words
from otpylib_telemetry.config.resolution import Problem

if TYPE_CHECKING:
    from otpylib_telemetry.config.layers import Candidate, Refused
    from otpylib_telemetry.config.settings import ExporterSettings


def full_section(section: str) -> str:
    """Return a section's full name: ``telemetry.otel`` for ``otel``."""
    return section if "." in section else f"telemetry.{section}"


def refusal(
    section: str,
    settings: ExporterSettings,
    origins: Mapping[str, str],
    secrets: frozenset[str],
    refused: Refused,
) -> Problem:
    """Describe values that were refused."""
    origin = refused.parts[0][1].origin
    keys = tuple(key for key, _ in refused.parts)
    names = [f"{section}.{key}" for key in keys]
    if len(keys) == 1:
        key, candidate = refused.parts[0]
        secret = candidate.secret or key in settings.secret_keys()
        value = value_words(candidate.value, secret=secret)
        subject = f"{names[0]} ({value}) {origin_words(origin)}"
        if origin == "default":
            subject = f"Unsetting {names[0]}"
        summary = f"{subject} is refused: {refused.reason}."
        kept = in_force_words(getattr(settings, key), origins[key], secret=key in secrets)
    else:
        summary = f"{' and '.join(names)} are refused together: {refused.reason}."
        kept = "What was in force for them before stays in force."
    token = hash(tuple((key, item.origin, item.token()) for key, item in refused.parts))
    return Problem(", ".join(names), f"{summary} {kept}", "rejected", origin, summary, keys, token)


def unknown_key(settings_type: type[ExporterSettings], section: str, candidate: Candidate) -> Problem:
    """Describe a value whose key no setting has."""
    key, origin = candidate.key, candidate.origin
    keys = (key,) if isinstance(key, str) else ()
    name = f"{section}.{key}" if keys else f"{section}.({value_words(key)})"
    nearest = _nearest(key, settings_type.model_fields, section) if keys else "."
    token = hash((name, origin, candidate.token()))
    summary = f"{name} {origin_words(origin)} is not a known key{nearest}"
    return Problem(name, f"{summary} It is ignored.", "unknown", origin, summary, keys, token)


def _nearest(name: str, known: Iterable[str], section: str) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"; did you mean {section}.{near[0]}?" if near else "."


def check_sections(tables: Mapping[str, Any], known: Iterable[str]) -> tuple[Problem, ...]:
    """Find sections below ``telemetry`` that belong to no exporter, or name a ``kind`` there is none of."""
    names = {name.removeprefix("telemetry.") for name in known}
    found = [_section_problem(name, table, names) for name, table in tables.items()]
    return tuple(problem for problem in found if problem is not None)


def misplaced_problem(value: Any) -> Problem:
    """Describe what stands under ``telemetry`` where the table of the exporters' sections was expected."""
    return _ignored(
        "telemetry", f"telemetry ({value_words(value)}) is not the table of the exporters' sections."
    )


def _ignored(key: str, summary: str) -> Problem:
    return Problem(key, f"{summary} It is ignored.", "unknown", "config", summary)


def _section_problem(name: str, table: Any, known: set[str]) -> Problem | None:
    full = f"telemetry.{name}"
    is_table = isinstance(table, Mapping)
    if name in known and not is_table:
        what = f"{full} ({value_words(table)}) is not a section: a table [{full}] was expected."
        return _ignored(full, what)
    kind = table.get("kind") if is_table else None
    if kind is None and name not in known:
        what = f"The section [{full}]" if is_table else f"The key {full}"
        return _ignored(full, f"{what} belongs to no exporter{_nearest(name, known, 'telemetry')}")
    # A list, because what the file has under kind need not be hashable.
    if kind is None or kind in list(known):
        return None
    remains = f"It remains the section of the exporter {name!r}."
    return _kind_problem(full, kind, known, remains if name in known else "The section is ignored.")


def _kind_problem(full: str, kind: object, known: set[str], instead: str) -> Problem:
    there_is = ", ".join(repr(name) for name in sorted(known)) or "none"
    summary = (
        f"{full}.kind ({value_words(kind)}) {origin_words('config')} is no kind of exporter there is: "
        f"expected one of {there_is}."
    )
    return Problem(f"{full}.kind", f"{summary} {instead}", "rejected", "config", summary, ("kind",))
