"""Ids and times that are the same in every run, for snapshots."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from unittest import mock

from otpylib_telemetry.exporter import queue
from otpylib_telemetry.primitives.clock import wall_clock
from otpylib_telemetry.tracing import propagation, record, span
from otpylib_telemetry_mock import clock

if TYPE_CHECKING:
    from collections.abc import Generator

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)

_STEP_SECONDS: Final = 0.001


@contextlib.contextmanager
def deterministic(start: datetime = _START, step: float = _STEP_SECONDS, seed: str = "") -> Generator[None]:
    """Count ids up from one, and let each reading of the clock be a step later than the one before.

    Holds for what ``span``, ``execute`` and ``emit`` do inside the block, for what exporters make of it, and
    for what a capture or a ``MockExporter`` records. Timers go by the real clock. For one block at a time.

    Args:
        start: What the first reading gives.
        step: Seconds by which each further reading is later.
        seed: What the upper halves of the ids are made of; empty for zeros. An exporter that outlives a block
            takes the same ids in another for repetitions, and drops them: the fixture takes the test's name.

    Raises:
        ValueError: ``start`` has no time zone, or the step is negative.
    """
    if start.tzinfo is None or step < 0:
        raise ValueError("deterministic() takes a start with a time zone, and a step of 0 seconds or more")
    # The readings stay near the real ones: what an exporter does by the age of an event must not change.
    first_ns, step_ns = time.monotonic_ns(), round(step * 1e9)
    offset_ns = round(start.timestamp() * 1e9) - first_ns
    readings = itertools.count(first_ns, step_ns)
    upper = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) if seed else 0
    trace_ids, span_ids = itertools.count((upper << 64) + 1), itertools.count((upper >> 32 << 32) + 1)

    def seconds() -> float:
        return (next(readings) + offset_ns) / 1e9

    before = propagation.id_source()
    ids = propagation.use_ids_of(propagation.IdSource(trace_ids.__next__, span_ids.__next__))
    try:
        with (
            mock.patch.object(queue, "monotonic_ns", readings.__next__),
            mock.patch.object(span, "monotonic_ns", readings.__next__),
            mock.patch.object(record, "monotonic_ns", readings.__next__),
            mock.patch.object(clock, "source", seconds),
            wall_clock.held_at(offset_ns),
        ):
            yield
    finally:
        propagation.use_own_ids(ids, before)
