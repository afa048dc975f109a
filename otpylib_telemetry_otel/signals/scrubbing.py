"""Takes secrets out of items: whatever leaves, and whatever processors are handed, has come by here."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.aggregation.metric_spec import NO_SCOPE, Scope
from otpylib_telemetry.aggregation.points import MetricPoint, Stream
from otpylib_telemetry.config.redaction import REDACTED
from otpylib_telemetry_otel.traces.limits import UNLIMITED, SpanLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.scrubbing.scrubber import Scrubber
    from otpylib_telemetry_otel.log_records.item import LogItem
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


def scrub_span(span: FinishedSpan, scrubber: Scrubber, limits: SpanLimits = UNLIMITED) -> None:
    """Take secrets out of a span that was sealed, and then what is beyond the limits."""
    _scrub(span, scrubber)
    if limits is not UNLIMITED:
        span.limit(limits)


def _scrub(span: FinishedSpan, scrubber: Scrubber) -> None:
    span.attributes = scrubber.attributes(span.attributes)
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
    if item.name:
        item.name = scrubber.text(item.name)
    if item.scope is not None:
        item.scope = _scope(item.scope, scrubber)


def scrubbed_points(points: Sequence[MetricPoint], scrubber: Scrubber) -> Sequence[MetricPoint]:
    """Return data points without secrets: of ours in names and scopes, the labels of series have none."""
    #: One for each there is: what has one stream is told together.
    streams: dict[int, Any] = {}
    for point in points:
        if id(point.stream) not in streams:
            is_ours = type(point.stream) is Stream
            streams[id(point.stream)] = (_own if is_ours else _foreign)(point.stream, scrubber)
    if all(type(point.stream) is Stream and streams[id(point.stream)] is point.stream for point in points):
        return points
    made = []
    for point in points:
        is_ours = type(point.stream) is Stream
        told = point.point if is_ours else _point(point.point, scrubber.apart)
        made.append(MetricPoint(streams[id(point.stream)], point.labels, told, point.wall_offset_ns))
    return made


def _point(point: Any, scrubber: Scrubber) -> Any:
    """Return somebody else's data point without secrets, hashed: two of theirs must not become one."""
    changes: dict[str, Any] = {}
    attributes = point.attributes or {}
    if (clean := scrubber.attributes(attributes)) is not attributes:
        changes["attributes"] = clean
    if exemplars := getattr(point, "exemplars", None):
        changes["exemplars"] = [
            dataclasses.replace(one, filtered_attributes=scrubber.attributes(one.filtered_attributes or {}))
            for one in exemplars
        ]
    return dataclasses.replace(point, **changes) if changes else point


def _foreign(stream: Any, scrubber: Scrubber) -> Any:
    """Return somebody else's metric with a resource and a scope without secrets."""
    resource, scope, metric = stream.resource, stream.scope, stream.metric
    told = getattr(resource, "attributes", None) or {}
    if (clean := scrubber.attributes(told)) is not told:
        resource = type(resource)(clean, resource.schema_url)
    told = getattr(scope, "attributes", None) or {}
    texts = [getattr(scope, key, None) for key in ("name", "version", "schema_url")]
    found = [text and scrubber.value(text) for text in texts]
    if (clean := scrubber.attributes(told)) is not told or found != texts:
        scope = type(scope)(*found, clean)
    # Two metrics of theirs must not become one.
    texts = [metric.name, metric.description, metric.unit]
    found = [text and scrubber.apart.value(text) for text in texts]
    if found != texts:
        metric = dataclasses.replace(metric, name=found[0], description=found[1], unit=found[2])
    if resource is stream.resource and scope is stream.scope and metric is stream.metric:
        return stream
    return type(stream)(resource, scope, stream.schema_url, metric)


def _own(stream: Stream, scrubber: Scrubber) -> Stream:
    text, known = scrubber.text, scrubber.known
    scope, name, described, unit = stream.scope, stream.name, stream.description, stream.unit
    texts = scope.name, scope.version, scope.schema_url
    if scope is not NO_SCOPE and (scope.attributes or not all(one in known or not one for one in texts)):
        attributes = scrubber.labels(scope.attributes)
        clean = Scope(text(texts[0]), text(texts[1]), text(texts[2]), attributes)
        scope = scope if clean == scope else clean
    if scope is stream.scope and name in known and described in known and (unit in known or not unit):
        return stream
    found = stream._replace(scope=scope, name=text(name), description=text(described), unit=text(unit))
    return stream if found == stream else found


def _scope(scope: Any, scrubber: Scrubber) -> Any:
    """Return name, version and perhaps schema URL and attributes of a scope without secrets."""
    try:
        name, version, *more = scope
        made = [scrubber.value(name), scrubber.value(version)]
        if more:
            schema_url, pairs = more
            attributes = dict(pairs)
            clean = scrubber.attributes(attributes)
            made += [scrubber.value(schema_url), pairs if clean is attributes else tuple(clean.items())]
        if all(one is other for one, other in zip(scope, made, strict=True)):
            return scope
        return tuple(made) if type(scope) is tuple else type(scope)(*made)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, it costs no item
        return REDACTED, ""
