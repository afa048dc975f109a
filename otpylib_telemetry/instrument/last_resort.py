"""What Python's logging prints where nobody is there to handle a record, printed though a bridge is there."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_local = threading.local()


def print_as_before(bridge: logging.Handler, record: logging.LogRecord) -> None:
    """Print a record that the bridge does not take, as Python does where a logger has no handler at all.

    A bridge that is installed counts as one, and what it leaves out would be seen by nobody.
    """
    if getattr(_local, "busy", False):
        # What is written to the terminal may be logged again.
        return
    _local.busy = True
    try:
        resort = logging.lastResort
        if resort is not None and record.levelno >= resort.level and _is_alone(bridge, record):
            resort.handle(record)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # whatever is in a record, logging it must not fail
        return
    finally:
        _local.busy = False


def _is_alone(bridge: logging.Handler, record: logging.LogRecord) -> bool:
    """Tell whether only bridges hear the loggers that a record passes, and this one is the first of them."""
    first: logging.Handler | None = None
    for handler in handlers_of(record):
        if type(handler) is not type(bridge):
            return False
        first = first or handler
    return first is bridge


def handlers_of(record: logging.LogRecord) -> Iterator[logging.Handler]:
    """Return the handlers of the loggers that a record passes."""
    # Not asked for by name, which would make it: a record may name a logger that there never was.
    current = logging.root.manager.loggerDict.get(
        record.name, logging.root if record.name == "root" else None
    )
    while isinstance(current, logging.Logger):
        yield from current.handlers
        current = current.parent if current.propagate else None
