"""Where the series of an exporter are: one store per exporter's name, which outlives the process.

Events, definitions and the instruments of the OpenTelemetry API that feed an exporter all write into this one
store, so that names clash where somebody can say so and every number leaves through the same exit.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.exporter.registry import find, memory_of, names

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping


_log = logging.getLogger("otpylib_telemetry")

#: Series per metric until the exporter's configuration has said how many: the default of that key, and of
#: OpenTelemetry's SDK specification ("Cardinality limits").
DEFAULT_MAX_SERIES: Final = 2_000

_KEY: Final = "series_store"

_watchers: dict[str, Callable[[str, SeriesStore], None]] = {}


def store_of(name: str) -> SeriesStore:
    """Return the store of an exporter; made when first asked for, be it before the exporter starts."""
    return store_in(memory_of(name), name)


def store_in(memory: MutableMapping[str, Any], name: str) -> SeriesStore:
    """Return the store in what an exporter's server lends it; made when first asked for."""
    store: SeriesStore | None = memory.get(_KEY)
    if store is None:

        def report(message: str) -> None:
            _log.warning("%s: %s.", name, message)

        # Two threads may come here first at once: what each of them writes belongs into one store.
        made = SeriesStore(DEFAULT_MAX_SERIES, report=report, now_ns=time.monotonic_ns)
        store = memory.setdefault(_KEY, made)
        if store is made and (watcher := _watchers.get(name)) is not None:
            watcher(name, store)
    return store


def known_stores() -> dict[str, SeriesStore]:
    """Return the stores there are, by exporter; none is made by asking."""
    found = {name: find(name) for name in sorted(names())}
    return {
        name: state.memory[_KEY]
        for name, state in found.items()
        if state is not None and _KEY in state.memory
    }


def when_made(name: str, watcher: Callable[[str, SeriesStore], None]) -> None:
    """Have a function called with the store of an exporter, once in every process that writes to it."""
    _watchers[name] = watcher
    found = find(name)
    store = None if found is None else found.memory.get(_KEY)
    if store is not None:
        watcher(name, store)
