"""Readings of what is observed: each on a thread of its own, for what is read off is other people's code."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def begin(read: Callable[[], None]) -> Future[None] | None:
    """Begin a reading, and return what is done when it is over; None if the interpreter is exiting."""
    reading: Future[None] = Future()
    reading.set_running_or_notify_cancel()

    def run() -> None:
        try:
            read()
        finally:
            reading.set_result(None)

    try:
        threading.Thread(target=run, name="otpylib-telemetry-readings", daemon=True).start()
    except RuntimeError:  # no thread begins any more: what was observed last is all there will be
        return None
    return reading
