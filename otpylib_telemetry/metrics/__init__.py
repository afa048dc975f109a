"""Definitions of metrics, and events recorded as series."""

from otpylib_telemetry.metrics.buckets import Base2, base2, exponential
from otpylib_telemetry.metrics.definition import Definition, refuse_clashes
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry.metrics.definitions import (
    counter,
    distribution,
    last_value,
    sum,  # noqa: A004  # the word for it: users write metrics.sum(...)
    summary,
)
from otpylib_telemetry.metrics.options import DefinitionError

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
