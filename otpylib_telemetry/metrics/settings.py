"""Settings that every exporter of metrics has, with one meaning: which labels, which buckets."""

from __future__ import annotations

import itertools
import json
import math
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator

from otpylib_telemetry.config.settings import Number, RefusedError, words
from otpylib_telemetry.metrics.definitions import Definition, definitions_from_tables
from otpylib_telemetry.metrics.options import DefinitionError

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


#: What stands for there being none.
AUTOMATIC: Final = "automatic"


_EXPECTED: Final = '"automatic", or a list of tables that each define a metric'


def definitions_setting(value: object) -> tuple[Definition, ...] | Literal["automatic"]:
    """Return what the value of a key defines.

    Args:
        value: ``"automatic"`` or nothing for no definitions; tables, :class:`Definition` objects, or both;
            JSON, as an environment variable holds it.

    Raises:
        RefusedError: Something does not do; the reason names everything that is wrong.
    """
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RefusedError(f"expected {_EXPECTED}, in JSON") from None
    only = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    if isinstance(only, str) and only.strip() == AUTOMATIC:
        return AUTOMATIC
    if isinstance(value, (Definition, dict)):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise RefusedError(f"expected {_EXPECTED}")
    try:
        return definitions_from_tables(value) or AUTOMATIC
    except DefinitionError as error:
        raise RefusedError(
            f"expected {_EXPECTED}, but {error}",
            f"expected {_EXPECTED}, but something in one of them is wrong",
        ) from None


#: The type of such a key.
MetricDefinitions: TypeAlias = Annotated[
    tuple[Definition, ...] | Literal["automatic"], BeforeValidator(definitions_setting)
]


def definitions_in(setting: tuple[Definition, ...] | str) -> tuple[Definition, ...]:
    """Return the definitions a validated setting holds.

    Args:
        setting: What :func:`definitions_setting` returned.
    """
    return () if isinstance(setting, str) else setting


def are_automatic(setting: tuple[Definition, ...] | str, wanted: bool | None) -> bool:  # noqa: FBT001 - a setting's value
    """Tell whether metrics are made of every event, without a definition.

    Args:
        setting: What :func:`definitions_setting` returned.
        wanted: What ``automatic_metrics`` says; None where it is not set: if there are no definitions.
    """
    return not definitions_in(setting) if wanted is None else wanted
