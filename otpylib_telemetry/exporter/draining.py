"""Exports all that an exporter holds, before it rests or ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.consumer import QueueConsumer
    from otpylib_telemetry.exporter.sender import Sender

#: The part of the time for a flush or for shutting down that making the last items may take.
PRODUCING_SHARE = 0.3


async def export_the_rest(
    consumer: QueueConsumer, sender: Sender, end: float, *, give_way: Callable[[], bool] = lambda: False
) -> None:
    """Export what is held, until a time of the loop's clock or until ``give_way`` says so."""
    await consumer.catch_up()
    consumer.give_up_held()
    await consumer.produce(share_of_producing(end), last_chance=True)
    left = end - asyncio.get_running_loop().time()
    await sender.empty(left, last_chance=True, give_way=give_way, urgent_first=True)


def share_of_producing(end: float) -> float:
    """Return how long producing may take of the time there is until then: the rest is for sending."""
    return max(0.0, end - asyncio.get_running_loop().time()) * PRODUCING_SHARE
