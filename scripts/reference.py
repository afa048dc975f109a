"""``python -m scripts.reference``: writes the pages of docs/reference that are made from the code.

``configuration.md`` and ``config.schema.json`` come from the settings models, ``self-metrics.md`` from the
table of the exporters' own metrics, ``commands.md`` from what reads the command line. ``config.toml`` gets
the keys it does not show yet; what it says of the others is left alone.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined

from otpylib_telemetry.admin.settings import AdminSettings
from otpylib_telemetry.command.json_schema import schema_of
from otpylib_telemetry.config.settings import ExporterSettings, SectionSettings
from otpylib_telemetry.instrument.actors import InstrumentSettings
from otpylib_telemetry.instrument.otpylib_logger import OtpylibLoggerSettings
from otpylib_telemetry.metrics.definitions import Definition
from otpylib_telemetry.poller.service import PollerSettings
from otpylib_telemetry.self_metrics import EXPORTER, SELF_METRICS
from otpylib_telemetry_mock.settings import MockSettings
from otpylib_telemetry_otel.presets import DatadogSettings
from otpylib_telemetry_otel.settings.given import Given
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.settings import PrometheusSettings
from scripts import reference_commands
from scripts.keys import FIRST, GROUPS, REST
from scripts.sample import SAMPLE, completed

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"

SELF_PAGE = PAGE.with_name("self-metrics.md")

SCHEMA = PAGE.with_name("config.schema.json")

SELF_INTRODUCTION = """\
# What the exporters say about themselves

This page is made from the code by `python -m scripts.reference`. Dashboards and alert rules over these
metrics, and what to do about an alert, are in
[Monitoring the telemetry itself](../how-to/operate/monitor-the-telemetry.md).

They are on the page of every Prometheus exporter, and every OpenTelemetry exporter sends them with its
metrics, unless its `self_metrics` is `false`. Either way they are about every exporter of the process,
whatever its kind. The label `exporter` is the registered name, such as `otel_exporter`. They take up no
series, come under no limit, and clash with nothing an application measures. Numbers count from the start of
the process; where it says so, from the start of the exporter's own process, which a supervisor may have
restarted.

A collector that translates what came over OTLP for Prometheus arrives at the names of the page, so that the
same dashboards and alerts serve both.
"""

SDK_INTRODUCTION = """\
## Over OTLP alone: the names of OpenTelemetry's SDK

