"""The service that serves the admin API as ``telemetry.admin`` says, and its GenServer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.admin.server import Server
from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.admin.sockets import UnavailableError
from otpylib_telemetry.primitives.fork import import_module
from otpylib_telemetry.services.server import service_module
from otpylib_telemetry.services.service import Service

if TYPE_CHECKING:
    from collections.abc import Mapping


class Admin(Service):
    """Serves as its settings say."""

    def __init__(self) -> None:
        self._server = Server()
        self._is_watching = False

    async def apply(self, settings: AdminSettings) -> None:
        """Serve there, and nowhere else."""
        await self._server.go_by(settings)
        self._watch(settings.enabled)
        if settings.enabled and settings.socket is None and settings.port is None:
            raise UnavailableError(
                "nothing says where the admin API is to be served: set telemetry.admin.socket, or "
                "telemetry.admin.port"
            )

    def _watch(self, watched: bool) -> None:  # noqa: FBT001  # whether
        """Take notice of crashes and restarts while it is served: what shows them is there then."""
        if watched == self._is_watching:
            return
        self._is_watching = watched
        actors: Any = import_module("otpylib_telemetry.admin.actors")
        traces: Any = import_module("otpylib_telemetry.admin.traces")
        if watched:
            actors.incidents.begin()
        else:
            actors.incidents.end()
            traces.recorder.end()

    async def stop(self) -> None:
        """Serve no more."""
        self._watch(False)
        await self._server.stop()

    def loss(self) -> str | None:
        """Say which socket is gone."""
        return self._server.loss()

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
