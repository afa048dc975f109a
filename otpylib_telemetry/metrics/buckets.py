"""The buckets of a distribution: bounds, bounds that are computed, and those that need none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from otpylib_telemetry.aggregation.exponential import MAX_SCALE, MIN_SCALE
from otpylib_telemetry.config.field_types import Number, WholeNumber
from otpylib_telemetry.config.messages import value_words
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.metrics.options import Checked, DefinitionError
from otpylib_telemetry.metrics.units import Conversion

if TYPE_CHECKING:
    from pydantic import ValidationInfo

    from otpylib_telemetry.metrics.units import Unit


#: Upper bounds in seconds, from 5 ms to 10 s: Prometheus' customary ones, finer around the usual second.
DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_MAX_BOUNDS: Final = 200
_MAX_SIZE: Final = 10_000
_BOUNDS: Final = f"from 1 to {_MAX_BOUNDS} ascending finite bounds"
_BUCKETS: Final = (
    f'{_BOUNDS}, exponential(start, factor, count), base2(...) or "exponential"; in a table, '
    "{ start, factor, count } or { max_size, max_scale }"
)


class Base2(Checked):
    """Exponential buckets as OpenTelemetry's data model has them, as fine as their number allows.

    Attributes:
        max_size: How many buckets a series may have for either sign.
        max_scale: The resolution it begins with.
    """

    max_size: WholeNumber = Field(160, ge=2, le=_MAX_SIZE)
    max_scale: WholeNumber = Field(MAX_SCALE, ge=MIN_SCALE, le=MAX_SCALE)


class _Powers(Checked):
    """Bounds that are computed: the first, how many times each is the one before, and how many there are."""

    start: Number = Field(gt=0)
    factor: Number = Field(gt=1)
    count: WholeNumber = Field(ge=1, le=_MAX_BOUNDS)


def base2(max_size: int = 160, max_scale: int = MAX_SCALE) -> Base2:
    """Return buckets of a distribution that need no bounds: they follow what is observed.

    Args:
        max_size: How many buckets a series may have for either sign; where more would be needed, the
            resolution is halved.
        max_scale: The resolution it begins with: ``2 ** (2 ** -scale)`` from one bound to the next.

    Raises:
        DefinitionError: One of them is out of range.
    """
    return Base2.of({"max_size": max_size, "max_scale": max_scale})


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Return bounds of buckets, each so many times the one before.

    Args:
        start: The first.
        factor: How many times.
        count: How many bounds.

    Raises:
        DefinitionError: No bounds can be made of these.
    """
    wanted = _Powers.of({"start": start, "factor": factor, "count": count})
    try:
        return _bounds([wanted.start * wanted.factor**power for power in range(wanted.count)])
    except (OverflowError, RefusedError):
        raise DefinitionError(
            f"exponential({start}, {factor}, {count}) makes bounds that no float can tell apart or hold"
        ) from None


def buckets_option(value: object, info: ValidationInfo) -> tuple[float, ...] | Base2:
    """Return the buckets of a distribution; what is exported in a unit of time has some by default."""
    if value is None:
        unit: Unit = info.data.get("unit", Conversion()).target
        if unit.dimension != "time":
            raise RefusedError("expected bounds; only what is exported in a unit of time has some by default")
        per_second = Fraction(10**9) / unit.factor
        return tuple(float(Fraction(str(bound)) * per_second) for bound in DURATION_BOUNDS)
    if isinstance(value, Base2):
        return value
    if isinstance(value, str) and value.strip().lower() == "exponential":
        return base2()
    try:
        if isinstance(value, Mapping) and set(value) == {"start", "factor", "count"}:
            return exponential(**value)
        if isinstance(value, Mapping) and value and set(value) <= {"max_size", "max_scale"}:
            return Base2.of(value)
    except DefinitionError as error:
        raise RefusedError(f"expected {_BUCKETS}, but {error}") from None
    if not isinstance(value, (list, tuple)):
        raise RefusedError(f"expected {_BUCKETS}")
    return _bounds(list(value))


def _bounds(items: list[Any]) -> tuple[float, ...]:
    """Return upper bounds of buckets; a last one of +Inf is implied and goes."""
    if len(items) > 1 and type(items[-1]) is float and items[-1] == math.inf:
        items.pop()
    if not 1 <= len(items) <= _MAX_BOUNDS:
        raise RefusedError(f"expected {_BUCKETS}")
    for number, item in enumerate(items, start=1):
        if not _is_number(item):
            raise RefusedError(f"expected {_BOUNDS}, but number {number} is {value_words(item)}")
    bounds = tuple(float(item) for item in items)
    for number, (lower, upper) in enumerate(itertools.pairwise(bounds), start=2):
        if not lower < upper:
            raise RefusedError(f"expected {_BOUNDS}, but number {number} is not above the one before it")
    return bounds


def _is_number(value: Any) -> bool:
    if type(value) is not int and type(value) is not float:
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
