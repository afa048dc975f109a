"""Definitions of metrics, and events recorded as series."""

from otpylib_telemetry.metrics.definitions import (
    Definition,
    base2,
    counter,
    distribution,
    exponential,
    last_value,
    sum,  # noqa: A004  # the word for it: users write metrics.sum(...)
    summary,
)

__all__ = ["Definition", "base2", "counter", "distribution", "exponential", "last_value", "sum", "summary"]
