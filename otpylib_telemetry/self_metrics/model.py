"""What a metric about the telemetry itself is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.metrics.names import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


#: How the names begin of what every exporter has, and of what Prometheus exporters have.
EXPORTER: Final = "otpylib_telemetry_exporter_"
PROMETHEUS: Final = "otpylib_telemetry_prometheus_"

#: How names begin over OTLP, where parts that belong together are parted by dots.
_OVER_OTLP: Final = {prefix: prefix.replace("_", ".") for prefix in (EXPORTER, PROMETHEUS)}

#: Parts at the end of a name that tell a unit, with how OpenTelemetry writes it.
_UNITS: Final = {"_seconds": "s", "_bytes": "By"}

Stats: TypeAlias = "Mapping[str, Any]"

#: A suffix of the family's name, the values of the labels beside ``exporter``, and the number.
Reading: TypeAlias = "tuple[str, tuple[str, ...], float]"


class SelfMetric(NamedTuple):
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

    @property
    def instrument(self) -> tuple[str, str]:
        """Its name and unit over OTLP: a collector makes the name at Prometheus of them again."""
        name, unit = self.family, ""
        for prefix, dotted in _OVER_OTLP.items():
            name = dotted + name.removeprefix(prefix) if name.startswith(prefix) else name
        for suffix, unit_of_it in _UNITS.items():
            if name.endswith(suffix):
                name, unit = name.removesuffix(suffix), unit_of_it
        return name, unit

    def readings(self, stats: Stats) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return what one exporter's answer says: the numbers by suffix and values of the labels."""
        try:
            read = [*self.read(stats)]
        except Exception:  # noqa: BLE001  # an exporter of somebody else's may answer what it likes
            return {}
        found: dict[tuple[str, tuple[str, ...]], float] = {}
        for part, values, number in read:
            if isinstance(number, (int, float)) and math.isfinite(number):
                # Whoever gets a series twice refuses all of them.
                found.setdefault((part, tuple(map(readable, values))), number)
        return found


def by_name(answers: Iterable[Stats]) -> dict[str, Stats]:
    """Return the answers of exporters to ``get_stats`` by the names of these."""
    return {readable(str(answer.get("name", ""))): answer for answer in answers}
