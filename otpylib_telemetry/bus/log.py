"""Log lines of the event bus, which cannot fail."""

import logging
from typing import Any

_logger = logging.getLogger("otpylib_telemetry")


def warning(message: str, *args: Any) -> None:
    """Log a warning; the application's own log handlers may raise, and emitting an event must not."""
    _say(logging.WARNING, message, args)


def info(message: str, *args: Any) -> None:
    """Log an information, as :func:`warning` does."""
    _say(logging.INFO, message, args)


def _say(level: int, message: str, args: tuple[Any, ...]) -> None:
    try:
        _logger.log(level, message, *args)
    except Exception:  # noqa: BLE001  # whatever the application's log handlers raise
        return
