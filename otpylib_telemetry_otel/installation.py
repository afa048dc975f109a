"""Our providers in the OpenTelemetry API: what is made through it goes to the exporters."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.restart import promised
from otpylib_telemetry.meters.views import checked_views
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import after_fork_in_child, importing
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry_otel.api.forwarding import MAX_WAITING, SpanForwarder
from otpylib_telemetry_otel.exporter import OtelExporter

if TYPE_CHECKING:
    from types import ModuleType


_log = logging.getLogger("otpylib_telemetry")

#: The name it is registered under.
SERVICE: Final = "telemetry_service"

#: Seconds that loading OpenTelemetry may hold up the start; what takes longer goes on beside it.
_FIRST_LOAD: Final = 2.0

#: Seconds between two looks for exporters that have not come up yet, and after which one says so.
LOOK_INTERVAL: Final = 0.25
_PATIENCE: Final = 5.0

#: Seconds a service that crashed waits for a successor before it is uninstalled: any supervisor restarts
#: faster.
_SUCCESSION: Final = 1.0

#: Keys of the argument.
_KEYS: Final = ("exporters", "metrics", "views")


class Options(NamedTuple):
    """What a service is started with.

    Attributes:
        exporters: The registered names of the exporters.
        metrics: Whether metrics are carried.
        views: What becomes of the measurements of chosen instruments.
    """

    exporters: tuple[str, ...] = ()
    metrics: bool = True
    views: tuple[Any, ...] = ()


class _Current:
    """The service that was installed last; an earlier one that ends leaves it alone."""

    service: Installation | None = None

    @classmethod
    def forget(cls) -> None:
        """Leave it to the parent: in a forked child there is none."""
        cls.service = None


after_fork_in_child(_Current.forget)


class Installation:
    """One installation of our providers, and what becomes of them.

    Args:
        name: Its registered name.
        argument: What it was started with.
        loop: The event loop it works on; the running one by default.
    """

    def __init__(self, name: str, argument: object, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop() if loop is None else loop
        self.state = "starting"
        self.reason: str | None = None
        self.provider: str | None = None
        self.unknown = 0
        self.ended = False
        self.logs: str | None = None
        self.metrics: str | None = None
        self._api: ModuleType | None = None
        self._api_logs: ModuleType | None = None
        self._api_meters: ModuleType | None = None
        self._started = time.monotonic()
        self._complained = False
        self._argument = Options()
        refusal = None
        try:
            self._argument = checked_options(argument)
        except ValueError as error:
            refusal = str(error)
        self.forwarder = SpanForwarder(self._argument.exporters, self.loop)
        if refusal is not None:
            self._rest("idle", refusal)

    async def begin(self) -> None:
        """Install everything, unless it is not to be."""
        if self.state == "idle":
            return
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            self.state, self.reason = "disabled", "OTEL_SDK_DISABLED is true"
            return
        installing = otp.run_in_background(self.loop, self._install(), name=f"{self.name} start")
        await asyncio.wait({installing}, timeout=_FIRST_LOAD)

    async def _install(self) -> None:
        try:
            api, logger_provider, meter_provider = await run_in_thread(load_providers)
        except Exception as error:  # noqa: BLE001 - a missing package, or one that fails to load
            missing = (
                f"OpenTelemetry cannot be used ({describe(error)}): pip install 'otpylib-telemetry[otel]'"
            )
            self._rest("idle", missing)
            return
        if not self.ended:
            self.install(api, logger_provider, meter_provider)

    def install(self, api: ModuleType, logger_provider: ModuleType, meter_provider: ModuleType) -> None:
        """Have the API's spans, log records and measurements go to the exporters."""
        try:
            self.provider = api.install(self.forwarder)
        except Exception as error:  # noqa: BLE001 - a provider of the application's own making
            self._rest("idle", describe(error).removeprefix("UnusableProviderError: "))
            return
        self._api, self._api_logs = api, logger_provider
        self.logs = "running" if logger_provider.install() else "the global LoggerProvider takes no processor"
        self._install_metrics(meter_provider)
        self.state = "running"
        predecessor, _Current.service = _Current.service, self
        if predecessor is not None and predecessor is not self:
            self.forwarder.take_over(predecessor.forwarder)

    def _install_metrics(self, meter_provider: ModuleType) -> None:
        if not self._argument.metrics:
            self.metrics = "off: metrics is false"
        elif os.environ.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "none":
            self.metrics = "off: OTEL_METRICS_EXPORTER is none"
        else:
            try:
                self.metrics = meter_provider.install(
                    self._argument.exporters, self._argument.views, self.forwarder.flush
                )
            except Exception as error:  # noqa: BLE001 - a provider of the application's own making
                self.metrics = f"not carried: {describe(error)}"
            self._api_meters = meter_provider
            if self.metrics != meter_provider.RUNNING:
                _log.warning("%s: metrics of the OpenTelemetry API are %s.", self.name, self.metrics)

    def _rest(self, state: str, reason: str) -> None:
        # What fails may speak of what the exporters were told: their secrets are ours to keep as well.
        for target in self.forwarder.targets:
            reason = registry.scrub(target.name, reason)
        self.state, self.reason = state, reason
        _log.warning(
            "%s is %s: %s. Spans, log records and metrics of the OpenTelemetry API do not reach the "
            "exporters.",
            self.name,
            state,
            reason,
        )

    def look(self) -> bool:
        """Hand over what waits for exporters that have come up; returns whether to look again."""
        if self._api_meters is not None and self.metrics == self._api_meters.RUNNING:
            for name in self._api_meters.renew():
                _log.warning(
                    "%s: %s spells the names of metrics as Prometheus has them, which was not known before "
                    "it came up. What was measured for it through the OpenTelemetry API until now is not on "
                    "its page.",
                    self.name,
                    name,
                )
        if self.state not in {"starting", "running"} or self.forwarder.catch_up():
            return False
        if not self._complained and time.monotonic() - self._started > _PATIENCE:
            self._complained = True
            absent = [target.name for target in self.forwarder.targets if not target.ready]
            _log.warning(
                "%s: no exporter is up under the name %s. The latest spans of the OpenTelemetry API wait for "
                "it, %d at most.",
                self.name,
                ", ".join(absent),
                MAX_WAITING,
            )
        return True

    def stats(self) -> dict[str, Any]:
        """Return what it does, and what became of the spans."""
        return {
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "uptime": time.monotonic() - self._started,
            "provider": self.provider,
            "exporters": {target.name: target.stats() for target in self.forwarder.targets},
            "missed": 0 if self._api is None else self._api.missed(),
            "signals": {
                "traces": self.state,
                "logs": self.logs or self.state,
                "metrics": self.metrics or self.state,
            },
            "meters": None if self._api_meters is None else self._api_meters.stats(),
            "unknown_messages": self.unknown,
        }

    def end(self, *, crashed: bool) -> None:
        """Uninstall everything, or leave it to a successor where there may be one."""
        self.ended = True
        if crashed or promised(self.name) is not None:
            otp.run_in_background(self.loop, self._await_successor(), name=f"{self.name} succession")
        else:
            self.uninstall()

    async def _await_successor(self) -> None:
        try:
            promise = promised(self.name)
            if promise is not None:
                released = asyncio.ensure_future(promise.released.wait())
                while _Current.service is self and not released.done():
                    await asyncio.wait({released}, timeout=_SUCCESSION)
                released.cancel()
            else:
                await asyncio.sleep(_SUCCESSION)
        finally:
            # Also when the application ends, and cancels this.
            self.uninstall()

    def uninstall(self) -> None:
        """Uninstall everything, unless another service has been installed."""
        self.ended = True
        if _Current.service is not self:
            return
        _Current.service = None
        if self._api is not None:
            self._api.uninstall(self.forwarder)
        if self._api_logs is not None:
            self._api_logs.uninstall()
        if self._api_meters is not None:
            self._api_meters.uninstall()
        self.forwarder.give_up()
        self.state = "stopped"