What means the same there has also the name that
[OpenTelemetry's conventions](https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/) give it. Each says
in `otel.component.type` and `otel.component.name` (type and registered name, such as
`otlp_grpc_span_exporter/otel_exporter`) what it is about. `error.type` is there on what failed: `refused`,
`rejected` (a part of a batch, refused without a reason for each), `too_large`, `unusable` (cannot be encoded),
`unavailable` (an attempt that is made again).

| metric | unit | type | meaning |
|---|---|---|---|
| `otel.sdk.span.started` | `{span}` | counter | Spans that began. |
| `otel.sdk.span.live` | `{span}` | up-down counter | Spans that have not ended. |
| `otel.sdk.exporter.span.exported`<br>`otel.sdk.exporter.log.exported`<br>`otel.sdk.exporter.metric_data_point.exported` | `{span}`<br>`{log_record}`<br>`{data_point}` | counter | Items that were taken and, with `error.type`, those that never will be. What waits to be sent again is in neither. |
| `otel.sdk.exporter.span.inflight`<br>`otel.sdk.exporter.log.inflight`<br>`otel.sdk.exporter.metric_data_point.inflight` | the same | up-down counter | Items being sent right now. |
| `otel.sdk.exporter.operation.duration` | `s` | histogram without buckets | Attempts to send a batch. What an attempt could not send goes back to the queue, so each is an operation of its own. |
| `otel.sdk.processor.span.queue.size`<br>`otel.sdk.processor.log.queue.size` | `{span}`<br>`{log_record}` | up-down counter | Items that wait to be sent. |
| `otel.sdk.processor.span.queue.capacity`<br>`otel.sdk.processor.log.queue.capacity` | the same | up-down counter | `queue_limit`, which all signals share, and which counts events: a span may be made of two. |
| `otel.sdk.metric_reader.collection.duration` | `s` | histogram without buckets | Readings of all metrics. |

What is dropped from a queue is counted in events, before it is known which signal they would be of. So there
is no `otel.sdk.processor.*.processed`: see `events_dropped` above.
"""  # noqa: E501 - rows of a table

INTRODUCTION = """\
# Configuration keys

This page is made from the settings models by `python -m scripts.reference`.

![The layers of configuration, from the weakest to the strongest](../pictures/layers.svg)

A value comes from the strongest layer that has one. From weakest to strongest:

1. the default;
2. the environment variables named in the tables;
3. `TELEMETRY_<KEY>`, for every exporter;
4. `TELEMETRY_<SECTION>_<KEY>`, for one exporter;
5. otpylib-config: `config.toml` and `Config.put`;
6. the argument given at start;
7. a change made while the application runs. It outlives a restart of the exporter.

What happens to a bad value is in [Operating it](../how-to/operate/operating.md).

A section of any other name that has a `kind` (`"otel"`, `"prometheus"`, `"datadog"` or any other installed)
is a further exporter of that kind. It has the keys of that kind's section. Of the variables named in the
tables only `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SDK_DISABLED` count for it. The others
count for the section named like the kind alone: its credentials must not reach another backend.
"""

FIRST_HEAD = """\
## The keys that most applications set

A first `config.toml` needs no more. All keys follow, the most needed of each section first.
"""

SECTIONS: list[tuple[str, type[SectionSettings], str]] = [
    ("otel", OtelSettings, "OpenTelemetry exporter"),
    ("datadog", DatadogSettings, "OpenTelemetry exporter, preset for Datadog"),
    ("prometheus", PrometheusSettings, "Prometheus exporter"),
    ("mock", MockSettings, "exporter for tests"),
    ("instrument", InstrumentSettings, "what otpylib's actors do"),
    ("otpylib_logger", OtpylibLoggerSettings, "what otpylib itself says"),
    ("poller", PollerSettings, "what is measured from time to time"),
    ("admin", AdminSettings, "the admin API"),
]

SERVICE = """\
No exporter's section: it has the keys below and no others, and `TELEMETRY_<KEY>` does not count. It takes
effect wherever an exporter runs, as soon as anything is set for it.
"""


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION, FIRST_HEAD, _first(), "## Every section\n"]
    parts += _groups(ExporterSettings, ExporterSettings.model_fields, GROUPS[""])
    models = [model for _, model, _ in SECTIONS]
    for section, model, title in SECTIONS:
        others = [other for other in models if other is not model and issubclass(model, other)]
        is_service = not issubclass(model, ExporterSettings)
        base = others[0] if others else SectionSettings if is_service else ExporterSettings
        own = {key: info for key, info in model.model_fields.items() if key not in base.model_fields}
        parts.append(f"## `telemetry.{section}`: {title}\n")
        if is_service:
            parts.append(SERVICE)
        elif base is not ExporterSettings:
            parts.append(f"All keys of `telemetry.{base.kind}`, and:\n")
        parts += _groups(model, own, GROUPS.get(section, {})) if own else ["No keys of its own.\n"]
    return "\n".join(parts)


def _first() -> str:
    """Return the table of the keys that most applications set."""
    models = {section: model for section, model, _ in SECTIONS}
    rows = ["| section | key | default | meaning |", "|---|---|---|---|"]
    for section, key in FIRST:
        model = models[section] if section else ExporterSettings
        info = model.model_fields[key]
        where = f"`telemetry.{section}`" if section else "every one"
        rows.append(f"| {where} | `{key}` | {_default(model, key, info)} | {info.description} |")
    return "\n".join(rows) + "\n"


def _groups(
    model: type[SectionSettings], fields: dict[str, FieldInfo], groups: dict[str, tuple[str, ...]]
) -> list[str]:
    """Return a section's keys in tables, one for each group, and one for keys that are in none."""
    grouped = {key for keys in groups.values() for key in keys}
    rest = tuple(key for key in fields if key not in grouped)
    if not groups:
        return [_table(model, fields)]
    parts = []
    for title, keys in {**groups, REST: rest}.items():
        if keys:
            parts += [f"### {title}\n", _table(model, {key: fields[key] for key in keys})]
    return parts


def schema() -> str:
    """Return the JSON schema of ``config.toml``, as ``otpylib-telemetry schema`` writes it."""
    found = schema_of({section: model for section, model, _ in SECTIONS})
    return json.dumps(found, indent=2) + "\n"


def self_page() -> str:
    """Return the page about the exporters' own metrics."""
    every = [metric for metric in SELF_METRICS if metric.name.startswith(EXPORTER)]
    own = [metric for metric in SELF_METRICS if metric not in every]
    parts = [SELF_INTRODUCTION]
    for title, metrics in (("Of every exporter", every), ("Of Prometheus exporters", own)):
        parts += [f"## {title}\n", "| on the page | over OTLP | type | further labels | meaning |"]
        parts.append("|---|---|---|---|---|")
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            names = "<br>".join(f"`{name}`" for name in metric.samples)
            dotted, unit = metric.instrument
            over_otlp = f"`{dotted}`" + (f" in `{unit}`" if unit else "")
            parts.append(f"| {names} | {over_otlp} | {metric.type} | {labels} | {metric.documentation} |")
        parts.append("")
    return "\n".join([*parts, SDK_INTRODUCTION])


def _table(model: type[SectionSettings], fields: dict[str, FieldInfo]) -> str:
    rows = ["| key | type | default | environment | meaning |", "|---|---|---|---|---|"]
    for key, info in fields.items():
        extra: dict[str, Any] = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        unit = extra.get("unit")
        kind = f"{_kind(info.annotation)}, {unit}" if unit else _kind(info.annotation)
        names = "<br>".join(f"`{name}`" for name in extra.get("env", ()))
        secret = " Secret: shown nowhere." if key in model.secret_keys() else ""
        rows.append(
            f"| `{key}` | {kind} | {_default(model, key, info)} | {names} | {info.description}{secret} |"
        )
    return "\n".join(rows) + "\n"


_WORDS = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    Definition: "metric definition",
    Given: "object",
}


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_kind(one) for one in arguments if one is not type(None)))
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is not None:
        return "table"
    return _WORDS.get(annotation, "text")


def _default(model: type[SectionSettings], key: str, info: FieldInfo) -> str:
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
    SELF_PAGE.write_text(self_page(), encoding="utf-8")
    SCHEMA.write_text(schema(), encoding="utf-8")
    reference_commands.PAGE.write_text(reference_commands.page(), encoding="utf-8")
    shown = {section: model for section, model, _ in SECTIONS if model is not DatadogSettings}
    SAMPLE.write_text(completed(SAMPLE.read_text(encoding="utf-8"), shown), encoding="utf-8")
