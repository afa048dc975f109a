"""``python -m scripts.reference``: writes docs/reference/configuration.md from the settings models."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined

from otpylib_telemetry.not_supported import NOT_SUPPORTED
from otpylib_telemetry.settings import ExporterSettings
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.presets import DatadogSettings
from otpylib_telemetry_otel.settings import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"

INTRODUCTION = """\
# Configuration keys

This page is made from the settings models by `python -m scripts.reference`. How the layers go together, and
what happens to a bad value, is in [Operating it](../how-to/operate.md).

From weakest to strongest: the default; the environment variables named in the table; `TELEMETRY_<KEY>` for
every exporter; `TELEMETRY_<SECTION>_<KEY>` for one; otpylib-config (`config.toml`, `Config.put`); the
argument given at start. A change made while the application runs beats them all, and outlives a restart of
the exporter.

A section of any other name that has a `kind` (`"otel"`, `"prometheus"`, `"datadog"` or any other installed)
is a further exporter of that kind and has the keys of that kind's section. Of the variables named in the
tables only `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SDK_DISABLED` count for it: the others
are about the section named like the kind, whose credentials must not be shown to another backend.
"""

SECTIONS: list[tuple[str, type[ExporterSettings], str]] = [
    ("otel", OtelSettings, "OpenTelemetry exporter"),
    ("datadog", DatadogSettings, "OpenTelemetry exporter, preset for Datadog"),
    ("prometheus", PrometheusSettings, "Prometheus exporter"),
    ("mock", MockSettings, "exporter for tests"),
]


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION, "## Every section\n", _table(ExporterSettings, ExporterSettings.model_fields)]
    models = [model for _, model, _ in SECTIONS]
    for section, model, title in SECTIONS:
        others = [other for other in models if other is not model and issubclass(model, other)]
        base = others[0] if others else ExporterSettings
        own = {key: info for key, info in model.model_fields.items() if key not in base.model_fields}
        parts.append(f"## `telemetry.{section}`: {title}\n")
        if base is not ExporterSettings:
            parts.append(f"All keys of `telemetry.{base.kind}`, and:\n")
        parts.append(_table(model, own) if own else "No keys of its own.\n")
        if pending := NOT_SUPPORTED.get(section):
            names = ", ".join(f"`{key}`" for key in pending)
            parts.append(f"Not supported yet, and said so when set: {names}.\n")
    return "\n".join(parts)


def _table(model: type[ExporterSettings], fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | type | default | environment | meaning |", "|---|---|---|---|---|"]
    for key, info in fields.items():
        extra: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        unit = extra.get("unit")
        kind = f"{_kind(info.annotation)}, {unit}" if unit else _kind(info.annotation)
        names = "<br>".join(f"`{name}`" for name in extra.get("env", ()))
        secret = " Secret: shown nowhere." if extra.get("secret") else ""
        rows.append(
            f"| `{key}` | {kind} | {_default(model, key, info)} | {names} | {info.description}{secret} |"
        )
    return "\n".join(rows) + "\n"


_WORDS = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
}


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(one) for one in arguments if one is not type(None))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is not None:
        return "table"
    return _WORDS.get(annotation, "text")


def _default(model: type[ExporterSettings], key: str, info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        value = getattr(model(), key)
    match value:
        case None:
            return "unset"
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return (
                "`[" + ", ".join(f'"{one}"' if isinstance(one, str) else f"{one:g}" for one in value) + "]`"
            )
        case str():
            return f'`"{value}"`'
        case int() | float():
            return f"`{value}`"
        case _:
            return "empty" if not value else f"`{dict(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
