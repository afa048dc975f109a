"""Ports that nobody else takes between choosing and using them."""

import itertools
import os
import re
import socket

# Below the range that Linux gives to outgoing connections (32768 and up): one of those would otherwise sit on
# the chosen port sooner or later, above all while a server under test is stopped and is to come back.
FIRST = 20_000
LAST = 32_000
SHARES = 12


def _share():
    """Test processes that run side by side choose from different ranges."""
    number = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "")) or 0)
    size = (LAST - FIRST) // SHARES
    start = FIRST + (number % SHARES) * size
    offset = os.getpid() * 37 % size
    return itertools.cycle([*range(start + offset, start + size), *range(start, start + offset)])


_candidates = _share()


def is_free(port, host="127.0.0.1"):
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port():
    """A port on which nothing listens; no two calls give the same one for a long while."""
    return next(port for port in itertools.islice(_candidates, LAST - FIRST) if is_free(port, "0.0.0.0"))
