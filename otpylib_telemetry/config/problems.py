"""One message for each refused value, unknown key and unknown section."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.environment import KIND, PAIR, is_name
from otpylib_telemetry.config.messages import in_force_words, origin_words, sentence, value_words
from otpylib_telemetry.config.resolution import Problem

if TYPE_CHECKING:
    from otpylib_telemetry.config.layers import Candidate, Refused
    from otpylib_telemetry.config.settings import SectionSettings


_LONGEST_NAME = 60
_NAME_OF_ENTRY = re.compile(rf"[A-Za-z0-9_.-]{{1,{_LONGEST_NAME}}}")


def full_section(section: str) -> str:
    """Return a section's full name: ``telemetry.otel`` for ``otel``."""
    return section if "." in section else f"telemetry.{section}"


def refusal(
    section: str,
    settings: SectionSettings,
    origins: Mapping[str, str],
    secrets: frozenset[str],
    refused: Refused,
) -> Problem:
    """Describe values that were refused."""
    if refused.entry is not None:
        return _entry_problem(section, settings, refused)
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
        summary = sentence(f"{subject} is refused: {refused.reason}")
        kept = in_force_words(getattr(settings, key), origins[key], secret=key in secrets)
    else:
        summary = sentence(f"{' and '.join(names)} are refused together: {refused.reason}")
        kept = "What was in force for them before stays in force."
    exposed = settings.exposed(frozenset(keys))
    kept = " ".join(exposed.values()) or kept
    token = hash(tuple((key, item.origin, item.token()) for key, item in refused.parts))
    return Problem(
        ", ".join(names), f"{summary} {kept}", "rejected", origin, summary, keys, token, frozenset(exposed)
    )


def _entry_problem(section: str, settings: SectionSettings, refused: Refused) -> Problem:
    """Describe an entry of a table that was refused by itself."""
    key, candidate = refused.parts[0]
    secret = candidate.secret or key in settings.secret_keys()
    entry = refused.entry if isinstance(refused.entry, str) else f"({value_words(refused.entry)})"
    if entry.startswith(PAIR):
        name = known = f"{section}.{key}, {entry}"
    elif _NAME_OF_ENTRY.fullmatch(entry) if secret else len(entry) <= _LONGEST_NAME:
        name = known = f"{section}.{key}.{entry}"
    else:
        # Where a pair was not written as one, its name may be the secret.
        name, known = f"An entry of {section}.{key}", f"{section}.{key}"
    value = value_words(candidate.value, secret=secret)
    summary = sentence(f"{name} ({value}) {origin_words(candidate.origin)} is refused: {refused.reason}")
    stays = isinstance(table := getattr(settings, key), Mapping) and entry in table
    kept = "Its value before stays in force." if stays else "It is left out; the other entries count."
    token = hash((key, candidate.origin, entry, candidate.token()))
    return Problem(known, f"{summary} {kept}", "rejected", candidate.origin, summary, token=token)


def unknown_key(settings: SectionSettings, section: str, candidate: Candidate) -> Problem:
    """Describe a value whose key no setting has; it may have been set to protect something."""
    key, origin = candidate.key, candidate.origin
    keys = (key,) if isinstance(key, str) else ()
    name = f"{section}.{key}" if keys else f"{section}.({value_words(key)})"
    meant = settings.meant_protection(key) if keys and candidate.value is not False else None
    exposed = {} if meant is None else settings.exposed(frozenset({meant}))
    known = type(settings).model_fields if meant is None else {meant}
    nearest = _nearest(key, known, section, cutoff=0.6 if meant is None else 0.0) if keys else "."
    token = hash((name, origin, candidate.token()))
    summary = f"{name} {origin_words(origin)} is not a known key{nearest}"
    then = " ".join(exposed.values()) or "It is ignored."
    return Problem(name, f"{summary} {then}", "unknown", origin, summary, keys, token, frozenset(exposed))


def _nearest(name: str, known: Iterable[str], section: str, cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=cutoff)
    return f"; did you mean {section}.{near[0]}?" if near else "."


def check_sections(
    tables: Mapping[str, Any], known: Iterable[str], kinds: Iterable[str] = ()
) -> tuple[Problem, ...]:
    """Find sections below ``telemetry`` that no exporter reads, and wrong kinds.

    ``known`` are the sections some exporter reads, ``kinds`` the exporters there are, each of which has a
    section of its own name.
    """
    names = {name.removeprefix("telemetry.") for name in known}
    found = [_section_problem(name, table, names, sorted(kinds)) for name, table in tables.items()]
    return tuple(problem for problem in found if problem is not None)


def check_kind_variables(
    variables: Mapping[str, tuple[str, str]], kinds: Iterable[str]
) -> tuple[Problem, ...]:
    """Find wrong variables among those that ask for an instance; by variable its name and its kind."""
    found = []
    for variable, (name, kind) in variables.items():
        if not is_name(name):
            found.append(
                _ignored(variable, f"{variable} asks for an exporter called {name!r}, but {_NAMES}.")
            )
        elif kind not in (known := sorted(kinds)):
            summary = f"{variable} ({value_words(kind)}) {_no_kind(known)}."
            found.append(_ignored(variable, summary))
    return tuple(found)


def misplaced_problem(value: Any) -> Problem:
    """Describe what stands under ``telemetry`` where the table of the exporters' sections was expected."""
    return _ignored(
        "telemetry", f"telemetry ({value_words(value)}) is not the table of the exporters' sections."
    )


def _ignored(key: str, summary: str) -> Problem:
    return Problem(key, f"{summary} It is ignored.", "unknown", "config", summary)


#: What exporters may be called, as the end of a sentence.
_NAMES = "a name is made of letters, digits, - and _, and begins with a letter"


def _section_problem(name: str, table: Any, known: set[str], kinds: list[str]) -> Problem | None:
    full = f"telemetry.{name}" if is_name(name) else f"telemetry.{name!r}"
    is_table = isinstance(table, Mapping)
    if name in known and not is_table:
        what = f"{full} ({value_words(table)}) is not a section: a table [{full}] was expected."
        return _ignored(full, what)
    kind = table.get(KIND) if is_table else None
    if kind is None and name not in known:
        what = f"The section [{full}]" if is_table else f"The key {full}"
        return _ignored(full, f"{what} belongs to no exporter{_nearest(name, known, 'telemetry')}")
    if kind is None or (name in kinds and kind == name):
        return None
    instead = "The section is ignored."
    if name in known:
        instead = f"It remains the section of the exporter {name!r}."
    there_is = [name] if name in kinds else sorted({*kinds, *known})
    # A list, because what the file has under kind need not be hashable.
    if kind not in there_is:
        return _kind_problem(full, kind, there_is, instead)
    return None if is_name(name) else _ignored(full, f"The section [{full}] cannot be an exporter: {_NAMES}.")


def _kind_problem(full: str, kind: object, known: list[str], instead: str) -> Problem:
    summary = f"{full}.kind ({value_words(kind)}) {origin_words('config')} {_no_kind(known)}."
    return Problem(f"{full}.kind", f"{summary} {instead}", "rejected", "config", summary, ("kind",))


def _no_kind(known: list[str]) -> str:
    there_is = ", ".join(repr(name) for name in known) or "none"
    return f"is no kind of exporter there is: expected one of {there_is}"
