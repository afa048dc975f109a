"""The service that serves the admin API as ``telemetry.admin`` says, and its GenServer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.admin.server import Server
from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.admin.sockets import UnavailableError
from otpylib_telemetry.services.server import Service, service_module

if TYPE_CHECKING:
    from collections.abc import Mapping


class Admin(Service):
    """Serves as its settings say."""

    def __init__(self) -> None:
        self._server = Server()

    async def apply(self, settings: AdminSettings) -> None:
        """Serve there, and nowhere else."""
        await self._server.go_by(settings)
        if settings.enabled and settings.socket is None and settings.port is None:
            raise UnavailableError(
                "nothing says where the admin API is to be served: set telemetry.admin.socket, or "
                "telemetry.admin.port"
            )

    async def stop(self) -> None:
        """Serve no more."""
        await self._server.stop()

    def stats(self) -> Mapping[str, Any]:
        """Return where it is served."""
        return {"socket": self._server.socket, "url": self._server.url, "port": self._server.port}


TelemetryAdmin = service_module(
    "TelemetryAdmin",
    AdminSettings,
    Admin,
    name="telemetry_admin",
    section="telemetry.admin",
    module=__name__,
    doc="GenServer that serves the admin API as ``telemetry.admin`` says, registered as ``telemetry_admin``.",
)
