"""One line when an exporter begins to work, with where it serves or sends, and one when it has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.state import ExporterState

_log = logging.getLogger("otpylib_telemetry")


def say_place(state: ExporterState, exporter: Exporter[Any], scrub: Callable[[str], str]) -> None:
    """Say where an exporter that works serves or sends, if that was not the last that was said of it."""
    try:
        place = exporter.place()
    except Exception as error:  # noqa: BLE001  # a line in the log is not worth an exporter
        place = f"where it serves or sends cannot be told ({describe(error)})"
    if place is None or place == state.place:
        return
    state.place = place
    _log.info("%s is up: %s.", state.name, scrub(place))


def say_drained(state: ExporterState, left: int) -> None:
    """Say once what became of all events of an exporter that was drained; what is left was said before."""
    said, state.place = state.place, None
    if said is None or left:
        return
    books = state.ledger
    _log.info(
        "%s was drained, and nothing is left: of the events it accepted, %d were exported, %d rejected, %d "
        "dropped and %d sampled out.",
        state.name,
        books.exported,
        books.rejected,
        sum(books.dropped.values()),
        books.sampled_out,
    )
