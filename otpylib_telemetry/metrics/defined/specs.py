"""Definitions as what their metrics are declared with."""

from __future__ import annotations

from typing import Any, Final

from otpylib_telemetry.aggregation.exponential import scale_for
from otpylib_telemetry.aggregation.metric_spec import MetricSpec, SummaryShape
from otpylib_telemetry.metrics.buckets import Base2
from otpylib_telemetry.metrics.definition import Definition, Distribution, LastValue, Sum, Summary
from otpylib_telemetry.metrics.names import Naming, readable

#: Who declares these metrics in the store.
OWNER: Final = "definitions"

#: Slices of a summary's window.
_SLICES: Final = 5

#: Doublings between the least and the greatest number of one sign for which a summary keeps its promise:
#: from a microsecond to twelve days, from a byte to a terabyte.
_KEPT_DOUBLINGS: Final = 40
_LEAST_SIZE: Final = 160


def spec_of(definition: Definition, naming: Naming) -> MetricSpec:
    """Return what the metric of a definition is to be at one exit."""
    name, unit = definition.exported(naming)
    return MetricSpec(
        kind=definition.kind,
        name=name,
        description=definition.description or _description(definition),
        unit=unit,
        claims=naming.claims(definition.kind, name),
        owner=OWNER,
        max_series=definition.max_series,
        **_particulars(definition),
    )


def _particulars(definition: Definition) -> dict[str, Any]:
    """Return what a metric has that not every kind has."""
    match definition:
        case LastValue():
            return {"multiprocess_mode": definition.multiprocess_mode}
        case Summary():
            return {"shape": _shape(definition)}
        case Distribution(buckets=Base2() as base2):
            return {"scale": base2.max_scale, "max_size": base2.max_size}
        case Distribution():
            return {"bounds": definition.buckets}
        case _:
            return {}


def _shape(definition: Summary) -> SummaryShape:
    scale = scale_for(definition.error)
    # One more, because the least may be the upper bound of its bucket.
    size = max(_LEAST_SIZE, (_KEPT_DOUBLINGS << scale) + 1)
    return SummaryShape(definition.quantiles, scale, size, int(definition.window * 1e9 / _SLICES), _SLICES)


def _description(definition: Definition) -> str:
    """Return what is said of a metric nobody has described."""
    events = f"the events {readable(', '.join(definition.events))}"
    measurement = definition.measurement
    what = f'"{readable(measurement)}"' if isinstance(measurement, str) else "what is measured"
    match definition:
        case Sum():
            return f"Sum of {what} of {events}."
        case LastValue():
            return f"Last {what} of {events}."
        case Summary():
            return f"Quantiles of {what} of {events}, over the last {definition.window:g} seconds."
        case Distribution():
            return f"Distribution of {what} of {events}."
        case _:
            return f"Number of {events}."
