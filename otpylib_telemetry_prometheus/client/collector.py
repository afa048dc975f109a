"""Our series inside a registry of prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.exporter_stores import store_of
from otpylib_telemetry.exporter import registry as exporters
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry_prometheus.exposition.store_families import families_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from otpylib_telemetry_prometheus.exposition.families import Exemplar


#: Seconds a reader on another thread waits for the events emitted so far to be collected.
_CATCH_UP: Final = 0.5


class RegistryCollector:
    """Our metrics as a collector for a registry of prometheus_client: ``registry.register(collector)``.

    What is collected is what the exporter's own page has of events: the same names, labels and numbers. It
    may be collected on any thread.

    Args:
        exporter: The exporter's registered name. It need not have been started yet.
    """

    def __init__(self, exporter: str = "prometheus_exporter") -> None:
        self._exporter = exporter

    def describe(self) -> Iterable[Metric]:
        """Return nothing: which metrics there will be depends on the events to come."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Return the metrics.

        Yields:
            ``prometheus_client.Metric``.
        """
        client = import_module("prometheus_client.metrics_core")
        samples = import_module("prometheus_client.samples")
        namespace, global_labels = self._look()
        others = self._names_of_others()
        for family in families_of(store_of(self._exporter), namespace, global_labels):
            if family.name in others:
                continue
            metric = client.Metric(family.name, family.documentation, family.type, family.unit)
            metric.samples = [
                samples.Sample(
                    sample.name,
                    dict(sample.labels),
                    sample.value,
                    sample.timestamp,
                    None if sample.exemplar is None else _theirs(samples, sample.exemplar),
                )
                for sample in family.samples
            ]
            yield metric

    def _names_of_others(self) -> set[str]:
        """Return what else is in prometheus_client's own registry, if this is: the process, for instance."""
        try:
            registry: Any = import_module("prometheus_client").REGISTRY
            known = dict(registry._collector_to_names)  # noqa: SLF001 - there is no other way to know
        except Exception:  # noqa: BLE001 - then nothing is known of others
            return set()
        if self not in known:
            return set()
        return {name for one, names in known.items() if one is not self for name in names}

    def _look(self) -> tuple[str, dict[str, str]]:
        """Collect what has been emitted so far; return the settings that say how metrics look."""
        exporters.collect_now(self._exporter, _CATCH_UP)
        settings = exporters.settings_of(self._exporter)
        return getattr(settings, "namespace", None) or "", dict(getattr(settings, "global_labels", {}))


def _theirs(samples: Any, exemplar: Exemplar) -> Any:
    return samples.Exemplar(dict(exemplar.labels), exemplar.value, exemplar.timestamp)


def private_registry(exporter: str = "prometheus_exporter") -> CollectorRegistry:
    """Return a registry of its own that has our metrics and nothing else.

    Single metrics can be asked for (``name[]``) with prometheus_client 0.26 or newer.

    Args:
        exporter: The exporter's registered name.

    Raises:
        ImportError: prometheus_client is not installed: ``pip install otpylib-telemetry[client]``.
    """
    client = import_module("prometheus_client")
    registry: CollectorRegistry
    try:
        # Without names, ours would be left out where single metrics are asked for.
        registry = client.CollectorRegistry(support_collectors_without_names=True)
    except TypeError:  # before 0.26 it cannot keep them in
        registry = client.CollectorRegistry()
    registry.register(RegistryCollector(exporter))
    return registry
