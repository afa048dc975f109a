"""What is on a page, and how it is put together: for the endpoint, for mounted applications, for a gateway.

The series of the exporter's store come first: of this process, or of all workers where there are several.
Then what the exporters say about themselves, what the process says about itself, and the registries that are
merged. Each of them can fail or be slow without costing the others.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation import observers
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.metrics.names import metric_name
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.scrubbing.scrubber import scrubber_in
from otpylib_telemetry_prometheus.exposition import negotiation
from otpylib_telemetry_prometheus.exposition.families import Family, names_of, undated
from otpylib_telemetry_prometheus.exposition.store_families import names_in
from otpylib_telemetry_prometheus.exposition.target_info import target_info
from otpylib_telemetry_prometheus.exposition.writer import Exposition, compress
from otpylib_telemetry_prometheus.page import Page, ScrapeRequest
from otpylib_telemetry_prometheus.self_metrics import self_families

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from otpylib_telemetry.aggregation.store import SeriesStore
    from otpylib_telemetry.exporter.base import ExportContext
    from otpylib_telemetry.scrubbing.scrubber import Scrubber
    from otpylib_telemetry_prometheus.client.merged import MergedRegistries
    from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
    from otpylib_telemetry_prometheus.settings import PrometheusSettings


_log = logging.getLogger("otpylib_telemetry.prometheus")

#: The settings that decide how every line of a page reads: what was prepared under others is of no use.
_LOOK: Final = frozenset({"namespace", "global_labels", "push_grouping"})

#: Labels that a Pushgateway gives every series, whatever they were: those of ``push_grouping`` besides.
_GATEWAY: Final = frozenset({"job", "instance"})


class _Written:
    """How a page reads: of this process, and of all workers, whose labels are in their files already."""

    def __init__(
        self, settings: PrometheusSettings, report: Callable[[str], None], taken: Collection[str] = ()
    ) -> None:
        self.own = Exposition(settings.namespace or "", settings.global_labels, report, taken)
        self.joined = Exposition(report=report, taken=taken)

    @property
    def failures(self) -> int:
        """How often something was left out."""
        return self.own.failures + self.joined.failures


class PageMaker:
    """Makes pages.

    Attributes:
        multiprocess: The files of all workers; None in an application of one process.
        pages: How many pages were made.
        seconds: How long making the last one took, and all of them.
        size: Bytes of the last one, and of all of them.
        failures: How many metrics were left out of a page because writing them failed, each as often as it
            was.
    """

    def __init__(
        self,
        context: ExportContext,
        store: SeriesStore,
        merged: MergedRegistries,
        settings: PrometheusSettings,
    ) -> None:
        self.multiprocess: Multiprocess | None = None
        self.pages = 0
        self.seconds = (0.0, 0.0)
        self.size = (0, 0)
        self._context = context
        self._store = store
        self._merged = merged
        self._failures_before = 0
        self._settings = settings
        self._write_under(settings)

    @property
    def failures(self) -> int:  # noqa: D102 - among the attributes
        return self._failures_before + self._scraped.failures + self._pushed.failures

    def use(self, settings: PrometheusSettings) -> None:
        """Make pages under these settings from now on."""
        before, self._settings = self._settings, settings
        if any(getattr(before, key) != getattr(settings, key) for key in _LOOK):
            self._failures_before = self.failures
            self._write_under(settings)

    def _write_under(self, settings: PrometheusSettings) -> None:
        self._scraped = _Written(settings, self._report)
        self._pushed = _Written(settings, self._report, {*_GATEWAY, *settings.push_grouping})

    async def page(self, request: ScrapeRequest, *, pushed: bool = False) -> Page:
        """Make a page of everything measured so far, for a reader or, as :meth:`text`, for a gateway."""
        written = self._pushed if pushed else self._scraped
        await self._context.catch_up()
        await observers.refresh(self._context.name)
        started = time.monotonic()
        self._store.advance(time.monotonic_ns())
        form = negotiation.choose(request.accept)
        stores: Sequence[SeriesStore] = [self._store]
        exposition, families = written.own, await self._families()
        if (files := self.multiprocess) is not None:
            stores, exposition, families = [], written.joined, await self._of_all_workers(files, families)
        if pushed:
            families = [self._undated(family) for family in families]
        chunks: list[bytes] = []
        for chunk in exposition.render(form, stores, families, wall_clock.offset_ns(), request.names):
            chunks.append(chunk)
            await asyncio.sleep(0)
        body = b"".join(chunks)
        encoding = None
        if self._settings.compression == "gzip" and negotiation.takes_gzip(request.accept_encoding):
            body, encoding = await run_in_thread(compress, body), "gzip"
        self._account(time.monotonic() - started, len(body))
        return Page(body, form.content_type, encoding)

    async def text(self) -> bytes:
        """Make a page for a Pushgateway: in the classic text format, not compressed.

        It refuses a page as a whole that has times, or two series that differ in a label it sets itself.
        """
        return (await self.page(ScrapeRequest(), pushed=True)).body

    @staticmethod
    def _undated(family: Any) -> Any:
        try:
            return undated(family)
        except Exception:  # noqa: BLE001 - somebody else's objects: writing them will say what is wrong
            return family

    async def _families(self) -> list[Family]:
        """Return what is on the page beside the series."""
        settings = self._settings
        scrubber = scrubber_in(self._context.memory, settings.scrub_plan())
        resource = settings.resource
        info = target_info(resource if scrubber is None else scrubber.attributes(resource))
        found = [] if info is None else [info]
        if settings.self_metrics:
            found += self_families(registry.all_stats())
        if self._merged:
            taken = names_in(self._store, settings.namespace or "").union(*map(names_of, found))
            merged = await self._merged.families(taken)
            found += merged if scrubber is None else [_scrubbed(family, scrubber.apart) for family in merged]
        return found

    async def _of_all_workers(self, files: Multiprocess, own: list[Family]) -> list[Any]:
        """Return the series of all workers, and what this one says for itself, marked as its own."""
        labels = self._settings.global_labels
        marked = {**labels, "pid": str(os.getpid())}

        def written_and_read() -> list[Any]:
            files.write(self._store, force=True)
            # What says what the process is does not differ from worker to worker.
            labelled = [_labelled(one, labels if one.name == "target" else marked) for one in own]
            return [*files.families(), *labelled]

        return await run_in_thread(written_and_read)

    def _account(self, seconds: float, size: int) -> None:
        self.pages += 1
        self.seconds = (seconds, self.seconds[1] + seconds)
        self.size = (size, self.size[1] + size)

    def _report(self, message: str) -> None:
        _log.warning("%s: %s.", self._context.name, message)


def _scrubbed(family: Family, scrubber: Scrubber) -> Family:
    """Return a family without secrets: in its names and texts, its labels, and those of exemplars."""
    name, documentation, unit = family.name, scrubber.text(family.documentation), scrubber.text(family.unit)
    if (clean := scrubber.text(name)) != name:
        name = metric_name(clean)
    samples = []
    for sample in family.samples:
        labels, exemplar = scrubber.attributes(sample.labels), sample.exemplar
        if exemplar is not None:
            exemplar = replace(exemplar, labels=scrubber.attributes(exemplar.labels))
        same = labels is sample.labels and exemplar is sample.exemplar
        if same and name == family.name:
            samples.append(sample)
            continue
        told = name + sample.name.removeprefix(family.name) if name != family.name else sample.name
        samples.append(replace(sample, name=told, labels=labels, exemplar=exemplar))
    return replace(family, name=name, documentation=documentation, unit=unit, samples=tuple(samples))


def _labelled(family: Family, labels: Mapping[str, str]) -> Family:
    """Return a family whose samples have these labels as well; their own go before them."""
    if not labels:
        return family
    return replace(
        family,
        samples=tuple(replace(sample, labels={**labels, **sample.labels}) for sample in family.samples),
    )
