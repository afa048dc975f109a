"""How long to wait before trying again: pure."""

import math
from collections.abc import Callable

#: Seconds from which the waits grow.
BASE = 0.5

#: Seconds beyond which no wait grows.
CAP = 30.0


def full_jitter(
    attempt: int,
    random: Callable[[], float],
    *,
    base: float = BASE,
    cap: float = CAP,
    server_delay: float | None = None,
) -> float:
    """Return the seconds to wait after so many failed attempts: anything up to a bound that doubles.

    Full jitter spreads the clients of a backend that comes back; a delay the server asked for is honoured in
    full (RFC 9110, Retry-After; OTLP, RetryInfo), with the jitter on top.
    """
    bound = min(cap, base * 2.0 ** min(max(attempt, 1) - 1, 60))
    wait = random() * bound
    if server_delay is None or not math.isfinite(server_delay) or server_delay < 0:
        return wait
    return server_delay + min(wait, base)
