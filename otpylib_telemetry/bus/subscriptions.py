"""Attaching handlers to events: the coroutines users call."""

from collections.abc import Callable, Iterable
from typing import Any

from otpylib_telemetry.bus import table
from otpylib_telemetry.bus.table import HandlerInfo


async def attach(handler_id: str, pattern: str, callback: Callable[..., Any]) -> None:
    """Subscribe a callback to an event pattern; the same identifier again replaces the earlier subscription.

    Args:
        handler_id: Identifies the subscription.
        pattern: Shell glob over the whole event name; case counts, and ``*`` crosses dots.
        callback: ``callback(event_name, measurements, metadata)``, ``async def`` or ``def``. The two dicts
            are the emitter's own: read them, copy what is to be kept.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: An empty pattern.
    """
    table.add(handler_id, [pattern], callback)


async def attach_many(handler_id: str, patterns: Iterable[str], callback: Callable[..., Any]) -> None:
    """Subscribe a callback to several patterns; an event that matches more than one is handled once.

    The same identifier again replaces the earlier subscriptions, so that a restarted process may just
    attach again.

    Args:
        handler_id: Identifies the subscriptions.
        patterns: Shell globs, as for :func:`attach`.
        callback: As for :func:`attach`.

    Raises:
        TypeError: An argument of the wrong kind.
        ValueError: No pattern, or an empty one.
    """
    table.add(handler_id, patterns, callback)


async def detach(handler_id: str) -> int:
    """Take back what :func:`attach` or :func:`attach_many` did.

    Events emitted before are still delivered where the TelemetryManager has their calls to make.

    Args:
        handler_id: The identifier given there.

    Returns:
        How many subscriptions went: one per pattern, 0 for an identifier nobody knows.
    """
    return table.remove(handler_id)


def list_handlers(pattern: str = "*") -> list[HandlerInfo]:
    """Return the subscriptions, in the order of attachment.

    Args:
        pattern: Keeps those whose own pattern this glob matches, and those that would receive an event of
            this name.
    """
    return table.listing(pattern)
