"""What a metric about the telemetry itself is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


#: How the names begin of what every exporter has, and of what Prometheus exporters have.
EXPORTER: Final = "otpylib_telemetry_exporter_"
PROMETHEUS: Final = "otpylib_telemetry_prometheus_"

Stats: TypeAlias = "Mapping[str, Any]"

#: A suffix of the family's name, the values of the labels beside ``exporter``, and the number.
Reading: TypeAlias = "tuple[str, tuple[str, ...], float]"


@dataclass(frozen=True, slots=True)
class SelfMetric:
    """One metric about the telemetry itself.

    Attributes:
        name: Its name, as Prometheus shows it: that of a counter with ``_total``.
        type: ``counter``, ``gauge`` or ``summary``.
        documentation: What it says.
        labels: Its labels beside ``exporter``, the registered name of the exporter it is about.
        read: Takes its numbers from what ``get_stats`` answers; a LookupError means there are none.
    """

    name: str
    type: str
    documentation: str
    labels: tuple[str, ...]
    read: Callable[[Stats], Iterable[Reading]]

    @property
    def family(self) -> str:
        """The name of its family, which for a counter is without ``_total``."""
        return self.name.removesuffix("_total") if self.type == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """The names its samples have."""
        return (f"{self.name}_count", f"{self.name}_sum") if self.type == "summary" else (self.name,)
