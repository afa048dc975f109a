"""Definitions of metrics written as tables, as they stand in a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from otpylib_telemetry.config.messages import value_words
from otpylib_telemetry.metrics.definition import TYPES, Definition, refuse_clashes
from otpylib_telemetry.metrics.options import DefinitionError


def definitions_from_tables(tables: object, where: str = "") -> tuple[Definition, ...]:
    """Return what a list of tables defines; there may be ready definitions among them.

    A table has ``type`` (``counter``, ``sum``, ``last_value``, ``summary``, ``distribution``), ``name`` and
    the options of that type.

    Args:
        tables: The list.
        where: What messages begin with.

    Raises:
        DefinitionError: Something does not do; the message names everything that is wrong in any of them.
    """
    prefix = f"{where}: " if where else ""
    if isinstance(tables, (Mapping, Definition)):
        tables = [tables]
    if not isinstance(tables, (list, tuple)):
        raise DefinitionError(f"{prefix}expected a list of tables, got {value_words(tables)}")
    problems: list[str] = []
    found: list[Definition] = []
    for number, table in enumerate(tables, start=1):
        if isinstance(table, Definition):
            found.append(table)
            continue
        try:
            found.append(_from_table(table))
        except DefinitionError as error:
            which = about(table)
            problems += [f"{prefix}item {number}{which}: {problem}" for problem in error.problems]
    if not problems:
        try:
            refuse_clashes(found)
        except DefinitionError as error:
            problems += [f"{prefix}{problem}" for problem in error.problems]
    if problems:
        raise DefinitionError(*problems)
    return tuple(found)


def about(table: object) -> str:
    """Return what tells a table from the others, for a message."""
    if not isinstance(table, Mapping):
        return ""
    kind, name = type_of(table), table.get("name")
    kind = kind if isinstance(kind, str) and kind in TYPES else ""
    name = repr(name[:60]) if isinstance(name, str) else ""
    return f" ({' '.join(part for part in (kind, name) if part)})" if kind or name else ""


def type_of(table: Mapping[Any, Any]) -> object:
    """Return the type that a table says, in lower case."""
    kind = table.get("type")
    return kind.strip().lower() if isinstance(kind, str) else kind


def _from_table(table: object) -> Definition:
    if not isinstance(table, Mapping):
        raise DefinitionError(f"expected a table with type and name, got {value_words(table)}")
    kind = type_of(table)
    if not isinstance(kind, str) or kind not in TYPES:
        got = "is missing" if "type" not in table else f"is {value_words(table['type'])}"
        near = difflib.get_close_matches(kind, TYPES, n=1) if isinstance(kind, str) else []
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DefinitionError(f"type {got}, expected one of {', '.join(TYPES)}{hint}")
    return TYPES[kind].of(table)
