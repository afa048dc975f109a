"""What a stream is to make of measurements, and what its metric is called at an exit.

Knows nothing of OpenTelemetry's packages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.aggregation.metric_spec import Kind, Scope
    from otpylib_telemetry.metrics.names import Naming


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stream makes of measurements: what a ``MetricSpec`` has, its name not yet spelled.

    Attributes:
        keys: The attributes that are kept; None for all.
        extremes: Whether the least and the greatest measurement of a distribution are told.
        refuses_negative: Whether a measurement below 0 is refused.
        reservoir: What makes the reservoirs of exemplars; None for those that series have of their own.
        multiprocess_mode: How the gauges of several processes become one.
    """

    name: str
    unit: str
    description: str
    kind: Kind
    scope: Scope
    keys: frozenset[str] | None = None
    bounds: tuple[float, ...] = ()
    scale: int = 0
    max_size: int = 0
    max_series: int | None = None
    extremes: bool = True
    refuses_negative: bool = False
    reservoir: Callable[[Any], Callable[..., Any]] | None = field(default=None, hash=False)
    multiprocess_mode: str = "mostrecent"

    @property
    def shape(self) -> tuple[Any, ...]:
        """What its series are made like: those of another shape cannot go on as these."""
        return self.kind, self.keys, self.bounds, self.scale, self.max_size, self.extremes


def identity(plan: Plan, naming: Naming) -> tuple[str, str, str]:
    """Return the name that a stream's metric has in the store, the one it is shown under, and its unit."""
    name, unit = naming.instrument(plan.name, plan.unit, plan.kind)
    if not naming.scopes:
        return name, name, unit
    scope = plan.scope
    parts = [plan.kind.value, f"unit {unit}" if unit else "", f"of {scope.name}"]
    parts += [scope.version, scope.schema_url, *(f"{key}={value!r}" for key, value in scope.attributes)]
    return f"{name} ({', '.join(part for part in parts if part)})", name, unit
