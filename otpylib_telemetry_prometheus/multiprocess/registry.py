"""The metrics of all workers, as a registry of prometheus_client."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry_prometheus.multiprocess.files import EXPORTER, VARIABLE, client, root_of
from otpylib_telemetry_prometheus.multiprocess.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


class MultiProcessRegistry:
    """The metrics of all workers where prometheus_client expects a registry.

    ``generate_latest(MultiProcessRegistry())`` is the page; ``make_asgi_app``, ``make_wsgi_app`` and
    ``start_http_server`` take it as well. It needs no exporter in its own process: a process that only serves
    metrics will do.

    Args:
        path: Where the workers meet; None for that of ``PROMETHEUS_MULTIPROC_DIR``.
        exporter: The exporter's registered name.
        own_files: Whether the metrics that are declared with prometheus_client itself, whose files lie in the
            same directory, are part of it.

    Raises:
        MultiprocessError: prometheus_client is not installed.
        ValueError: Nobody says where the workers meet.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        exporter: str = EXPORTER,
        own_files: bool = True,
    ) -> None:
        found = path if path is not None else os.environ.get(VARIABLE)
        if not found:
            raise ValueError(f"expected a path, or {VARIABLE} to be set to one")
        directory = Path(found)
        self._others: Any = client("registry").CollectorRegistry()
        self._reader = Reader(root_of(directory, exporter), directory if own_files else None)

    def collect(self) -> Iterator[Any]:
        """Yield the metrics: those of the workers, then those of what was registered here."""
        present = set()
        for metric in self._reader.collect():
            present.add(metric.name)
            yield metric
        for metric in self._others.collect():
            if metric.name not in present:
                yield metric

    def register(self, collector: Any) -> None:
        """Add a collector, whose metrics are this process' alone; one of a name the workers have is left out.

        Raises:
            ValueError: Two collectors have metrics of the same name.
        """
        self._others.register(collector)

    def unregister(self, collector: Any) -> None:
        """Take away a collector.

        Raises:
            KeyError: It is not registered.
        """
        self._others.unregister(collector)

    def restricted_registry(self, names: Iterable[str]) -> _Restricted:
        """Return a registry with only the samples of these names, as the parameter ``name[]`` of a URL wants.

        Args:
            names: The names.
        """
        return _Restricted(self, frozenset(names))

    def get_sample_value(self, name: str, labels: Mapping[str, str] = _NO_LABELS) -> float | None:
        """Return one number, for tests.

        Args:
            name: The name of the sample.
            labels: All its labels.

        Returns:
            The number; None if there is none.
        """
        for metric in self.collect():
            for sample in metric.samples:
                if sample.name == name and sample.labels == dict(labels):
                    value: float = sample.value
                    return value
        return None


class _Restricted:
    def __init__(self, registry: MultiProcessRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Any]:
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if sample.name in self._names]
            if samples:
                restricted = client("metrics_core").Metric(metric.name, metric.documentation, metric.type)
                restricted.samples = samples
                yield restricted
