"""MetricProducer: what the author of a producer writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.metrics.export import MetricsData


@runtime_checkable
class MetricProducer(Protocol):
    """A source of metrics (OpenTelemetry, "Metrics SDK", "MetricProducer")."""

    def produce(self, timeout_millis: float) -> MetricsData:
        """Return what there is now.

        Called on a thread, never twice at the same time.

        Args:
            timeout_millis: After how long nobody waits for it any more.
        """


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of user code.

    Attributes:
        name: The metric's name.
        value: Its value now; of a counter the sum so far.
        attributes: Its attributes.
        unit: Its unit.
        description: What it says.
        kind: What it is: a ``counter`` only rises.
    """

    name: str
    value: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    description: str = ""
    kind: Literal["gauge", "counter", "up_down_counter"] = "gauge"
