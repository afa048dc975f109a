"""Tables of a file as otpylib-config can give them out, beside the keys in them.

otpylib-config takes every dict apart and knows nothing but the keys at the ends: ``get("telemetry.otel")``
would find nothing. What is no dict it leaves whole.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any


class Table(Mapping[str, Any]):
    """A table as it is in a file, read-only.

    It is compared as a mapping is, but ``!=`` tells it neither from another table nor from None. With that
    otpylib-config looks for changes: it tells subscribers of each key that changed, and is not to tell them
    of every table around it as well.
    """

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self) == dict(other)

    def __ne__(self, other: object) -> bool:
        return not (other is None or isinstance(other, Table)) and not self == other

    __hash__ = None  # type: ignore[assignment]  # a table is compared by what is in it, as a dict is

    def __repr__(self) -> str:
        # A section may hold a secret, and this ends up in a log.
        return f"<table of {', '.join(self) or 'nothing'}>"


class _WithTables(dict[str, Any]):
    """What a file says; whoever walks its items comes by the tables as well."""

    def __init__(self, content: Mapping[str, Any], tables: Mapping[str, Table]) -> None:
        super().__init__(content)
        self._found = tables

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]  # the view of a dict, which has no name
        # A path begins with the name of what is at the top; before what is in the empty one there is nothing.
        return {**self, "": dict(self._found)}.items()


def with_tables(content: Mapping[str, Any], below: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what a file says, in which otpylib-config finds each table by its path.

    ``below`` is what files say over which this one lies, the weakest first: their keys are in the tables too.
    """
    whole: dict[str, Any] = {}
    for layer in (*below, content):
        whole = _merged(whole, layer)
    found: dict[str, Table] = {}
    for key, value in whole.items():
        _read_only(value, key, found)
    return _WithTables(content, found)


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Lay tables over tables as otpylib-config does: a table that is a value is no dict, and replaces one."""
    merged = dict(lower)
    for key, value in upper.items():
        known = merged.get(key)
        both = isinstance(value, dict) and isinstance(known, dict)
        merged[key] = _merged(known, value) if both else value  # type: ignore[arg-type]
    return merged


def _read_only(value: Any, path: str, found: dict[str, Table]) -> Any:
    """Return a value read-only, and put the tables of keys that are in it where they are to be found."""
    if isinstance(value, list):
        return [dict(item) if isinstance(item, dict) else item for item in value]
    if not isinstance(value, dict):
        return value
    inside = {key: _read_only(item, f"{path}.{key}", found) for key, item in value.items()}
    found[path] = Table(inside)
    return MappingProxyType(inside)
