"""What a registry of prometheus_client is made of: collectors, each of which can be asked by itself.

A collector is other people's code and may raise. Asked through their registry, one that does takes all others
along; therefore nobody here asks a registry if its collectors can be had.

Needs nothing of prometheus_client.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib_telemetry.metrics.names import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Labelled(NamedTuple):
    """One collector: anything with a method ``collect()``, and what a person knows it by."""

    collector: Any
    label: str


class _TargetInfo:
    """The family ``target_info``, with the fields that prometheus_client's families and samples have."""

    def __init__(self, labels: dict[str, str]) -> None:
        sample = SimpleNamespace(name="target_info", labels=labels, value=1.0, timestamp=None, exemplar=None)
        self._family = SimpleNamespace(
            name="target", documentation="Target metadata", type="info", unit="", samples=(sample,)
        )

    def collect(self) -> Iterable[Any]:
        return [self._family]


def collectors_of(registry: Any) -> list[Labelled]:
    """Return the collectors of a registry, that of its target information first if it has any."""
    try:
        known = dict(registry._collector_to_names)  # noqa: SLF001 - there is no other way to have them apart
        info = registry.get_target_info()
    except Exception:  # noqa: BLE001 - another kind of registry
        return [Labelled(registry, type(registry).__name__)]
    found = [Labelled(one, _label(one, names)) for one, names in known.items()]
    return [Labelled(_TargetInfo(info), "target_info"), *found] if info else found


def _label(collector: Any, names: Sequence[str]) -> str:
    kind = type(collector).__name__
    return f"{kind} ({readable(str(names[0]))})" if names else kind
