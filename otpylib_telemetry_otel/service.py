"""TelemetryService: the OpenTelemetry API as a source of what the exporters export.

An application, or an instrumentation it uses, that makes spans through the OpenTelemetry API gets a provider
whose spans go the way of our own events: through the exporter's queue, its sampling, its breaker, its ledger
and its configuration, without a thread or a queue of the SDK's. Spans of both kinds are parents and children
of each other.

Log records made through the API become events of the bus. What is measured through it is added to the series
of the exporters, which send them with those of definitions.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib import supervisor
from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.restart import promised
from otpylib_telemetry.meters.views import checked_views
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.threads import run_in_thread
from otpylib_telemetry.supervision.specs import checked_argument, said_before_raised
from otpylib_telemetry.supervision.supervisor import Child, Supervision
from otpylib_telemetry_otel.api.forwarding import MAX_WAITING, SpanForwarder
from otpylib_telemetry_otel.exporter import OtelExporter

if TYPE_CHECKING:
    from types import ModuleType


_log = logging.getLogger("otpylib_telemetry")

#: The name it is registered under.
SERVICE: Final = "telemetry_service"

_LOOK: Final = "telemetry_service_look"

#: Seconds that loading OpenTelemetry may hold up the start; what takes longer goes on beside it.
_FIRST_LOAD: Final = 2.0

#: Seconds between two looks for exporters that have not come up yet, and after which one says so.
_LOOK_INTERVAL: Final = 0.25
_PATIENCE: Final = 5.0

#: Seconds a service that crashed waits for a successor before it is uninstalled: any supervisor restarts
#: faster.
_SUCCESSION: Final = 1.0

#: Keys of the argument.
_KEYS: Final = ("exporters", "metrics", "views")


class _Argument(NamedTuple):
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

    service: _Service | None = None


class _Service:
    """The state of the process.

    Args:
        name: Its registered name.
        argument: What it was started with.
    """

    def __init__(self, name: str, argument: object) -> None:
        self.name = name
        self.process = otp.OwnProcess()
        self.loop = self.process.loop
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
        self._argument = _Argument()
        refusal = None
        try:
            self._argument = _checked(argument)
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
            api, logger_provider, meter_provider = await run_in_thread(_load)
        except Exception as error:  # noqa: BLE001 - a missing package, or one that fails to load
            missing = (
                f"OpenTelemetry cannot be used ({describe(error)}): pip install 'otpylib-telemetry[otel]'"
            )
            self._rest("idle", missing)
            return
        if self.ended:
            return
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


def _load() -> tuple[ModuleType, ModuleType, ModuleType]:
    from otpylib_telemetry_otel.api import (  # noqa: PLC0415
        logger_provider,
        meter_provider,
        tracer_provider,
    )

    return tracer_provider, logger_provider, meter_provider


def _checked(argument: object) -> _Argument:
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
    return _Argument(tuple(dict.fromkeys(names)), metrics, views)


async def _init(self: Any, arg: Any) -> _Service:
    name, argument = arg
    service = self._service = _Service(str(name), argument)
    await service.begin()
    if not service.look():
        return service
    service.process.post_later(_LOOK_INTERVAL, (_LOOK,))
    return service


async def _handle_call(_self: Any, message: Any, _from: Any, state: _Service) -> Any:
    if otp.is_request(message, "get_stats"):
        return (Reply(payload=state.stats()), state)
    state.unknown += 1
    return (Reply(payload=("error", "unknown request; TelemetryService answers ('get_stats',)")), state)


async def _handle_cast(_self: Any, _message: Any, state: _Service) -> Any:
    state.unknown += 1
    return (NoReply(), state)


async def _handle_info(_self: Any, message: Any, state: _Service) -> Any:
    if not otp.is_request(message, _LOOK):
        state.unknown += 1
    elif state.look():
        state.process.post_later(_LOOK_INTERVAL, (_LOOK,))
    return (NoReply(), state)


async def _terminate(self: Any, reason: Any, _state: Any) -> None:
    service: _Service | None = getattr(self, "_service", None)
    if service is not None:
        service.end(crashed=isinstance(reason, Exception))


TelemetryService = otp.server_module(
    "TelemetryService",
    {
        "init": _init,
        "handle_call": _handle_call,
        "handle_cast": _handle_cast,
        "handle_info": _handle_info,
        "terminate": _terminate,
    },
    default_name=SERVICE,
    module=__name__,
    doc=(
        "GenServer registered as ``telemetry_service``. While it runs, spans made through the OpenTelemetry\n"
        "API go to the exporters named in its argument, by default ``{'exporters': ['otel_exporter']}``,\n"
        "and nest with those of ``otpylib_telemetry.span``; what is measured through it is added to their\n"
        "series. Answers ``('get_stats',)``."
    ),
)
TelemetryService.registered_name = SERVICE


async def start_telemetry_service(argument: Mapping[str, Any] | None = None) -> Any:
    """Start the service by itself, unsupervised; from anywhere a runtime is set.

    Args:
        argument: ``exporters``: the registered names of the exporters that are to have the spans and the
            metrics. ``metrics``: whether there are metrics; there are without it. ``views``: what becomes of
            the measurements of chosen instruments, see
            :class:`otpylib_telemetry.meters.views.View`.

    Returns:
        Its pid.

    Raises:
        ValueError: The argument is wrong.
        RuntimeError: No otpylib runtime is set.
    """
    with said_before_raised():
        _checked(argument)
    return await otp.start_server(TelemetryService, argument, SERVICE, link=False)


@said_before_raised()
def child_spec(config: Mapping[str, Any] | None = None, *, with_exporter: bool = True) -> Any:
    """Return a child spec for the whole set-up, under a supervisor of its own.

    Args:
        config: Settings of the OpenTelemetry exporter that go before configuration.
        with_exporter: False where the exporter ``otel_exporter`` is in the tree already, for instance as part
            of the suite.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        ValueError: A wrong setting; the message lists every one. Or settings for an exporter that is not
            started here.
    """
    if config and not with_exporter:
        raise ValueError(f"{SERVICE}: settings of the exporter belong where the exporter is started")
    settings = checked_argument(OtelExporter, config) if with_exporter else None
    return supervisor.child_spec(
        id=f"{SERVICE}_sup", module=TelemetryServiceSupervisor, args=settings, name=f"{SERVICE}_sup"
    )


async def _supervise(ready: asyncio.Future[Any], _parent: Any, settings: Mapping[str, Any] | None) -> None:
    children = [Child(SERVICE, TelemetryService)]
    if settings is not None:
        # The service is started after it and ended before it: what ended until then is still exported.
        children.insert(0, Child(OtelExporter.registered_name, OtelExporter, dict(settings)))
    await Supervision(children).run(ready)


async def _start_supervisor(_cls: Any, init_arg: Any = None, name: str | None = None) -> Any:
    return await otp.start_supervisor(_supervise, [init_arg], name or f"{SERVICE}_sup")


TelemetryServiceSupervisor = otp.supervisor_module(
    "TelemetryServiceSupervisor",
    _start_supervisor,
    module=__name__,
    doc="Supervisor of the service and, as a rule, of its exporter; see :func:`child_spec`.",
)
