"""What OpenTelemetry calls the numbers by which its SDK tells about itself, read from ``get_stats``.

https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/ (in development). Only what means the same here
is told under these names. The queue of an exporter holds events rather than spans, and what it drops was
never told apart by signal: both have names of our own, as everything else has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.aggregation.metric_spec import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Row(NamedTuple):
    """One number, or count and sum, of one series."""

    kind: Kind
    name: str
    unit: str
    description: str
    labels: Mapping[str, str]
    value: float | tuple[int, float]


class _Signal(NamedTuple):
    """What the conventions call the items of a lane: in names, as a unit, and what puts them into batches."""

    noun: str
    unit: str
    items: str
    processor: str | None


_SIGNALS: Final = {
    "spans": _Signal("span", "{span}", "spans", "batching_span_processor"),
    "logs": _Signal("log", "{log_record}", "log records", "batching_log_processor"),
    "metrics": _Signal("metric_data_point", "{data_point}", "metric data points", None),
}

_READER: Final = "periodic_metric_reader"

_NAME: Final = "otel.component.name"
_TYPE: Final = "otel.component.type"
_ERROR: Final = "error.type"

#: What the conventions call a part of a batch that the backend refuses without a reason of each item.
_REASONS: Final = {"partial_success": "rejected"}


def sdk_rows(exporter: str, stats: Mapping[str, Any]) -> Iterator[Row]:
    """Yield what one exporter of OpenTelemetry says; nothing for any other."""
    components = stats.get("components")
    if not isinstance(components, dict):
        return
    waiting, sent = stats.get("lanes", {}), stats.get("sent", {})
    for lane, component in components.items():
        signal = _SIGNALS[lane]
        yield from _exporter_rows(signal, _component(component, exporter), sent.get(lane))
        if signal.processor is not None:
            processor = _component(signal.processor, exporter)
            start = f"otel.sdk.processor.{signal.noun}.queue"
            yield Row(
                Kind.UP_DOWN,
                f"{start}.size",
                signal.unit,
                f"The number of {signal.items} that wait to be sent.",
                processor,
                waiting.get(lane, 0),
            )
            yield Row(
                Kind.UP_DOWN,
                f"{start}.capacity",
                signal.unit,
                f"How many {signal.items} may wait, if nothing else does.",
                processor,
                stats["queue_limit"],
            )
    if "spans" in components:
        tracer = _component("batching_span_processor", exporter)
        live, started = stats["open_spans"], stats["spans_created"]
        yield Row(Kind.UP_DOWN, "otel.sdk.span.live", "{span}", "Spans that have not ended.", tracer, live)
        yield Row(Kind.COUNTER, "otel.sdk.span.started", "{span}", "Spans that began.", tracer, started)
    made = stats.get("metrics")
    if "metrics" in components and isinstance(made, dict) and "readings" in made:
        yield Row(
            Kind.HISTOGRAM,
            "otel.sdk.metric_reader.collection.duration",
            "s",
            "How long it took to read all metrics.",
            _component(_READER, exporter),
            (made["readings"], made["reading_seconds"]),
        )


def _exporter_rows(signal: _Signal, component: dict[str, str], sent: Any) -> Iterator[Row]:
    start = f"otel.sdk.exporter.{signal.noun}"
    books = {"in_flight": 0, "exported": 0, "failed": {}, "attempts": {}, "seconds": {}, **(sent or {})}
    text = f"The number of {signal.items} that are being sent."
    yield Row(Kind.UP_DOWN, f"{start}.inflight", signal.unit, text, component, books["in_flight"])
    text = f"The number of {signal.items} whose export has ended, be it well or not."
    name = f"{start}.exported"
    yield Row(Kind.COUNTER, name, signal.unit, text, component, books["exported"])
    failed: dict[str, int] = books["failed"]
    for reason, count in failed.items():
        labels = {**component, _ERROR: _REASONS.get(reason, reason)}
        yield Row(Kind.COUNTER, name, signal.unit, text, labels, count)
    for outcome, count in books["attempts"].items():
        labels = component if outcome == "ok" else {**component, _ERROR: outcome}
        yield Row(
            Kind.HISTOGRAM,
            "otel.sdk.exporter.operation.duration",
            "s",
            "How long attempts to send a batch took.",
            labels,
            (count, books["seconds"][outcome]),
        )


def _component(kind: str, exporter: str) -> dict[str, str]:
    return {_TYPE: kind, _NAME: f"{kind}/{exporter}"}
