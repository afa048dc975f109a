"""The version of this package, and how it introduces itself."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final

_DISTRIBUTION: Final = "otpylib-telemetry"


def user_agent() -> str:
    """Return what we call ourselves: exporter, version and language (OTLP exporter, "User Agent")."""
    return f"{_DISTRIBUTION}/{own_version() or 'unknown'} Python/{platform.python_version()}"


def own_version() -> str:
    """Return the version of the installed distribution; empty if it is not installed but only lies there."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return ""