def load_providers() -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import what installs providers of spans, log records and metrics."""
    with importing():
        from otpylib_telemetry_otel.api import (  # noqa: PLC0415
            added_processors,
            logger_provider,
            meter_provider,
            tracer_provider,
        )
        from otpylib_telemetry_otel.resources import current_resource  # noqa: PLC0415
        from otpylib_telemetry_otel.sdk.spans import SpanConverter  # noqa: PLC0415

    added_processors.convert_with(lambda span: SpanConverter(current_resource()).convert([span])[0])

    return tracer_provider, logger_provider, meter_provider


def checked_options(argument: object) -> Options:
    """Return a start argument with what it leaves out.

    Raises:
        ValueError: The argument is wrong.
    """
    if argument is None:
        argument = {}
    if not isinstance(argument, Mapping):
        raise ValueError(  # noqa: TRY004 - callers are promised one kind of exception
            f"{SERVICE}: a table was expected, not {type(argument).__name__}"
        )
    for key in argument:
        if key not in _KEYS:
            raise ValueError(f"{SERVICE}: there is no setting {key!r}; there are {', '.join(_KEYS)}")
    names = argument.get("exporters", (OtelExporter.registered_name,))
    if (
        not isinstance(names, list | tuple)
        or not names
        or not all(name and isinstance(name, str) for name in names)
    ):
        raise ValueError(f"{SERVICE}: exporters is a list of registered names, such as ['otel_exporter']")
    metrics = argument.get("metrics", True)
    if type(metrics) is not bool:
        raise ValueError(f"{SERVICE}: metrics is true or false, got {metrics!r}")
    try:
        views = checked_views(argument.get("views", ()))
    except TypeError as error:
        raise ValueError(f"{SERVICE}: views: {error}") from None
    return Options(tuple(dict.fromkeys(names)), metrics, views)
