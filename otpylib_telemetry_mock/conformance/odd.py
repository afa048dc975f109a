"""Events that no sane program emits, and that emitters emit all the same."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, TypeAlias

EventData: TypeAlias = "tuple[str, dict[str, Any], dict[str, Any]]"


class _Unprintable:
    """Raises when it is shown."""

    def __str__(self) -> str:
        raise RuntimeError("this object cannot be shown")

    __repr__ = __str__


def _deep() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(5_000):
        nested = {"in": nested}
    return nested


def _endless() -> dict[str, Any]:
    nested: dict[str, Any] = {}
    nested["in"] = nested
    return nested


def odd_events(prefix: str) -> list[EventData]:
    """Return events whose names begin with a prefix, each odd in one way."""
    measurements: list[Any] = [
        *(math.nan, math.inf, -math.inf, 10**400, 10**5_000, -1, 0, True, None),
        *("five", b"5", "", Decimal("NaN"), 1j, [1], {"a": 1}, object(), _Unprintable()),
    ]
    metadata: list[Any] = [
        *(None, b"\xff", "\ud800", "\0", "x" * 100_000, math.nan, {1, 2}, object(), _Unprintable()),
        *(_deep(), _endless(), {(1, 2): 3}, ValueError("no"), int, lambda: 1, 10**5_000),
    ]
    names = ["", ".", "..start", ".stop", " ", "\n", "\ud800", "ä.ö", "{}", "%s", '"', "x" * 500]
    return [
        *((f"{prefix}.measured", {key: one}, {}) for one in measurements for key in ("count", "value")),
        *((f"{prefix}.took.stop", {"duration_ms": one}, {}) for one in measurements),
        *((f"{prefix}.described", {"count": 1}, {"what": one}) for one in metadata),
        *((f"{prefix}.failed.error", {}, {"error": one, "trace_id": one}) for one in metadata),
        *((f"{prefix}{name}", {"count": 1}, {"n": 1}) for name in names),
        (f"{prefix}.named", {"": 1, "ä b": 2, "x" * 500: 3}, {"": 1, "ä b": 2, "x" * 500: 3}),
        (f"{prefix}.many", {f"m{n}": n for n in range(500)}, {f"k{n}": n for n in range(500)}),
        (f"{prefix}.empty", {}, {}),
    ]
