"""Events into series, and series onto the endpoint: what is particular to the Prometheus exporter."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.aggregation import SeriesStore
from otpylib_telemetry.exporter import Collected, ExportContext, Exporter
from otpylib_telemetry.operations import OpenOperations
from otpylib_telemetry_prometheus.automatic import MAX_OPEN, OPEN_TTL_NS, AutomaticMetrics
from otpylib_telemetry_prometheus.endpoint import Endpoint
from otpylib_telemetry_prometheus.exposition import CONTENT_TYPE, TextExposition
from otpylib_telemetry_prometheus.labels import LabelRules
from otpylib_telemetry_prometheus.settings import PrometheusSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otpylib_telemetry.events import RawEvent
    from otpylib_telemetry.exporter import ExportOutcome

__all__ = ["PrometheusBackend"]

_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Seconds a scrape under way gets when the exporter closes: within what the server grants for closing.
_CLOSE_GRACE: Final = 0.4

#: Where the series are in the memory the server lends.
_MEMORY: Final = "prometheus"

#: Settings that say where the endpoint is, what its page looks like, and how series are made.
_PLACE: Final = frozenset({"host", "port", "path"})
_LOOK: Final = frozenset({"namespace", "global_labels"})
_MAKING: Final = frozenset({"labels", "drop_labels", "buckets", "span_metrics"})


class _Kept:
    """What outlives the exporter's process: a restart must neither lose a series nor forget an operation."""

    def __init__(self, settings: PrometheusSettings, context: ExportContext) -> None:
        def report(message: str) -> None:
            _log.warning("%s: %s.", context.name, message)

        self.store = SeriesStore(settings.max_series, report=report)
        self.metrics = AutomaticMetrics(
            self.store, OpenOperations(MAX_OPEN, OPEN_TTL_NS), **_making(settings)
        )
        self.endpoint: Endpoint | None = None
        #: Whose endpoint it is: one that has been succeeded must not close its successor's.
        self.owner: object = None
        #: The port that was found for port 0. A restart takes it again, if it can.
        self.found_port = 0


