"""TelemetryService: the OpenTelemetry API as a source of what the exporters export.

An application, or an instrumentation it uses, that makes spans through the OpenTelemetry API gets a provider
whose spans go the way of our own events: through the exporter's queue, its sampling, its breaker, its ledger
and its configuration, without a thread or a queue of the SDK's. Spans of both kinds are parents and children
of each other.

Log records made through the API become events of the bus. What is measured through it is added to the series
of the exporters, which send them with those of definitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib import supervisor
from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.supervision.specs import checked_argument, said_before_raised
from otpylib_telemetry.supervision.supervisor import Child, Supervision, Watcher
from otpylib_telemetry_otel.application import ApplicationTelemetry
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_otel.installation import LOOK_INTERVAL, SERVICE, Installation, checked_options

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping


_LOOK: Final = "telemetry_service_look"


async def _init(self: Any, arg: Any) -> Installation:
    name, argument = arg
    self._process = otp.OwnProcess()
    service = self._service = Installation(str(name), argument)
    await service.begin()
    if service.look():
        self._process.post_later(LOOK_INTERVAL, (_LOOK,))
    return service


async def _handle_call(_self: Any, message: Any, _from: Any, state: Installation) -> Any:
    if otp.is_request(message, "get_stats"):
        return (Reply(payload=state.stats()), state)
    state.unknown += 1
    return (Reply(payload=("error", "unknown request; TelemetryService answers ('get_stats',)")), state)


async def _handle_cast(_self: Any, _message: Any, state: Installation) -> Any:
    state.unknown += 1
    return (NoReply(), state)


async def _handle_info(self: Any, message: Any, state: Installation) -> Any:
    if not otp.is_request(message, _LOOK):
        state.unknown += 1
    elif state.look():
        self._process.post_later(LOOK_INTERVAL, (_LOOK,))
    return (NoReply(), state)


async def _terminate(self: Any, reason: Any, _state: Any) -> None:
    service: Installation | None = getattr(self, "_service", None)
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
        "series. Answers ``('get_stats',)``.\n\n"
        "``TelemetryService('my-application')`` sets all of it up in one call, without a supervision tree:\n"
        "see :class:`~otpylib_telemetry_otel.application.ApplicationTelemetry`."
    ),
)
TelemetryService.registered_name = SERVICE


def _new(cls: Any, *args: Any, **kwargs: Any) -> Any:
    """Make the server, as otpylib does, or what ``TelemetryService("my-application")`` asks for."""
    return ApplicationTelemetry(*args, **kwargs) if args or kwargs else object.__new__(cls)


TelemetryService.__new__ = staticmethod(_new)


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
    checked_options(argument)
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
    await Supervision(children, Watcher()).run(ready)


async def _start_supervisor(_cls: Any, init_arg: Any = None, name: str | None = None) -> Any:
    return await otp.start_supervisor(_supervise, [init_arg], name or f"{SERVICE}_sup")


TelemetryServiceSupervisor = otp.supervisor_module(
    "TelemetryServiceSupervisor",
    _start_supervisor,
    module=__name__,
    doc="Supervisor of the service and, as a rule, of its exporter; see :func:`child_spec`.",
)
