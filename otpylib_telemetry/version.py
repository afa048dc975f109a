"""The version of the installed distribution, which holds all four packages."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

DISTRIBUTION: Final = "otpylib-telemetry"


def _installed() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""  # it is not installed but only lies there


__version__: Final = _installed()
