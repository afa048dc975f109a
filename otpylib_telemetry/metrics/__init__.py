"""Definitions of metrics, and events recorded as series."""

from otpylib_telemetry.metrics.definitions import (
    Definition,
    base2,
    counter,
    definitions_from_tables,
    distribution,
    exponential,
    last_value,
    refuse_clashes,
    sum,  # noqa: A004  # the word for it: users write metrics.sum(...)
    summary,
)
from otpylib_telemetry.metrics.options import Base2, DefinitionError

__all__ = [
    "Base2",
    "Definition",
    "DefinitionError",
    "base2",
    "counter",
    "definitions_from_tables",
    "distribution",
    "exponential",
    "last_value",
    "refuse_clashes",
    "sum",
    "summary",
]
