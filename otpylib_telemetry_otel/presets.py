"""Backends that need no more than a key: the OpenTelemetry exporter with settings made up beforehand.

A preset is data. Whatever the user sets in its section goes before it, key by key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from otpylib_telemetry.config.settings import RefusedError
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.settings.model import OtelSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.exporter.probe import Probe

_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


@dataclass(frozen=True)
class Preset:
    """What is known beforehand about a backend; ``{name}`` stands for the key of that name."""

    title: str
    settings: Mapping[str, str]
    key_header: str
    source: str


#: Metrics have to be of delta temporality there.
DATADOG = Preset(
    title="Datadog",
    settings=MappingProxyType(
        {"endpoint": "https://otlp.{site}", "protocol": "http/protobuf", "metrics_temporality": "delta"}
    ),
    key_header="dd-api-key",
    source="https://docs.datadoghq.com/opentelemetry/setup/otlp_ingest/traces/",
)


class PresetSettings(OtelSettings):
    """What the exporter can be told where a preset knows the rest."""

    preset: ClassVar[Preset]

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Lay what was set over what the preset says."""
        if not isinstance(values, dict):
            return values
        parts = {key: _text(values.get(key), field.default) for key, field in cls.model_fields.items()}
        known = {key: template.format_map(parts) for key, template in cls.preset.settings.items()}
        return {**known, **values}

    def lacks_key(self) -> bool:
        """Tell whether the backend would take nothing for want of a key."""
        connection = self.connection("traces")
        return connection.protocol is not None and self.preset.key_header not in connection.headers

    def _key_header(self, api_key: str) -> tuple[str, str]:
        return self.preset.key_header, api_key


def _text(value: object, default: object) -> str:
    # Anything but a string is refused in its own place; what came from a ${...} is one of another class.
    return (str.__str__(value) if isinstance(value, str) else str(default)).strip()


class PresetBackend(OtelBackend):
    """The exporter, idle as long as it has no key."""

    def idle_reason(self) -> str | None:
        """Return why nothing is exported under the present settings, or None."""
        settings = self.settings
        if isinstance(settings, PresetSettings) and settings.lacks_key():
            return f"no api_key is set, and {settings.preset.title} takes nothing without one"
        return super().idle_reason()

    @classmethod
    def probes(cls, settings: OtelSettings) -> Sequence[Probe]:
        """Return what can be tried of the settings; nothing as long as they have no key."""
        idle = isinstance(settings, PresetSettings) and settings.lacks_key()
        return () if idle else super().probes(settings)


class DatadogSettings(PresetSettings):
    """What the exporter to Datadog can be told: an ``api_key``, the ``site``, and all the others can be."""

    preset: ClassVar[Preset] = DATADOG

    site: str = Field(
        "datadoghq.com",
        description="The Datadog site the account is on, such as `datadoghq.eu` or `us5.datadoghq.com`; "
        "everything is sent to `https://otlp.<site>`.",
    )

    @field_validator("site", mode="before")
    @classmethod
    def _site_is_a_host(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if not _HOST.fullmatch(value.strip()):
            raise RefusedError(
                "expected a Datadog site such as datadoghq.com, us5.datadoghq.com or datadoghq.eu"
            )
        return value.strip()


class DatadogBackend(PresetBackend):
    """Sends to Datadog's OTLP intake."""

    settings_type: ClassVar[type[OtelSettings]] = DatadogSettings


DatadogExporter = exporter_module(
    "DatadogExporter",
    DatadogBackend,
    name="datadog_exporter",
    section="telemetry.datadog",
    module=__name__,
    doc="The OpenTelemetry exporter with Datadog's OTLP intake as preset, registered as "
    "``datadog_exporter``, configured by ``telemetry.datadog``.",
)
