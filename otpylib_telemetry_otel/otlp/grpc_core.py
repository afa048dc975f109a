"""gRPC's core, begun once, and only where it can begin.

With its last channel the core is shut down, and with the next one it begins anew. Where the process has no
file descriptor left at that moment, it does not fail but aborts the application.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

from otpylib_telemetry.exporter.errors import ExportError
from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry_otel.otlp.grpc_import import grpc

#: Descriptors that must be free for a channel to be made: the core needs some five, a connection one.
_NEEDED: Final = 16


class _Core:
    """What keeps the core from being shut down: a channel that nobody uses, and that never connects."""

    kept: ClassVar[Any] = None
    lock: ClassVar[Any] = new_lock()


def make_channel(target: str, credentials: Any | None, options: Any) -> Any:
    """Return a channel; without credentials its connection is not encrypted."""
    if not descriptors_left():
        raise ExportError("no file descriptor is left for a connection; it is made when there are some again")
    with _Core.lock:
        if _Core.kept is None:
            _Core.kept = grpc.insecure_channel("127.0.0.1:0")
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def descriptors_left() -> bool:
    """Tell whether the process may open as many files as a channel needs."""
    found: list[int] = []
    try:
        while len(found) < _NEEDED:
            found.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return False
    finally:
        for each in found:
            os.close(each)
    return True
