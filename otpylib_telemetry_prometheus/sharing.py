"""What an exporter shares with other processes while it does not run itself: the series of its instruments.

An application that measures through the OpenTelemetry API alone has no event loop and no exporter. Its series
are written by a thread then: to where exporters and our registry find them, and to where
``MultiProcessCollector`` of prometheus_client does. An exporter that starts takes over the former alone.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.aggregation.observers import Regularly, begin
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.exporter import registry as exporters
from otpylib_telemetry.exporter.process_end import end_exporters, expect_process_end
from otpylib_telemetry.metrics.settings import definitions_in
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.process_end import before_process_ends
from otpylib_telemetry.scrubbing.scrubber import Scrubber
from otpylib_telemetry_prometheus.multiprocess.client_files import ClientFiles
from otpylib_telemetry_prometheus.multiprocess.workers import Multiprocess
from otpylib_telemetry_prometheus.multiprocess.writer import Look, StoreWriter
from otpylib_telemetry_prometheus.settings import PrometheusSettings

if TYPE_CHECKING:
    from otpylib_telemetry.aggregation.store import SeriesStore

_log = logging.getLogger("otpylib_telemetry.prometheus")

#: Seconds between two writes at least, and how many times as long as one takes there is none after it.
_INTERVAL: Final = 0.1
_REST: Final = 50

#: Seconds that observing may take when the process ends.
_LAST_READING: Final = 1.0

#: Seconds between two looks whether files are still there, and dead workers are.
_LOOKING: Final = 2.0


def use_look(files: Multiprocess, settings: PrometheusSettings) -> None:
    """Say what the metrics look like from now on: it decides which other workers' are added to them."""
    files.use_schema(
        (
            settings.buckets,
            sorted(settings.labels) if settings.labels is not None else None,
            sorted(settings.drop_labels),
            [repr(definition) for definition in definitions_in(settings.metrics)],
        ),
        namespace=settings.namespace or "",
        global_labels=settings.global_labels,
        modes=settings.multiprocess_modes,
    )


def share(exporter: str, store: SeriesStore) -> None:
    """Write the series of an exporter from now on, if this process has others to share them with."""
    settings = exporters.settings_of(exporter)
    if not isinstance(settings, PrometheusSettings):
        section = f"telemetry.{exporter.removesuffix('_exporter')}"
        settings = resolve(PrometheusSettings, section, environ=os.environ).settings
    if settings.multiprocess_dir is None:
        return
    if store.scrub is None and (plan := settings.scrub_plan()).scope != "off":
        # Others show them, too. An exporter that starts goes by its own settings.
        scrubber = Scrubber(plan, Counter())
        store.use_scrub(scrubber.labels, scrubber.text)
    present = _shared.get(exporter)
    if present is not None:
        present.end()
    _shared[exporter] = SharedSeries(exporter, store, settings)
    _shared[exporter].start()


class SharedSeries:
    """Writes the series of one exporter, on a thread of its own."""

    def __init__(self, exporter: str, store: SeriesStore, settings: PrometheusSettings) -> None:
        self._exporter = exporter
        self._store = store
        self._settings = settings
        self._directory = Path(settings.multiprocess_dir or "")
        self._observed = Regularly(exporter)
        self._lock = new_lock()
        self._ended = threading.Event()
        self._said = Once()
        self._own: Multiprocess | None = None
        self._client: ClientFiles | None = None
        self._writer: StoreWriter[ClientFiles] | None = None
        self._look_at = -float("inf")

    def start(self) -> None:
        """Begin; without threads, because the interpreter is exiting, once and for all."""
        expect_process_end()
        try:
            threading.Thread(target=self._run, name="otpylib-telemetry", daemon=True).start()
        except RuntimeError:
            self.write()

    def _run(self) -> None:
        took = 0.0
        while not self._ended.wait(max(_INTERVAL, took * _REST)):
            began = time.monotonic()
            self._observed.tick(time.monotonic_ns())
            self.write()
            took = time.monotonic() - began

    def write(self) -> None:
        """Write what has changed."""
        with self._lock:
            try:
                if not self._ended.is_set():
                    self._write_own()
                    self._write_for_client()
            except Exception as error:  # noqa: BLE001 - the application goes on without its metrics being shared
                self._writer = None
                if self._said.is_news():
                    _log.warning(
                        "Metrics shared by several processes, in %s: %s.", self._directory, describe(error)
                    )
            else:
                self._said.over()

    def end(self) -> None:
        """Observe and write for the last time."""
        concurrent.futures.wait(begin(self._exporter), _LAST_READING)
        self.write()
        with self._lock:
            self._ended.set()
            if self._own is not None:
                self._own.close()
            if self._client is not None:
                self._client.rest()

    def _write_own(self) -> None:
        if exporters.is_running(self._exporter):
            # It writes the same series to the same place, and says what keeps it from doing so.
            self._own = None
            return
        if self._own is None:
            self._own = Multiprocess(self._directory, self._exporter)
            use_look(self._own, self._settings)
        self._own.write(self._store, force=True)

    def _write_for_client(self) -> None:
        client, now = self._client, time.monotonic()
        if client is None:
            client = self._client = ClientFiles(self._directory)
        if now >= self._look_at:
            self._look_at = now + _LOOKING
            client.bury()
            if not client.present():
                self._writer = None
        if self._writer is None:
            settings = self._settings
            look = Look(settings.namespace or "", settings.global_labels, settings.multiprocess_modes)
            self._writer = StoreWriter(look, client, {})
        self._writer.write(self._store, time.time())


_shared: dict[str, SharedSeries] = {}


def _end_all() -> None:
    # What waits in the queue of an exporter is part of the series.
    end_exporters()
    for one in [*_shared.values()]:
        one.end()
    _shared.clear()


before_process_ends(_end_all)
# A child begins with its own first measurement.
after_fork_in_child(_shared.clear)
