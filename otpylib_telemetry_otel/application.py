"""All of the telemetry of an application in one object, with or without otpylib around it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.supervision.specs import checked_argument
from otpylib_telemetry_otel.exporter import OtelExporter
from otpylib_telemetry_otel.set_up import DEFAULT_SHUTDOWN, PATIENCE, SetUp

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType

    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer


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
        self.set_up: SetUp | None = None

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
        # What it refuses it refuses before anything is set up.
        logging.Handler(level)
        with SetUp.lock:
            self._initialize("logs").bridged = True
            return logging_bridge.install(level=level)

    def shutdown(self, timeout: float | None = None) -> Ended:
        """Export what is held, and take everything out again. Called again, it does nothing.

        Where another object of the same name and settings shares it, that one goes on with it.

        Args:
            timeout: Seconds that exporting may take; ``shutdown_timeout`` by default.

        Returns:
            The end. With a runtime of its own it has come when this returns. In an otpylib application, await
            it.
        """
        seconds = self._settings.get("shutdown_timeout", DEFAULT_SHUTDOWN) if timeout is None else timeout
        with SetUp.lock:
            set_up, self.set_up = self.set_up, None
            if set_up is None:
                return Ended()
            last = set_up.left_by(self)
            work = set_up.end(seconds) if last else set_up.flush(seconds)
            if set_up.own is None:
                return Ended(task=set_up.in_background(work))
            try:
                return Ended(set_up.own.call(work, seconds + PATIENCE))
            finally:
                if last:
                    set_up.own.stop()

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

    def _initialize(self, signal: str) -> SetUp:
        with SetUp.lock:
            set_up = self.set_up
            if set_up is None:
                set_up = self.set_up = SetUp.shared_by(self, self._settings)
            try:
                set_up.switch_on(signal)
            except BaseException:
                self.set_up = set_up if set_up.signals else None
                set_up.give_up(self)
                raise
            return set_up
