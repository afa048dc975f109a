"""What ``opentelemetry-instrument`` finds here: our exporters for an application that does nothing for them.

Only OpenTelemetry's auto-instrumentation imports this. What it starts is configured by the environment alone,
and steps back for what the application sets up itself.
"""

from __future__ import annotations

import functools
import logging
import logging.config
import os
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined,unused-ignore]

from otpylib_telemetry.config import sections
from otpylib_telemetry.config.resolve import resolve
from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("otpylib_telemetry")

#: What distro and configurator are registered as: what ``OTEL_PYTHON_DISTRO`` chooses.
NAME: Final = "otpylib_telemetry"

_CONFIGURATOR: Final = "OTEL_PYTHON_CONFIGURATOR"

#: Declarative configuration: the name of its variable, and the one it had before.
_CONFIG_FILES: Final = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE")

#: Whether Python's logging is exported, under the name that OpenTelemetry's SDK has for it.
_LOGGING: Final = "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED"

#: Where OTLP is sent if nothing is said (OpenTelemetry, "OTLP Exporter": Endpoint).
_ENDPOINTS: Final = {"grpc": "http://localhost:4317", "http/protobuf": "http://localhost:4318"}

_SIGNALS: Final = ("traces", "metrics", "logs")


class Distro(BaseDistro):  # type: ignore[misc,unused-ignore]  # untyped in some releases
    """Chooses our configurator, unless the user has chosen one."""

    def _configure(self, **_kwargs: Any) -> None:
        os.environ.setdefault(_CONFIGURATOR, NAME)


class Configurator:
    """Installs our providers and starts the exporters that the environment asks for; once in a process."""

    _made: ClassVar[Configurator | None] = None

    def __new__(cls) -> Self:
        """Return the one there is."""
        if cls._made is None:
            cls._made = object.__new__(cls)
        made: Any = cls._made
        return made  # type: ignore[no-any-return]

    def __init__(self) -> None:
        self.set_up: Any = getattr(self, "set_up", None)

    def configure(self, *, auto_instrumentation_version: str | None = None, **_kwargs: Any) -> None:
        """Do so, or say in one line why not; the application starts in any case.

        Args:
            auto_instrumentation_version: The version of ``opentelemetry-instrument``, for the resource.
        """
        if self.set_up is not None or _is_true("OTEL_SDK_DISABLED"):
            return
        for variable in _CONFIG_FILES:
            if path := os.environ.get(variable):
                _log.error(
                    "%s is %s: otpylib-telemetry reads no declarative configuration, and exports nothing. "
                    "Unset it and use the other OTEL_ variables; or let OpenTelemetry's SDK read it, with "
                    "OTEL_PYTHON_DISTRO=distro and OTEL_PYTHON_CONFIGURATOR=configurator.",
                    variable,
                    path,
                )
                return
        try:
            self.set_up = _begin(auto_instrumentation_version)
        except Exception as error:  # noqa: BLE001  # a missing package, or whatever else: the application starts
            _log.error(  # a traceback into this package helps nobody
                "otpylib-telemetry cannot be set up, and exports nothing (%s): pip install "
                "'otpylib-telemetry[otel]', or choose another distro with OTEL_PYTHON_DISTRO.",
                describe(error),
            )


def _begin(version: str | None) -> Any:
    from otpylib_telemetry_otel.exporter import OtelExporter  # noqa: PLC0415  # needs what may not be installed
    from otpylib_telemetry_otel.set_up import SetUp  # noqa: PLC0415

    modules = [] if (page := _prometheus()) is None else [page]
    said = resolve(
        OtelExporter.exporter_type.settings_type, OtelExporter.section, environ=os.environ
    ).settings
    settings: dict[str, Any] = {}
    if any(getattr(said, signal) for signal in _SIGNALS):
        modules.insert(0, OtelExporter)
        settings = _settings(said, version)
    if not modules:
        return None
    made = SetUp.automatic(modules, settings)
    if _is_true(_LOGGING):
        made.bridged = True
        _keep(logging_bridge.install())
    return made


def _settings(said: Any, version: str | None) -> dict[str, Any]:
    """Return what is not in the environment and is understood there."""
    settings: dict[str, Any] = {}
    if said.exporter == "otlp" and said.endpoint is None:
        settings["endpoint"] = _ENDPOINTS.get(said.protocol, _ENDPOINTS["grpc"])
    if version is not None:
        settings["resource"] = {"telemetry.auto.version": version, **said.resource}
    return settings


def _prometheus() -> Any | None:
    """Return the exporter with the page, if it is asked for and can be had."""
    names = os.environ.get("OTEL_METRICS_EXPORTER", "").split(",")
    if "prometheus" not in {name.strip().lower() for name in names}:
        return None
    try:
        return sections.registered_exporters()["prometheus"].load()
    except Exception as error:  # noqa: BLE001  # a missing package, most of all
        _log.error(  # as above
            "OTEL_METRICS_EXPORTER names prometheus, which cannot be used (%s): pip install "
            "'otpylib-telemetry[prometheus]'. There is no page; everything else goes on.",
            describe(error),
        )
        return None


def _is_true(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() == "true"


def _keep(handler: logging.Handler) -> None:
    """Have the application configure its logging as if the handler were not there, and leave it in place.

    ``basicConfig`` does nothing where the root logger has a handler, and the others take every handler away.
    """
    root = logging.getLogger()

    def around(configure: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(configure)
        def configured(*args: Any, **kwargs: Any) -> None:
            is_there = handler in root.handlers
            if is_there:
                root.removeHandler(handler)
            try:
                configure(*args, **kwargs)
            finally:
                if is_there:
                    root.addHandler(handler)

        return configured

    logging.basicConfig = around(logging.basicConfig)
    logging.config.dictConfig = around(logging.config.dictConfig)
    logging.config.fileConfig = around(logging.config.fileConfig)
