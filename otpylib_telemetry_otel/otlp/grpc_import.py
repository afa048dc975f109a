"""gRPC, imported so that it does not write to standard error.

Its core writes a line about every TLS handshake that fails, one for each attempt of an outage. What it is to
write it reads from the environment, once, when it is imported. An application that has imported gRPC before,
or says in ``GRPC_VERBOSITY`` what it wants, is left alone.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from otpylib_telemetry.primitives.fork import import_module

_VERBOSITY: Final = "GRPC_VERBOSITY"


def _import() -> Any:
    if "grpc" in sys.modules or _VERBOSITY in os.environ:
        return import_module("grpc")
    os.environ[_VERBOSITY] = "ERROR"
    try:
        return import_module("grpc")
    finally:
        # Not for those that this process starts.
        os.environ.pop(_VERBOSITY, None)


grpc: Final[Any] = _import()
