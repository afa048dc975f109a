"""The ids in metadata, as they are compared."""

from __future__ import annotations

from typing import Final
from uuid import UUID

#: The types that are ids as they are, unless they are empty.
PLAIN: Final = frozenset({str, int})


def identifier(value: object) -> str | int | None:
    """Return an id as plain ``str`` (never empty) or ``int``, or None if it is neither.

    A UUID becomes its text, so that its object and its text mean the same. Subclasses become the plain type,
    because theirs may compare in ways of their own. ``bool`` is no id.
    """
    kind = type(value)
    if kind is str or kind is int:
        return value if value != "" else None  # type: ignore[return-value]  # `kind` says what it is
    if value is None or kind is bool:
        return None
    # The type is asked, not the value: a value may lie about its class, or raise when asked.
    if issubclass(kind, str):
        return str.__str__(value) or None
    if issubclass(kind, int):
        return int.__int__(value)  # type: ignore[arg-type]  # so does `kind`
    return str(value) if kind is UUID else None
