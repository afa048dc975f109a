"""The resource of each exporter: whoever asks a provider of OpenTelemetry's API has to hear the same.

Imports OpenTelemetry only where a resource is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.exporter.registry import when_forgotten
from otpylib_telemetry.primitives.any_value import any_values, text
from otpylib_telemetry.primitives.fork import importing
from otpylib_telemetry.primitives.process_end import is_ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.resources import Resource

#: By the exporter's name, what is known of it; kept when it ends, because its successor has the same.
_published: dict[str, Mapping[str, Any]] = {}
_spoken_for: list[str] = []
#: What was made of the attributes that were asked for last.
_made: list[tuple[Mapping[str, Any], Resource]] = []
_NOTHING: Final[Mapping[str, Any]] = {}


def publish(exporter: str, attributes: Mapping[str, Any]) -> None:
    """Say what the resource of an exporter is."""
    _published[exporter] = attributes


def speak_for(exporters: Iterable[str]) -> None:
    """Say which exporters have what the providers make, now and until it is said anew."""
    _spoken_for[:] = exporters


def current_resource() -> Resource:
    """Return the resource of the first of these exporters that has one; OpenTelemetry's own if none has."""
    attributes = next((_published[name] for name in _spoken_for if name in _published), _NOTHING)
    for known, resource in _made:
        if known is attributes:
            return resource
    resource = complete(attributes)
    _made[:] = [(attributes, resource)]
    return resource


def complete(attributes: Mapping[str, Any]) -> Resource:
    """Make a resource of attributes, with what OpenTelemetry says by itself; all of it can be encoded."""
    with importing():
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - see the module's docstring

        # It imports detectors.
        made = _create(Resource, _exportable(attributes))
    # It may have found more, in OTEL_RESOURCE_ATTRIBUTES for instance.
    return Resource(_exportable(made.attributes), text(made.schema_url, None))


def _forget(exporters: list[str]) -> None:
    for name in exporters:
        _published.pop(name, None)


when_forgotten(_forget)


def _create(resource: type[Resource], attributes: dict[str, Any]) -> Resource:
    try:
        return resource.create(attributes)
    except RuntimeError:
        if not is_ending():
            raise
    # It asks its detectors on threads, of which there are none any more: the one it has by default is enough.
    from opentelemetry.sdk import resources  # noqa: PLC0415 - see the module's docstring
    from opentelemetry.sdk.version import __version__ as version  # noqa: PLC0415 - as above

    itself = resource(
        {
            resources.TELEMETRY_SDK_LANGUAGE: "python",
            resources.TELEMETRY_SDK_NAME: "opentelemetry",
            resources.TELEMETRY_SDK_VERSION: version,
        }
    )
    return itself.merge(resources.OTELResourceDetector().detect()).merge(resource(attributes))


def _exportable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    exportable, _ = any_values(attributes)
    return {key: value for key, value in exportable.items() if value is not None}
