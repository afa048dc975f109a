"""Settings that every exporter of metrics has, with one meaning: which labels, which buckets."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from otpylib_telemetry.settings import Number, RefusedError, words

__all__ = ["BucketBounds", "LabelChoice"]

_MAX_BUCKETS: Final = 200
_ALL_LABELS: Final = frozenset({"all", "*", "all scalars"})


def _label_choice(value: object) -> object:
    only = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    return None if isinstance(only, str) and only.strip() in _ALL_LABELS else words(value)


def _labels_name_something(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and not value:
        raise RefusedError("expected at least one name, or 'all'")
    return value


def _without_infinity(value: object) -> object:
    """Take a last bound of +Inf, as other libraries want it, for what it is: implied."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (list, tuple)) and len(value) > 1:
        last = value[-1]
        if isinstance(last, str) and last.strip().lower() in {"inf", "+inf"}:
            return list(value[:-1])
        if isinstance(last, float) and last == math.inf:
            return list(value[:-1])
    return value


def _buckets_ascend(value: tuple[float, ...]) -> tuple[float, ...]:
    if not 1 <= len(value) <= _MAX_BUCKETS:
        raise RefusedError(f"expected from 1 to {_MAX_BUCKETS} bounds")
    if value[0] <= 0:
        raise RefusedError("expected bounds above 0, in seconds")
    for number, (lower, upper) in enumerate(itertools.pairwise(value), start=2):
        if not lower < upper:
            raise RefusedError(
                f"expected ascending bounds, but bound {number} is not above the one before it"
            )
    return value


#: Names of metadata; None for all of them.
LabelChoice: TypeAlias = Annotated[
    tuple[str, ...] | None, AfterValidator(_labels_name_something), BeforeValidator(_label_choice)
]

#: Upper bounds of buckets in seconds, ascending.
BucketBounds: TypeAlias = Annotated[
    tuple[Number, ...], AfterValidator(_buckets_ascend), BeforeValidator(_without_infinity)
]
