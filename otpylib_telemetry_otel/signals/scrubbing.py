"""Takes secrets out of items: whatever leaves, and whatever processors are handed, has come by here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.aggregation.points import MetricPoint

if TYPE_CHECKING:
    from otpylib_telemetry.scrubbing.scrubber import Scrubber
    from otpylib_telemetry_otel.log_records.item import LogItem
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


def scrub_span(span: FinishedSpan, scrubber: Scrubber) -> None:
    """Take secrets out of a span that was sealed."""
    attributes = span.attributes
    if (clean := scrubber.attributes(attributes)) is not attributes:
        span.attributes = clean
    if span.name not in scrubber.harmless:
        span.name = scrubber.text(span.name)
    if span.plain:
        return
    if span.message:
        span.message = scrubber.text(span.message)
    if span.scope is not None:
        span.scope = _scope(span.scope, scrubber)
    for event in span.events or ():
        event.name = scrubber.text(event.name)
        event.attributes = scrubber.attributes(event.attributes)
    for link in span.links or ():
        link.attributes = scrubber.attributes(link.attributes)


def scrub_record(item: LogItem, scrubber: Scrubber) -> None:
    """Take secrets out of a log record."""
    item.attributes = scrubber.attributes(item.attributes)
    item.body = scrubber.value(item.body)
    item.name = scrubber.text(item.name)
    if item.scope is not None:
        item.scope = _scope(item.scope, scrubber)


def scrubbed_point(point: MetricPoint, scrubber: Scrubber) -> MetricPoint:
    """Return a data point that comes from elsewhere, without secrets."""
    made = point.point
    changes: dict[str, Any] = {}
    attributes = made.attributes or {}
    if (clean := scrubber.attributes(attributes)) is not attributes:
        changes["attributes"] = clean
    if exemplars := getattr(made, "exemplars", None):
        changes["exemplars"] = [
            dataclasses.replace(one, filtered_attributes=scrubber.attributes(one.filtered_attributes or {}))
            for one in exemplars
        ]
    if not changes:
        return point
    return MetricPoint(point.stream, point.labels, dataclasses.replace(made, **changes), point.wall_offset_ns)


def _scope(scope: Any, scrubber: Scrubber) -> Any:
    attributes = getattr(scope, "attributes", ())
    return scope._replace(attributes=scrubber.labels(attributes)) if attributes else scope
