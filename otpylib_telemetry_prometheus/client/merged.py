"""prometheus_client's registries and ours: theirs on our page, or ours in theirs.

What a registry holds is other people's code: a collector may raise, hang, or say things no page can carry.
So each collector is asked by itself, on a thread, for a limited time; what it gives is copied and checked
before it gets near the page. One that fails is left out of that scrape, counted, and reported once; all
others are there. Where a registry and the exporter have a metric of the same name, the exporter's stays: a
page that has a name twice is refused as a whole.

prometheus_client is imported only where ours is asked to be in theirs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from otpylib_telemetry.exporter import registry as exporters
from otpylib_telemetry.metrics.collectors import collectors_of
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import Round, Watches
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_prometheus.client.collector import RegistryCollector
from otpylib_telemetry_prometheus.exposition.families import TYPES, Exemplar, Family, Sample, names_of

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping, Sequence


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Collectors of prometheus_client whose metrics the poller has, too: the same numbers under the same names.
_SAME_NUMBERS: Final = ("ProcessCollector (", "GCCollector (")


#: Seconds one collector may take; Prometheus itself gives up a scrape after ten, by default.
COLLECTOR_LIMIT: Final = 1.0


#: Seconds all collectors together may take; those that have not been asked by then are left out.
SCRAPE_LIMIT: Final = 4.0


_KEY: Final = "merged_registries"


@runtime_checkable
class Registry(Protocol):
    """What can be merged: a ``CollectorRegistry`` of prometheus_client, or anything else that collects."""

    def collect(self) -> Iterable[Any]:
        """Return metrics, as prometheus_client's ``Metric`` has them."""


def merge_registry(registry: Registry, exporter: str = "prometheus_exporter") -> None:
    """Put the metrics of a registry on the page of an exporter, from the next scrape on.

    Args:
        registry: The registry; merging it again changes nothing.
        exporter: The exporter's registered name. It need not have been started yet.

    Raises:
        TypeError: It is no registry.
    """
    merged_in(exporters.memory_of(exporter), exporter).add(registry)


def unmerge_registry(registry: Registry, exporter: str = "prometheus_exporter") -> bool:
    """Take the metrics of a registry off the page again.

    Args:
        registry: One that was merged with :func:`merge_registry`.
        exporter: As for :func:`merge_registry`.

    Returns:
        Whether it was merged.
    """
    found = exporters.find(exporter)
    return found is not None and merged_in(found.memory, exporter).remove(registry)


def merged_in(memory: MutableMapping[str, Any], name: str) -> MergedRegistries:
    """Return what is merged into an exporter's page; made when first asked for."""
    merged: MergedRegistries = memory.setdefault(_KEY, MergedRegistries(name))
    return merged


@dataclass(slots=True, eq=False)
class _Asked:
    """One collector, and what became of asking it."""

    collector: Any
    label: str
    families: Sequence[Family] = ()