class PrometheusBackend(Exporter[PrometheusSettings]):
    """Aggregates events as they come and serves the sums over HTTP.

    Args:
        settings: The configuration in force.
        context: What the server lends. The series are in its memory.
    """

    settings_type: ClassVar[type[PrometheusSettings]] = PrometheusSettings

    def __init__(self, settings: PrometheusSettings, context: ExportContext) -> None:
        super().__init__(settings, context)
        if _MEMORY not in context.memory:
            context.memory[_MEMORY] = _Kept(settings, context)
        self._kept: _Kept = context.memory[_MEMORY]
        self._made = False
        self._exposition = TextExposition(settings.namespace or "", settings.global_labels)
        self._scrape_seconds = 0.0
        self._scrape_bytes = 0

    async def open(self) -> None:
        """Serve.

        Raises:
            EndpointError: The endpoint cannot be had. Events are aggregated all the same.
        """
        self._take_up(self.settings)
        kept = self._kept
        endpoint = kept.endpoint
        if endpoint is not None and not endpoint.serving:
            endpoint.abandon()
            endpoint = None
        if endpoint is None:
            endpoint = kept.endpoint = Endpoint(self._scrape, CONTENT_TYPE)
        kept.owner, endpoint.scrape = self, self._scrape
        await self._place(endpoint, self.settings)

    def collect(self, events: Sequence[RawEvent], wall_offset_ns: int) -> Collected:
        """Add events to the series.

        Args:
            events: The events.
            wall_offset_ns: Of no use here: series have no times.
        """
        del wall_offset_ns
        self._take_up(self.settings)
        taken, rejected = self._kept.metrics.record(events)
        return Collected(exported=taken, rejected=rejected)

    def tick(self, now_ns: int, wall_offset_ns: int, alive: Callable[[object], bool]) -> Collected:
        """Give up operations whose end will not come; their events are accounted for already.

        Args:
            now_ns: The present, on the monotonic clock.
            wall_offset_ns: Of no use here.
            alive: Tells whether an emitter still runs.
        """
        del wall_offset_ns
        self._kept.metrics.expire(now_ns, alive)
        return Collected()

    def settle(self, wall_offset_ns: int) -> Collected:
        """Give up every open operation: a gauge must not show for ever what nobody will count down.

        Args:
            wall_offset_ns: Of no use here.
        """
        del wall_offset_ns
        self._kept.metrics.settle()
        return Collected()

    async def export(self, batch: Sequence[Any]) -> ExportOutcome | None:
        """Do nothing: who wants the series fetches them, so :meth:`collect` makes no items.

        Args:
            batch: Always empty.
        """
        del batch
        return None

    async def apply(self, settings: PrometheusSettings, changed: frozenset[str]) -> bool:
        """Take new settings into use; all of them, or none if the endpoint cannot move.

        Args:
            settings: The settings to come.
            changed: The keys that differ.

        Returns:
            True: no setting needs another exporter.

        Raises:
            EndpointError: The endpoint cannot move; it still serves where it was.
        """
        endpoint = self._kept.endpoint
        if endpoint is not None and (changed & _PLACE or not endpoint.serving):
            await self._place(endpoint, settings)
        if changed & _LOOK:
            self._exposition = TextExposition(settings.namespace or "", settings.global_labels)
        if changed & _MAKING:
            self._made = False
        self._kept.store.max_series = settings.max_series
        self._take_up(settings)
        self.settings = settings
        return True

    async def close(self) -> None:
        """Stop serving. The series stay, for whoever opens again under this name."""
        kept = self._kept
        if kept.owner is self and kept.endpoint is not None:
            endpoint, kept.endpoint, kept.owner = kept.endpoint, None, None
            await endpoint.stop(_CLOSE_GRACE)

    def stats(self) -> dict[str, Any]:
        """Return where the endpoint is, how much there is on it, and what was left out."""
        kept = self._kept
        endpoint = kept.endpoint
        metrics, store = kept.metrics, kept.store
        return {
            "url": endpoint.url if endpoint else None,
            "host": endpoint.host if endpoint else None,
            "port": endpoint.port if endpoint else None,
            "scrapes": endpoint.served if endpoint else 0,
            "scrapes_failed": endpoint.failed if endpoint else 0,
            "scrapes_cut_off": endpoint.cut_off if endpoint else 0,
            "bad_requests": endpoint.unintelligible if endpoint else 0,
            "scrape_seconds": self._scrape_seconds,
            "scrape_bytes": self._scrape_bytes,
            "metrics": len(store),
            "series": store.series_count(),
            "overflowing": store.overflowing(),
            "samples_refused": dict(store.refused),
            "metrics_refused": dict(store.refusals),
            "unused": metrics.unused,
            "open_operations": metrics.open,
            "operations_given_up": dict(metrics.given_up),
        }

    def _take_up(self, settings: PrometheusSettings) -> None:
        """Make metrics under these settings from now on."""
        if not self._made:
            self._kept.store.max_series = settings.max_series
            self._kept.metrics.configure(**_making(settings))
            self._made = True

    async def _place(self, endpoint: Endpoint, settings: PrometheusSettings) -> None:
        kept = self._kept
        if settings.port == 0 and kept.found_port and not endpoint.serving:
            try:
                await endpoint.place(settings.host, kept.found_port, settings.path)
            except Exception:  # noqa: BLE001 - then another free port will do
                kept.found_port = 0
            else:
                return
        await endpoint.place(settings.host, settings.port, settings.path)
        kept.found_port = (endpoint.port or 0) if settings.port == 0 else 0

    async def _scrape(self) -> bytes:
        await self.context.catch_up()
        started = time.monotonic()
        chunks: list[bytes] = []
        for chunk in self._exposition.render(self._kept.store.metrics):
            chunks.append(chunk)
            await asyncio.sleep(0)
        body = b"".join(chunks)
        self._scrape_seconds = time.monotonic() - started
        self._scrape_bytes = len(body)
        return body


def _making(settings: PrometheusSettings) -> dict[str, Any]:
    """Return the settings that say how events become series."""
    return {
        "rules": LabelRules.of(settings.labels, settings.drop_labels),
        "buckets": settings.buckets,
        "span_metrics": settings.span_metrics,
    }
