"""The OpenTelemetry variables that are not simply another name of a key: other units, other meanings.

The rules are those of OpenTelemetry's "Environment Variable Specification" and, for endpoints, of its "OTLP
Exporter" specification.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otpylib_telemetry.environment import parse_table
from otpylib_telemetry.settings import Unusable
from otpylib_telemetry_otel.endpoint import SignalUrl

#: The resource attribute that says which service it is.
SERVICE_NAME = "service.name"

_PARENT_BASED = "parentbased_"


def standard_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return what the environment gives to keys under names that are not simply other names of them.

    Args:
        environ: The variables that are set and not blank.

    Returns:
        By key, the variable and the value, as ``ExporterSettings.standard_environment`` describes.
    """
    found: dict[str, tuple[str, Any]] = {}
    _read_switches(environ, found)
    _read_endpoint(environ, found)
    _read_resource(environ, found)
    _read_sampler(environ, found)
    _read_batching(environ, found)
    return found


def _read_switches(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    disabled = environ.get("OTEL_SDK_DISABLED")
    if disabled is not None:
        match disabled.lower():
            case "true":
                found["enabled"] = ("OTEL_SDK_DISABLED", False)
            case "false":
                pass
            case _:
                found["enabled"] = ("OTEL_SDK_DISABLED", Unusable(disabled, "expected true or false"))
    exporter = environ.get("OTEL_TRACES_EXPORTER")
    if exporter == "none":
        found["traces"] = ("OTEL_TRACES_EXPORTER", False)
    elif exporter is not None:
        found["exporter"] = ("OTEL_TRACES_EXPORTER", exporter)
    if environ.get("OTEL_LOGS_EXPORTER") == "none":
        found["logs"] = ("OTEL_LOGS_EXPORTER", False)


def _read_endpoint(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    # The address for traces alone is used as it is and is the stronger one; the general one is a base.
    general, exact = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    if exact in environ:
        found["endpoint"] = (exact, SignalUrl(environ[exact]))
    elif general in environ:
        found["endpoint"] = (general, environ[general])
    logs = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
    if logs in environ:
        found["logs_endpoint"] = (logs, SignalUrl(environ[logs]))
    elif exact in environ and general in environ:
        # Only spans go elsewhere.
        found["logs_endpoint"] = (general, environ[general])


def _read_resource(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    variable = "OTEL_RESOURCE_ATTRIBUTES"
    if variable not in environ:
        return
    table = parse_table(environ[variable])
    found["resource"] = (variable, table)
    if isinstance(table, Mapping) and isinstance(table.get(SERVICE_NAME), str):
        # OTEL_SERVICE_NAME, being the env name of the field, is stronger: so says the specification.
        found["service_name"] = (variable, table[SERVICE_NAME])


def _read_sampler(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    variable, argument = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
    sampler = environ.get(variable)
    if sampler is None:
        return
    match sampler.removeprefix(_PARENT_BASED):
        case "always_on":
            found["sampling_rate"] = (variable, 1.0)
        case "always_off":
            found["sampling_rate"] = (variable, 0.0)
            # "Off" leaves no room for exceptions.
            found["always_keep_errors"] = (variable, False)
        case "traceidratio":
            if argument in environ:
                found["sampling_rate"] = (argument, environ[argument])
        case _:
            # One that some package registers, as every SDK takes it.
            found["sampler"] = (variable, sampler)
            if argument in environ:
                found["sampler_argument"] = (argument, environ[argument])
            return
    if sampler.startswith(_PARENT_BASED):
        found["sampling_parent_based"] = (variable, True)


def _read_batching(environ: Mapping[str, str], found: dict[str, tuple[str, Any]]) -> None:
    for key, variable in (
        ("batch_size", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        ("queue_limit", "OTEL_BSP_MAX_QUEUE_SIZE"),
    ):
        if variable in environ:
            found[key] = (variable, environ[variable])
    delay = environ.get("OTEL_BSP_SCHEDULE_DELAY")
    if delay is not None:
        found["flush_interval"] = ("OTEL_BSP_SCHEDULE_DELAY", _seconds(delay))


def _seconds(milliseconds: str) -> Any:
    try:
        return float(milliseconds) / 1000
    except ValueError:
        return Unusable(milliseconds, "expected a number of milliseconds")
