"""Metric readers of OpenTelemetry that a program gives: each reads the series for itself, when it likes.

A reader calls back for the metrics, on a thread of its own or of the application. The series are read there:
nothing waits for the exporter's event loop but, for a limited time, events that are on their way. What was
said to one reader is remembered for it alone, and outlives the exporter, as the series do. At its end, at a
flush and before a change of settings the exporter has each reader flush once more.

Importing this imports no OpenTelemetry: whoever has made a reader has imported it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.primitives.polling import call_each
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_otel.sdk.attached_reader import PATIENCE, Attached

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from otpylib_telemetry_otel.metrics.producers import Producers
    from otpylib_telemetry_otel.sdk.attached_reader import Clean


_log = logging.getLogger("otpylib_telemetry")

#: Key into the memory that survives the exporter.
_KEY: Final = "metric_readers"


def readers_in(memory: MutableMapping[str, Any], name: str) -> Readers:
    """Return the readers of an exporter, in what its server lends it."""
    found: Readers = memory.setdefault(_KEY, Readers(name))
    return found


class Readers:
    """The metric readers of one exporter."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._attached: list[Attached] = []
        self._refused: dict[str, str] = {}
        self._said = Once()

    def __len__(self) -> int:
        return len(self._attached)

    async def use(
        self, given: Sequence[Any], resource: Mapping[str, Any], producers: Producers, clean: Clean
    ) -> None:
        """Have these readers read, and no others; those that go read once more.

        ``clean`` takes secrets out of what they read.
        """
        gone = [one for one in self._attached if not any(one.reader is each for each in given)]
        if gone:
            await self.flush(PATIENCE / 2, gone)
            for one in gone:
                one.detach()
        self._refused = {}
        known = {id(one.reader): one for one in self._attached if one not in gone}
        self._attached = []
        for reader in given:
            if (owner := _owner(reader, self._name)) is not None:
                self._refuse(reader, owner)
                continue
            one = known.get(id(reader)) or Attached(reader, self._name, self._said)
            one.use(resource, producers, clean)
            self._attached.append(one)

    def _refuse(self, reader: Any, owner: str) -> None:
        who = type(reader).__name__
        self._refused[who] = f"it belongs to {owner}"
        if self._said.is_news(f"{who} {owner}"):
            _log.warning(
                "%s leaves out the metric reader %s: it belongs to %s already, and a reader can have one "
                "source only. Give each exporter a reader of its own.",
                self._name,
                who,
                owner,
            )

    async def flush(self, seconds: float, readers: Sequence[Attached] | None = None) -> None:
        """Have readers flush, each on a thread, within so many seconds; never raises.

        Those that read when somebody wants their metrics are left alone: these can be had at any time, and
        what a flush told one of them would be overwritten by its next reading.
        """
        wanted = [one for one in self._attached if not one.is_pulled] if readers is None else readers
        flushed = [one for one in wanted if one.is_ours]
        watches = {one.watch: one for one in flushed}
        outcomes = await run_in_thread(call_each, [*watches], seconds * 1_000, seconds)
        for watch, outcome in outcomes.items():
            if outcome is None:
                watches[watch].failed("takes too long to flush; nobody waits for it")
            elif outcome.error is not None:
                watches[watch].failed("cannot be flushed", outcome.error)

    def stats(self) -> list[dict[str, Any]]:
        """Return how each does."""
        refused = [{"reader": who, "refused": reason} for who, reason in self._refused.items()]
        return [*(one.stats() for one in self._attached), *refused]


def _owner(reader: Any, exporter: str) -> str | None:
    """Return whom a reader belongs to already, other than the exporter."""
    present = getattr(reader, "_collect", None)
    if present is None:
        return None
    if not isinstance(present, Attached):
        return "a MeterProvider"
    other = present.exporter
    given = getattr(registry.settings_of(other), "metric_readers", ())
    claimed = registry.is_running(other) and any(one.objects[0] is reader for one in given)
    return other if other != exporter and claimed else None
