"""How this package introduces itself to those it sends to."""

from __future__ import annotations

import platform

from otpylib_telemetry.version import DISTRIBUTION, __version__


def user_agent() -> str:
    """Return what we call ourselves: exporter, version and language (OTLP exporter, "User Agent")."""
    return f"{DISTRIBUTION}/{__version__ or 'unknown'} Python/{platform.python_version()}"
