"""Backends that need no more than a key: the OpenTelemetry exporter with settings made up beforehand.

Whatever the user sets in its section goes before these, key by key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.settings.model import OtelSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.exporter.probe import Probe

_HOST = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")

#: What Datadog's intake wants the key in, and that metrics are of delta temporality
#: (https://docs.datadoghq.com/opentelemetry/setup/otlp_ingest/traces/).
_KEY_HEADER = "dd-api-key"
_KNOWN = {"endpoint": "https://otlp.{site}", "protocol": "http/protobuf", "metrics_temporality": "delta"}


class DatadogSettings(OtelSettings):
    """What the exporter to Datadog can be told: an ``api_key``, the ``site``, and all the others can be."""

    site: str = Field(
        "datadoghq.com",
        description="The Datadog site the account is on, such as `datadoghq.eu` or `us5.datadoghq.com`; "
        "everything is sent to `https://otlp.<site>`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Lay what was set over what is known."""
        if not isinstance(values, dict):
            return values
        # Anything but a string is refused in its own place; what came from a ${...} is one of another class.
        given = values.get("site")
        site = str.__str__(given) if isinstance(given, str) else cls.model_fields["site"].default
        return {**{key: value.format(site=site.strip()) for key, value in _KNOWN.items()}, **values}

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

    def _key_header(self, api_key: str) -> tuple[str, str]:
        return _KEY_HEADER, api_key


def _lacks_key(settings: OtelSettings) -> bool:
    """Tell whether the backend would take nothing for want of a key."""
    connection = settings.connection("traces")
    return connection.protocol is not None and _KEY_HEADER not in connection.headers


class DatadogBackend(OtelBackend):
    """Sends to Datadog's OTLP intake; idle as long as there is no key."""

    settings_type: ClassVar[type[OtelSettings]] = DatadogSettings

    def idle_reason(self) -> str | None:
        """Return why nothing is exported under the present settings, or None."""
        if _lacks_key(self.settings):
            return "no api_key is set, and Datadog takes nothing without one"
        return super().idle_reason()

    @classmethod
    def probes(cls, settings: OtelSettings) -> Sequence[Probe]:
        """Return what can be tried of the settings; nothing as long as they have no key."""
        return () if _lacks_key(settings) else super().probes(settings)

    @classmethod
    async def prove(cls, settings: OtelSettings, instead_of: OtelSettings | None) -> Sequence[str]:
        """Try the destinations; none as long as there is no key to show."""
        return () if _lacks_key(settings) else await super().prove(settings, instead_of)


DatadogExporter = exporter_module(
    "DatadogExporter",
    DatadogBackend,
    name="datadog_exporter",
    section="telemetry.datadog",
    module=__name__,
    doc="The OpenTelemetry exporter with Datadog's OTLP intake as preset, registered as "
    "``datadog_exporter``, configured by ``telemetry.datadog``.",
)
