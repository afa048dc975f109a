"""The ledger of an exporter, checked."""

import asyncio

from otpylib_telemetry import otp


def balance(stats):
    """How many events the books are off by; 0 is right."""
    accounted = (
        stats["exported"]
        + stats["rejected"]
        + stats["sampled_out"]
        + stats["queued"]
        + stats["in_flight"]
        + sum(stats["dropped"].values())
    )
    return stats["accepted"] - accounted


async def stats_of(name, timeout=60):
    """What the exporter says of itself; fails if its books do not balance."""
    stats = await otp.safe_call(name, ("get_stats",), timeout=timeout)
    assert balance(stats) == 0, stats
    return stats


async def quiet_stats(name, timeout=60):
    """Wait until the exporter is in no state of transition and holds nothing; its stats."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        stats = await stats_of(name)
        if stats["state"] not in {"starting", "degraded"} and stats["queued"] == stats["in_flight"] == 0:
            return stats
        assert asyncio.get_running_loop().time() < deadline, stats
        await asyncio.sleep(0.02)
