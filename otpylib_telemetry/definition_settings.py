"""Definitions of metrics as a setting: what a configuration key may hold for them."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BeforeValidator

from otpylib_telemetry.definitions import Definition, DefinitionError, definitions_from_tables
from otpylib_telemetry.settings import RefusedError

__all__ = ["AUTOMATIC", "MetricDefinitions", "are_automatic", "definitions_in", "definitions_setting"]

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
