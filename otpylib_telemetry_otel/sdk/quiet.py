"""What an OpenTelemetry exporter logs while we export, read instead of shown.

The exporters of OpenTelemetry say that an export failed, and nothing else; why, they write into their log:
one line for every attempt, an outage long. The reason belongs into our own report, and the flood nowhere.
Only what is logged by the threads that export for us is taken; an application that uses the same exporters
itself sees its own messages as ever.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_local = threading.local()
_lock = new_lock()
_users: dict[str, int] = {}


class _Taker(logging.Filter):
    """Keeps a record of a thread that is being listened to from going any further."""

    def filter(self, record: logging.LogRecord) -> bool:
        heard: list[logging.LogRecord] | None = getattr(_local, "heard", None)
        if heard is None:
            return True
        heard.append(record)
        return False


_taker = _Taker()


@contextmanager
def listening() -> Iterator[list[logging.LogRecord]]:
    """Yield what this thread logs to the loggers of any :class:`Quiet`, as it comes."""
    _local.heard = []
    try:
        yield _local.heard
    finally:
        _local.heard = None


class Quiet:
    """Has the messages of some loggers taken from threads that are :func:`listening`, until it is lifted."""

    def __init__(self, loggers: Iterable[str]) -> None:
        self._loggers = tuple(loggers)
        with _lock:
            for name in self._loggers:
                _users[name] = _users.get(name, 0) + 1
                if _users[name] == 1:
                    # In front of every other filter: one of OpenTelemetry's own swallows messages that
                    # repeat within seconds, and with them the reason of every failure but the first.
                    logging.getLogger(name).filters.insert(0, _taker)

    def lift(self) -> None:
        """Let the loggers be as they were, unless another one still needs them quiet. Twice does no harm."""
        loggers, self._loggers = self._loggers, ()
        with _lock:
            for name in loggers:
                _users[name] -= 1
                if not _users[name]:
                    del _users[name]
                    logging.getLogger(name).removeFilter(_taker)
