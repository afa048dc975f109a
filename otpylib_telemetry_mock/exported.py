"""Assertions over what an exporter has sent: spans, and the values of metrics."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from otpylib_telemetry_mock import failures, text
from otpylib_telemetry_mock.matching import (
    check_function,
    check_number,
    check_table,
    check_text,
    difference,
    entries,
)
from otpylib_telemetry_mock.page_text import Series, series_on
from otpylib_telemetry_mock.recording import matches

if TYPE_CHECKING:
    from otpylib_telemetry_mock.otlp_receiver import ReceivedPoint, ReceivedSpan


class _HasSpans(Protocol):
    @property
    def spans(self) -> list[ReceivedSpan]: ...


class _HasMetrics(Protocol):
    @property
    def metrics(self) -> list[ReceivedPoint]: ...


#: Where spans are looked for: an ``OtlpReceiver``, or spans of one.
Spans: TypeAlias = "_HasSpans | Iterable[ReceivedSpan]"

#: Where metrics are looked for: an ``OtlpReceiver``, points of one, or a metrics page.
Metrics: TypeAlias = "_HasMetrics | Iterable[ReceivedPoint] | str | bytes"

_DELTA = 1

_SHOWN = 10


def assert_span(  # noqa: PLR0913  # each is one way to say which span is meant
    source: Spans,
    name: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    status: str | None = None,
    kind: str | None = None,
    parent: str | None = None,
    where: Callable[[ReceivedSpan], object] | None = None,
    count: int | None = None,
) -> list[ReceivedSpan]:
    """Assert that a span was exported.

    An expected value is compared as :func:`~otpylib_telemetry_mock.assert_emitted` does: a type, a compiled
    regular expression and a function stand for every value that fits.

    Args:
        source: An ``OtlpReceiver``, or spans of one.
        name: Shell glob over its name.
        attributes: What its attributes have to contain, among others.
        status: ``"UNSET"``, ``"OK"`` or ``"ERROR"``.
        kind: ``"INTERNAL"``, ``"SERVER"`` and so on.
        parent: The name of its parent; empty for a span without one.
        where: What else has to be true of it.
        count: How many there have to be, exactly; without it one or more.

    Returns:
        The spans that match, in the order in which they began.

    Raises:
        AssertionError: There are fewer or more.
        TypeError: The source or an expectation is something else.
    """
    __tracebackhide__ = True
    check_text("the name of a span", name)
    check_table("attributes", attributes, "the span")
    check_function("where", where, "the span")
    check_number("count", count)
    spans = _spans_of(source)
    names = {(span.trace_id, span.span_id): span.name for span in spans}

    def differences(span: ReceivedSpan) -> list[str]:
        its_parent = names.get((span.trace_id, span.parent_span_id), span.parent_span_id)
        asked = {"status": status, "kind": kind, "parent": parent}
        facts = {"status": span.status, "kind": span.kind, "parent": its_parent}
        found = [
            f"{fact} {differs}"
            for fact, wanted in asked.items()
            if wanted is not None and (differs := difference(facts[fact], wanted)) is not None
        ]
        found += entries(span.attributes, attributes or {}, "attributes")
        return found if where is None or where(span) else [*found, f"where {text.shown(where)} says no"]

    named = [(span, differences(span)) for span in spans if matches(span.name, name)]
    found = [span for span, differs in named if not differs]
    if len(found) == count or (count is None and found):
        return found
    asked = "at least 1 span" if count is None else f"exactly {text.counted(count, 'span')}"
    raise AssertionError(_other_spans(f"{asked} named {text.printable(name)!r}", len(found), named, spans))


def _other_spans(
    asked: str, found: int, named: list[tuple[ReceivedSpan, list[str]]], spans: list[ReceivedSpan]
) -> str:
    """Say what was expected, how those of this name differ from it, and what there is."""
    among = f"among {len(spans)}" if spans else "and none was exported"
    return failures.message(
        f"expected {asked}, found {found or 'none'} {among}",
        *(
            [f"{text.printable(span.name)}:", *(f"    {each}" for each in differs)]
            for span, differs in named[:_SHOWN]
        ),
        ["exported:", *textwrap.indent(span_tree(spans), "  ").splitlines()] if spans else [],
    )


def span_tree(source: Spans, *, attributes: Iterable[str] = ()) -> str:
    """Return the spans as indented text, children below their parents, for a snapshot or to be read.

    A line is a span: its name, its status unless that is unset, and the attributes asked for. Spans that have
    the same parent are in the order in which they began.

    Args:
        source: An ``OtlpReceiver``, or spans of one.
        attributes: Names of attributes that are shown.

    Returns:
        The text, without a line break at its end.

    Raises:
        TypeError: The source or the attributes are something else.
    """
    spans = _spans_of(source)
    known = {(span.trace_id, span.span_id) for span in spans}
    children: dict[tuple[str, str], list[ReceivedSpan]] = {}
    roots = []
    for span in spans:
        above = (span.trace_id, span.parent_span_id)
        if above in known:
            children.setdefault(above, []).append(span)
        else:
            roots.append(span)
    if isinstance(attributes, str | bytes) or not isinstance(attributes, Iterable):
        raise TypeError(f"attributes is a list of names, not {text.shown(attributes)}")
    shown = tuple(attributes)
    lines: list[str] = []
    waiting = [(0, span) for span in reversed(roots)]
    while waiting:
        depth, span = waiting.pop()
        lines.append("  " * depth + _line_of(span, shown))
        below = children.pop((span.trace_id, span.span_id), [])
        waiting += [(depth + 1, child) for child in reversed(below)]
    return "\n".join(lines)


def assert_span_tree(source: Spans, expected: str, *, attributes: Iterable[str] = ()) -> None:
    """Assert that exactly these spans were exported, as a tree.

    Args:
        source: An ``OtlpReceiver``, or spans of one.
        expected: What :func:`span_tree` gives. Indentation that all lines share does not count, nor do empty
            lines around.
        attributes: Names of attributes that are compared.

    Raises:
        AssertionError: The spans are others; shows both.
        TypeError: The source or the tree is something else.
    """
    __tracebackhide__ = True
    check_text("a tree of spans", expected)
    wanted = textwrap.dedent(expected).strip("\n").rstrip()
    found = span_tree(source, attributes=attributes)
    if found != wanted:
        raise AssertionError(
            failures.message(
                "the exported spans are others than expected",
                ["expected:", *textwrap.indent(wanted, "  ").splitlines()],
                ["exported:", *textwrap.indent(found or "nothing", "  ").splitlines()],
            )
        )


def assert_metric(
    source: Metrics, name: str, value: Any = None, labels: Mapping[str, Any] | None = None
) -> Any:
    """Assert the value of a metric's series.

    Args:
        source: An ``OtlpReceiver``, points of one, or a metrics page in either text format, as text or as the
            bytes that were read (needs the extra ``client``).
        name: The name, as it is there: over OTLP ``shop.sold.total``, on a page ``shop_sold_total``.
        value: What the value has to be: a number, a type, a function, or None for any. Of a distribution over
            OTLP it is a pair of count and sum.
        labels: What the labels (over OTLP: attributes) have to contain, among others. One series has to
            remain.

    Returns:
        The value.

    Raises:
        AssertionError: There is no such series, more than one, or its value is another; or what was read is
            no metrics page.
        TypeError: The source or an expectation is something else.
    """
    __tracebackhide__ = True
    check_text("the name of a metric", name)
    check_table("labels", labels, "the series")
    series = series_on(source) if isinstance(source, str | bytes) else _series_of(source)
    found = [each for each in series if each[0] == name and not entries(each[1], labels or {}, "labels")]
    wish = f"one series of {text.printable(name)!r}" + (f" with {text.shown(dict(labels))}" if labels else "")
    if len(found) != 1:
        alike = [each for each in series if each[0] == name] or series
        raise AssertionError(
            failures.message(
                f"expected {wish}, found {len(found) or 'none'}",
                ["there are:" if series else "there is nothing", *map(_shown_series, alike[:_SHOWN])],
            )
        )
    [(_, _, actual)] = found
    differs = None if value is None else difference(actual, value)
    if differs is not None:
        raise AssertionError(failures.message(f"the value of {wish} {differs}"))
    return actual


def _spans_of(source: Spans) -> list[ReceivedSpan]:
    wish = "spans are looked for in an OtlpReceiver or a list of its spans"
    spans = _items_of(source, "spans", "span_id", wish)
    return sorted(spans, key=lambda span: (span.start_ns, span.end_ns, span.name))


def _line_of(span: ReceivedSpan, attributes: tuple[str, ...]) -> str:
    parts = [text.printable(span.name)]
    if span.status != "UNSET":
        parts.append(span.status)
    parts += [f"{key}={text.shown(span.attributes[key])}" for key in attributes if key in span.attributes]
    return " ".join(parts)


def _items_of(source: Any, where: str, mark: str, wish: str) -> list[Any]:
    """Return what a receiver took, or a list of it, whose items have ``mark``."""
    found = getattr(source, where, source)
    items = [] if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable) else [*found]
    if (not items and not isinstance(found, list | tuple)) or not all(hasattr(each, mark) for each in items):
        raise TypeError(f"{wish}, not in {text.shown(source)}{text.unawaited(source)}")
    return items


def _series_of(source: Any) -> list[Series]:
    wish = "metrics are looked for in an OtlpReceiver, a list of its metrics or the text of a metrics page"
    if not isinstance(source, Mapping) and (part := _text_attribute(source)) is not None:
        wish = f"{wish} (here: its {part})"
    points = _items_of(source, "metrics", "temporality", wish)
    points.sort(key=lambda point: (point.name, repr(point.key)))
    series: list[Series] = []
    for _, group in groupby(points, key=lambda point: (point.name, repr(point.key))):
        same = list(group)
        last = max(same, key=lambda point: point.point.time_unix_nano)
        value = last.value if last.temporality != _DELTA else _sum(point.value for point in same)
        series.append((last.name, last.attributes, value))
    return series


def _sum(values: Iterable[Any]) -> Any:
    told = list(values)
    if isinstance(told[0], tuple):
        return tuple(map(sum, zip(*told, strict=True)))
    return sum(told)


def _text_attribute(source: object) -> str | None:
    """Return how the responses of HTTP clients give their text; None where it is no response."""
    return next((name for name in ("text", "content", "read") if hasattr(source, name)), None)


def _shown_series(series: Series) -> str:
    name, labels, value = series
    return f"  {text.printable(name)} {text.shown(dict(labels))} = {text.shown(value)}"