class MergedRegistries:
    """The registries whose metrics are on the page of one exporter."""

    def __init__(
        self, name: str, collector_limit: float = COLLECTOR_LIMIT, scrape_limit: float = SCRAPE_LIMIT
    ) -> None:
        self.failures: dict[str, int] = {}
        self.duplicates = 0
        self._name = name
        self._limits = (collector_limit, scrape_limit)
        self._merged: list[Registry] = []
        self._paths: dict[str, Registry | None] = {}
        self._watches = Watches(_families_of)
        # What was said, and is still so.
        self._said = Once()

    def __bool__(self) -> bool:
        return bool(self._merged or self._paths)

    def add(self, registry: Registry) -> None:
        """Merge a registry."""
        if not callable(getattr(registry, "collect", None)):
            raise TypeError(
                "expected a registry of prometheus_client, or another object with a method collect(), "
                f"not {type(registry).__name__}"
            )
        if not any(one is registry for one in self._merged):
            self._merged = [*self._merged, registry]

    def remove(self, registry: Registry) -> bool:
        """Merge a registry no longer; tell whether it was merged."""
        left = [one for one in self._merged if one is not registry]
        removed = len(left) < len(self._merged)
        self._merged = left
        return removed

    async def configure(self, paths: Iterable[str]) -> None:
        """Take the setting ``merge_registries`` into use; modules are imported on a thread."""
        known = {path: registry for path, registry in self._paths.items() if registry is not None}
        found: dict[str, Registry | None] = {}
        for path in paths:
            found[path] = known.get(path)
            if found[path] is None:
                found[path] = await self._imported(path)
        self._paths = found

    async def families(self, taken: Iterable[str]) -> list[Family]:
        """Return the metrics of every merged registry."""
        registries = self._registries()
        if not registries and None not in self._paths.values():
            return []
        missing = sum(registry is None for registry in self._paths.values())
        if missing:
            self._count("missing", missing)
        asked = [
            _Asked(*one)
            for registry in registries
            for one in collectors_of(registry)
            # Ours, registered in theirs, has what is on the page anyway.
            if not isinstance(one.collector, RegistryCollector)
        ]
        await self._ask(asked)
        return self._without_duplicates(asked, set(taken))

    def stats(self) -> dict[str, Any]:
        """Return how much is merged, and what was left out."""
        return {
            "registries": len(self._registries()),
            "missing": [path for path, registry in self._paths.items() if registry is None],
            "failures": dict(self.failures),
            "duplicates": self.duplicates,
        }

    def _registries(self) -> list[Registry]:
        every = [*self._merged, *(one for one in self._paths.values() if one is not None)]
        return list({id(one): one for one in every}.values())

    async def _imported(self, path: str) -> Registry | None:
        module, _, attribute = path.partition(":")

        def load() -> Any:
            found: Any = import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
            return found

        try:
            registry = await run_in_thread(load)
        except Exception as error:  # noqa: BLE001  # what importing somebody's module does
            trouble = describe(error)
        else:
            if callable(getattr(registry, "collect", None)):
                self._said.over((path, "missing"))
                return registry  # type: ignore[no-any-return]  # it can collect
            trouble = f"it is no registry but an object of type {type(registry).__name__}"
        if self._said.is_news((path, "missing")):
            _log.warning(
                "%s cannot merge %s, which merge_registries names: %s. Its metrics are not on the page.",
                self._name,
                path,
                trouble,
            )
        return None

    async def _ask(self, asked: list[_Asked]) -> None:
        """Ask collectors; one that takes too long is left behind with the thread it has."""
        collector_limit, scrape_limit = self._limits
        watches = self._watches.of([one.collector for one in asked])
        outcomes = await run_in_thread(Round(watches, None, collector_limit).wait, scrape_limit)
        for one, watch in zip(asked, watches, strict=True):
            outcome = outcomes[watch]
            if outcome is None:
                self._count("slow")
                if self._said.is_news((id(one.collector), "slow")):
                    _log.warning(
                        "%s: %s of a merged registry takes too long; its metrics are not on the page. It is "
                        "asked again when it has come back.",
                        self._name,
                        one.label,
                    )
            elif outcome.error is not None:
                self._count("failed")
                if self._said.is_news((id(one.collector), "failed")):
                    _log.warning(
                        "%s: %s of a merged registry cannot be collected (%s); its metrics are not on the "
                        "page.",
                        self._name,
                        one.label,
                        describe(outcome.error),
                    )
            else:
                one.families = outcome.observations
                self._said.over((id(one.collector), "slow"))
                self._said.over((id(one.collector), "failed"))

    def _without_duplicates(self, asked: list[_Asked], taken: set[str]) -> list[Family]:
        chosen: dict[str, Family] = {}
        for one in asked:
            own: dict[str, Family] = {}
            for family in one.families:
                present = own.get(family.name)
                names = names_of(family)
                if present is not None and present.type == family.type:
                    # A collector may give a metric in parts.
                    samples = present.samples + family.samples
                    own[family.name] = Family(
                        family.name, present.documentation, family.type, present.unit, samples
                    )
                elif names & taken:
                    self._report_duplicate(family.name, one.label)
                else:
                    own[family.name] = family
                    taken |= names
            chosen |= own
        return list(chosen.values())

    def _report_duplicate(self, name: str, label: str) -> None:
        self.duplicates += 1
        if label.startswith(_SAME_NUMBERS):
            return
        if self._said.is_news((name, "duplicate")):
            _log.warning(
                "%s leaves out the metric %s of %s of a merged registry: the page has that name already.",
                self._name,
                name,
                label,
            )

    def _count(self, reason: str, count: int = 1) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + count


def _families_of(collector: Any) -> list[Family]:
    """Copy what a collector gives into families of our own; what no page can carry raises."""
    return [
        Family(
            _text(metric.name),
            _text(metric.documentation),
            _type(metric.type),
            _text(getattr(metric, "unit", "") or ""),
            tuple(map(_sample, metric.samples)),
        )
        for metric in collector.collect()
    ]


def _sample(sample: Any) -> Sample:
    timestamp = getattr(sample, "timestamp", None)
    exemplar = getattr(sample, "exemplar", None)
    return Sample(
        _text(sample.name),
        _labels(sample.labels),
        float(sample.value),
        None if timestamp is None else float(timestamp),
        None if exemplar is None else _exemplar(exemplar),
    )


def _exemplar(exemplar: Any) -> Exemplar:
    at = exemplar.timestamp
    return Exemplar(_labels(exemplar.labels), float(exemplar.value), None if at is None else float(at))


def _labels(labels: Any) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in labels.items()}


def _text(text: Any) -> str:
    if not isinstance(text, str):
        raise TypeError(f"expected a string, not {type(text).__name__}")
    if not text.isascii():
        text.encode()  # raises for what UTF-8 cannot carry
    return text


def _type(kind: Any) -> str:
    if kind not in TYPES:
        raise ValueError(f"{kind!r} is no type of a metric")
    return str(kind)
