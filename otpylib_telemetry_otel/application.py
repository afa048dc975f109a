"""All of the telemetry of an application in one object, with or without otpylib around it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from otpylib import gen_server
from otpylib.runtime import get_runtime

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.primitives.fork import new_rlock
from otpylib_telemetry.supervision.specs import checked_argument, start_exporter
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_otel.installation import LOOK_INTERVAL, SERVICE, Installation, load_providers
from otpylib_telemetry_otel.own_runtime import OwnRuntime

if TYPE_CHECKING:
    import logging
    from collections.abc import Generator
    from types import TracebackType

    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

_EXPORTER: Final = OtelExporter.registered_name

_SIGNALS: Final = ("traces", "metrics", "logs")

#: Seconds that the exporter may take to start, and beyond its own limit to end.
_PATIENCE: Final = 30.0

#: Seconds that a change may take to count, and between two looks at what nobody announces.
_APPLIED: Final = 5.0
_POLL: Final = 0.02

_DEFAULT_SHUTDOWN: Final = 5.0


class Ended:
    """The end of an application's telemetry: may be awaited, and need not be where it has come already.

    Attributes:
        report: What the exporter says at its end: ``exported``, ``left`` and ``reason``. None before, and
            where somebody else started the exporter.
    """

    def __init__(self, report: dict[str, Any] | None = None, task: asyncio.Task[Any] | None = None) -> None:
        self.report = report
        self._task = task

    def __await__(self) -> Generator[Any, None, dict[str, Any] | None]:
        if self._task is not None:
            self.report = yield from asyncio.shield(self._task).__await__()
        return self.report


class ApplicationTelemetry:
    """Sets up OpenTelemetry for an application: ``TelemetryService("shop", service_version="1.0.0")``.

    Spans, measurements and log records made through the OpenTelemetry API, ``span``, ``emit`` and Python's
    logging then leave through one ``otel_exporter``. In a running otpylib application it is started there,
    unless it runs already. Elsewhere it gets a runtime of its own, on a thread. Configuration counts as
    everywhere: ``OTEL_*`` variables, ``TELEMETRY_*`` variables, and ``[telemetry.otel]``.

    Each ``initialize_`` method may be called first, and again. It is a context manager, plain and async.
    """

    def __init__(self, service_name: str, service_version: str | None = None, **settings: Any) -> None:
        """Check what is asked for; nothing starts yet.

        Args:
            service_name: What the application is called, ``service.name`` of the resource.
            service_version: Its version, ``service.version`` of the resource.
            settings: Any keys of ``[telemetry.otel]``, such as ``endpoint``.

        Raises:
            ValueError: A wrong setting; the message lists every one.
        """
        self.service_name = service_name
        self.service_version = service_version
        given = {"service_name": service_name, **settings}
        if service_version is not None:
            resource = settings.get("resource")
            given["resource"] = {**(resource or {}), "service.version": service_version}
        self._settings = checked_argument(OtelExporter, given)
        self._signals: set[str] = set()
        self._lock = new_rlock()
        self._own: OwnRuntime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._installation: Installation | None = None
        self._pid: Any = None
        self._starting: asyncio.Task[Any] | None = None
        self._bridge: logging.Handler | None = None

    def initialize_tracing(self) -> Tracer:
        """Have spans exported.

        Returns:
            A tracer with the application's name and version.

        Raises:
            RuntimeError: Called in a thread without the event loop of the otpylib runtime that is set.
        """
        self._initialize("traces")
        from opentelemetry import trace  # noqa: PLC0415  # what is not installed must not be missed on import

        return trace.get_tracer(self.service_name, self.service_version)

    def initialize_metrics(self) -> Meter:
        """Have metrics exported.

        Returns:
            A meter with the application's name and version.

        Raises:
            RuntimeError: As for :meth:`initialize_tracing`.
        """
        self._initialize("metrics")
        from opentelemetry import metrics  # noqa: PLC0415  # as above

        return metrics.get_meter(self.service_name, self.service_version or "")

    def initialize_logging(self, level: int | str = "NOTSET") -> logging.Handler:
        """Have log records exported, those of Python's logging included.

        Args:
            level: Records of Python's logging below it are not taken. The level of each logger counts
                besides.

        Returns:
            The handler on the root logger.

        Raises:
            RuntimeError: As for :meth:`initialize_tracing`.
            ValueError: There is no such level.
        """
        self._initialize("logs")
        self._bridge = logging_bridge.install(level=level)
        return self._bridge

    def shutdown(self, timeout: float | None = None) -> Ended:
        """Export what is held, and take everything out again. Called again, it does nothing.

        Args:
            timeout: Seconds that exporting may take; ``shutdown_timeout`` by default.

        Returns:
            The end. With a runtime of its own it has come when this returns. In an otpylib application, await
            it.
        """
        with self._lock:
            if self._bridge is not None:
                logging_bridge.uninstall()
                self._bridge = None
            own, loop, installation = self._own, self._loop, self._installation
            self._own = self._loop = self._installation = None
            self._signals = set()
        if loop is None or installation is None:
            return Ended()
        seconds = self._settings.get("shutdown_timeout", _DEFAULT_SHUTDOWN) if timeout is None else timeout
        if own is None:
            return Ended(
                task=otp.run_in_background(loop, self._end(installation, seconds), name="telemetry end")
            )
        try:
            return Ended(own.call(self._end(installation, seconds), seconds + _PATIENCE))
        finally:
            own.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.shutdown()

    def _initialize(self, signal: str) -> None:
        with self._lock:
            if signal in self._signals:
                return
            self._signals.add(signal)
            try:
                if self._loop is None:
                    self._begin()
                else:
                    self._run(self._switch_on(signal))
            except BaseException:
                self._signals.discard(signal)
                raise

    def _begin(self) -> None:
        """Install the providers, here and now, and start the exporter."""
        providers = load_providers()
        if get_runtime() is None:
            own = OwnRuntime()
            try:
                self._loop = own.call(self._install(providers), _PATIENCE)
                own.call(self._start_exporter(self._installation, self._signals), _PATIENCE)
            except BaseException:
                self._loop = None
                own.stop()
                raise
            self._own = own
            return
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "an otpylib runtime is set: initialize telemetry in a coroutine of the event loop it runs on"
            ) from None
        self._install_here(providers)
        self._starting = otp.run_in_background(
            self._loop, self._start_exporter(self._installation, self._signals), name="telemetry start"
        )

    async def _install(self, providers: Any) -> asyncio.AbstractEventLoop:
        self._install_here(providers)
        return asyncio.get_running_loop()

    def _install_here(self, providers: Any) -> None:
        self._installation = Installation(SERVICE, {"exporters": [_EXPORTER]})
        self._installation.install(*providers)
        self._look()

    def _look(self) -> None:
        """Hand over what waits for the exporter, until it has come up."""
        if self._installation is not None and self._installation.look():
            self._installation.loop.call_later(LOOK_INTERVAL, self._look)

    async def _start_exporter(self, installation: Installation | None, signals: set[str]) -> None:
        # Both are handed over: it may be shut down before this begins, and what has ended by then is sent.
        if otp.whereis(_EXPORTER) is None:
            # What is not initialized yet is off; the rest is as configured.
            off = dict.fromkeys(set(_SIGNALS) - signals, False)
            self._pid = await start_exporter(OtelExporter, {**off, **self._settings})
        while installation is not None and not installation.ended and not registry.is_configured(_EXPORTER):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_POLL)
        if installation is not None:
            installation.look()

    async def _switch_on(self, signal: str) -> None:
        if self._starting is not None:
            await asyncio.shield(self._starting)
        if self._pid is None:
            return
        change = ("config_changed", f"{OtelExporter.section}.{signal}", False, True)
        await gen_server.cast(_EXPORTER, change)
        # What is emitted before it counts would be dealt with by the old rule.
        deadline = asyncio.get_running_loop().time() + _APPLIED
        while not _counts(signal) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(_POLL)

    def _run(self, work: Any) -> None:
        if self._own is not None:
            self._own.call(work, _PATIENCE)
        elif self._loop is not None:
            otp.run_in_background(self._loop, work, name="telemetry change")

    async def _end(self, installation: Installation, seconds: float) -> dict[str, Any] | None:
        if self._starting is not None:
            await asyncio.wait({self._starting}, timeout=seconds)
        pid, self._pid = self._pid, None
        # The spans that have ended until now still go to the exporter.
        installation.uninstall()
        if pid is None:
            return None
        report: dict[str, Any] = await otp.safe_call(
            _EXPORTER, ("drain", seconds), timeout=seconds + _PATIENCE
        )
        task = otp.task_of(pid)
        await otp.end_quietly(pid)
        if task is not None:
            await asyncio.wait({task}, timeout=_PATIENCE)
        return report


def _counts(signal: str) -> bool:
    """Tell whether the exporter works with the signal by now."""
    state = registry.find(_EXPORTER)
    return state is None or state.applied is None or bool(getattr(state.applied, signal))
