"""On which line of a TOML file a key stands, which tomllib does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any


def path_of(name: str, table: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the keys that lead to what is named with dots, which may be in the keys as well."""
    for key, value in table.items():
        if name == key:
            return (key,)
        if name.startswith(f"{key}.") and isinstance(value, Mapping):
            rest = path_of(name[len(key) + 1 :], value)
            if rest is not None:
                return (key, *rest)
    return None


def line_of(text: str, name: str) -> int | None:
    """Return the number of the line of a valid file on which a key, or a table, is first there."""
    path = path_of(name, tomllib.loads(text))
    if path is None:
        return None
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if path[-1] in line and _has(_beginning(lines, number), path):
            return number
    return None


def _beginning(lines: list[str], number: int) -> dict[str, Any]:
    """Return what the file says up to the end of what begins on a line, or goes on there."""
    for end in range(number, len(lines) + 1):
        try:
            return tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
    return {}


def _has(table: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(table, Mapping) or key not in table:
            return False
        table = table[key]
    return True
