"""The sections below ``telemetry``: which exporter reads each, and which are read by none."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config import toml_source
from otpylib_telemetry.config.environment import KIND, is_name, kind_variables, section_prefix
from otpylib_telemetry.config.problems import check_kind_variables, check_sections, misplaced_problem

if TYPE_CHECKING:
    from otpylib_telemetry.config.resolution import Problem, Resolution

_log = logging.getLogger("otpylib_telemetry")

#: The entry point group under which exporters register: section name -> GenServer class.
EXPORTERS = "otpylib_telemetry_exporters"

#: Sections of exporters that exist in this process, registered or not.
declared: set[str] = set()

# What was said about sections, and is still so.
_told: set[tuple[str, str]] = set()


def registered_exporters() -> dict[str, Any]:
    """Return the exporters installed here: section name, which is its kind as well, to entry point."""
    return {entry.name: entry for entry in entry_points(group=EXPORTERS)}


@functools.cache
def _installed() -> frozenset[str]:
    return frozenset(registered_exporters())


def kind_named(text: str) -> str:
    """Return the kind of exporter a text names, in whatever case; the text itself where there is none."""
    text = text.strip()
    return next((kind for kind in _installed() if kind.lower() == text.lower()), text)


def written() -> dict[str, Any]:
    """Return what the TOML files in use have below ``telemetry``, by section."""
    tables: dict[str, Any] = {}
    for source in toml_source.known_sources():
        for name, table in source.telemetry_tables().items():
            known = tables.get(name)
            if isinstance(known, dict) and isinstance(table, dict):
                table = {**known, **table}  # noqa: PLW2901  # what both files say of it
            tables[name] = table
    return tables


def kinds_in_tables(tables: Mapping[str, Any]) -> dict[str, str]:
    """Return the sections that say whose instance they are, with the kind each names."""
    return {
        name: kind_named(table[KIND])
        for name, table in tables.items()
        if is_name(name) and isinstance(table, Mapping) and isinstance(table.get(KIND), str)
    }


def kinds_in_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the instances that ``TELEMETRY_<NAME>_KIND`` variables ask for, with the kind of each."""
    return {name: kind_named(kind) for name, kind in kind_variables(environ).values() if is_name(name)}


def is_meant(resolution: Resolution[Any]) -> bool:
    """Tell whether anything is set for this section, and not for all of them."""
    prefix = section_prefix(resolution.section)
    for key, origin in resolution.origins.items():
        for_all = origin == f"environment TELEMETRY_{key.upper()}"
        own = origin == f"environment {prefix}{key.upper()}"
        if origin != "default" and (own or not for_all):
            return True
    return False


def problems(known: Iterable[str] = ()) -> list[Problem]:
    """Return what is wrong with sections as a whole: nobody reads them, or they are of no kind there is."""
    misplaced = [value for source in toml_source.known_sources() if (value := source.misplaced()) is not None]
    asked_for = {
        variable: (name, kind_named(kind)) for variable, (name, kind) in kind_variables(os.environ).items()
    }
    return [
        *check_sections(_kinds_named(written()), {*known, *_installed(), *declared}, _installed()),
        *check_kind_variables(asked_for, _installed()),
        *(misplaced_problem(value) for value in misplaced),
    ]


def report(known: Iterable[str] = ()) -> None:
    """Log which sections nobody reads: once each, and again if they went and came back."""
    now = {(problem.key, problem.message): problem for problem in problems(known)}
    for identity, problem in now.items():
        if identity not in _told:
            _log.warning("%s", problem.message)
    _told.clear()
    _told.update(now)


def _kinds_named(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**table, KIND: kind_named(table[KIND])}
        if isinstance(table, dict) and isinstance(table.get(KIND), str)
        else table
        for name, table in tables.items()
    }


def forget() -> None:
    """Forget what was said, and the files; for tests, which start from nothing."""
    _told.clear()
    toml_source.forget()
