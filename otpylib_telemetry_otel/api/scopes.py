"""What a tracer or a logger is asked for with, as OpenTelemetry's SDK can have it."""

from __future__ import annotations

from typing import Any, TypeAlias

from otpylib_telemetry.primitives.any_value import AnyValue, any_values, scope_text

_Scope: TypeAlias = "tuple[str, str | None, str | None, dict[str, AnyValue] | None]"


def scope_of(name: Any, version: Any = None, schema_url: Any = None, attributes: Any = None) -> _Scope:
    """Return the name, the version, the schema URL and the attributes of a scope, whatever was given."""
    return (
        scope_text(name),
        None if version is None else scope_text(version),
        None if schema_url is None else scope_text(schema_url),
        None if attributes is None else any_values(attributes)[0],
    )
