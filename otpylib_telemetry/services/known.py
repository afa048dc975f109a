"""The services there are, by their sections: each is imported where somebody wants it.

What is said of them here has to agree with their modules; tests/services/test_services.py compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable


class KnownService:
    """A service: section, name, the keys of its settings, and its GenServer class once it is wanted."""

    def __init__(
        self, section: str, registered_name: str, keys: Iterable[str], home: str = "", module: Any = None
    ) -> None:
        self.section = section
        self.registered_name = registered_name
        self.keys: Final = tuple(keys)
        self._home = home
        self._module = module

    def load(self) -> Any:
        """Return the GenServer class."""
        if self._module is None:
            home, _, name = self._home.partition(":")
            self._module = getattr(import_module(home), name)
        return self._module

    async def load_in_thread(self) -> Any:
        """The same while the application runs: importing takes a while."""
        return self._module or await run_in_thread(self.load)


#: Those of the package itself. Their homes are ``module:class``, as in entry points.
SERVICES: Final = (
    KnownService(
        "telemetry.admin",
        "telemetry_admin",
        ("enabled", "socket", "host", "port", "token"),
        "otpylib_telemetry.admin.service:TelemetryAdmin",
    ),
    KnownService(
        "telemetry.instrument",
        "telemetry_instrument",
        (
            "enabled",
            "include",
            "exclude",
            "messages",
            "calls",
            "casts",
            "infos",
            "loop_stall_ms",
            "recorder",
            "payloads",
        ),
        "otpylib_telemetry.instrument.actors:TelemetryInstrument",
    ),
    KnownService(
        "telemetry.otpylib_logger",
        "otpylib_logger",
        ("enabled", "level", "payloads", "chain"),
        "otpylib_telemetry.instrument.otpylib_logger:OtpylibLogger",
    ),
    KnownService(
        "telemetry.poller",
        "telemetry_poller",
        ("enabled", "interval", "timeout", "measurements"),
        "otpylib_telemetry.poller.service:TelemetryPoller",
    ),
)
