"""Definitions of metrics: which events a metric is made of, what is measured, and how it is broken down.

The vocabulary is that of Elixir's ``telemetry_metrics``::

    from otpylib_telemetry import metrics

    metrics.counter("shop.checkout.stop.count", tags=["shop"])
    metrics.distribution("shop.checkout.stop.duration_ms", unit=("ms", "s"), buckets=[0.1, 0.5, 1])

The name of a metric says what it is made of: its last part is the measurement, what stands before it is the
event, unless ``event`` and ``measurement`` say otherwise. The same definitions can be written as tables, see
:mod:`.definition_tables`; both are checked when they are made, not when the first event comes. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from otpylib_telemetry.metrics.definition import TYPES, Definition, Function, Type
from otpylib_telemetry.metrics.definition_tables import about
from otpylib_telemetry.metrics.options import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.metrics.buckets import Base2


class Common(TypedDict, total=False):
    """The options of every metric.

    Attributes:
        event: The event, a shell pattern over event names as the bus has them, or a list of these; by default
            the name without its last part.
        measurement: The name of what is measured, or a function of measurements and metadata (or of
            measurements alone); by default the last part of the name. What it gives as None, or where there
            is no such measurement, is not measured.
        tags: Metadata keys whose values become labels; those whose values are neither text, number nor
            boolean, and missing ones, become none.
        tag_values: A function of metadata whose result, a mapping, goes over the metadata before tags are
            looked up; or a mapping of tags to constants and to ``{"from": another_key}``.
        keep: Which events count: a function of metadata (or of measurements and metadata), or a mapping of
            metadata keys to a value, a shell pattern or a list of these, all of which must match.
        drop: Which events do not count, in the same ways.
        unit: The unit of the measurement, ``"ms"``; two, ``("ms", "s")``, convert from the first to the
            second.
        description: What the metric says, for a person to read.
        max_series: How many series it may have; by default what the exporter's setting of this name says, but
            no more than 200 for a summary, whose series are larger.
    """

    event: str | Sequence[str] | None
    measurement: str | Function | None
    tags: str | Sequence[str]
    tag_values: Function | Mapping[str, object] | None
    keep: Function | Mapping[str, object] | None
    drop: Function | Mapping[str, object] | None
    unit: str | tuple[str, str] | None
    description: str
    max_series: int | None


def counter(name: str, **options: Unpack[Common]) -> Definition:
    """Count events.

    Args:
        name: The metric's name, ``shop.checkout.stop.count``. The last part is the measurement only in name:
            an event counts as one whatever it measures. With ``measurement``, those that have it count.
        options: See :class:`Common`.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("counter", name, options)


class _SumOptions(Common, total=False):
    monotonic: bool


def sum(name: str, **options: Unpack[_SumOptions]) -> Definition:  # noqa: A001 - what it is called
    """Add up a measurement.

    Args:
        name: The metric's name, ``shop.checkout.stop.items``.
        options: See :class:`Common`; and ``monotonic``: whether the sum only rises (the default), so that
            what is negative is refused, or rises and falls.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("sum", name, options)


class _LastValueOptions(Common, total=False):
    multiprocess_mode: str


def last_value(name: str, **options: Unpack[_LastValueOptions]) -> Definition:
    """Show the latest measurement.

    Args:
        name: The metric's name, ``shop.queue.depth``.
        options: See :class:`Common`; and ``multiprocess_mode``: how the values of several processes become
            one, one of prometheus_client's words for it (``mostrecent`` by default: what was set last).

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("last_value", name, options)


class _SummaryOptions(Common, total=False):
    quantiles: float | Sequence[float]
    error: float
    window: float


def summary(name: str, **options: Unpack[_SummaryOptions]) -> Definition:
    """Tell quantiles of what was measured recently, and how much there was altogether.

    Args:
        name: The metric's name, ``shop.checkout.stop.duration_ms``.
        options: See :class:`Common`; and ``quantiles`` (0.5, 0.9, 0.95 and 0.99 by default), ``error``: their
            relative error at most (0.01), and ``window``: the seconds they are taken over (600).

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("summary", name, options)


class _DistributionOptions(Common, total=False):
    buckets: Sequence[float] | Base2 | str | Mapping[str, float] | None


def distribution(name: str, **options: Unpack[_DistributionOptions]) -> Definition:
    """Tell how many measurements fell into which range.

    Args:
        name: The metric's name, ``shop.checkout.stop.duration_ms``.
        options: See :class:`Common`; and ``buckets``: upper bounds, inclusive, in the unit exported;
            ``exponential(...)`` for bounds that are computed, ``base2(...)`` or ``"exponential"`` for buckets
            that need none. Durations have bounds from 5 ms to 10 s by default.

    Raises:
        DefinitionError: The definition does not do; the message names everything that is wrong.
    """
    return _define("distribution", name, options)


def _define(kind: Type, name: object, options: Mapping[str, Any]) -> Definition:
    table = {"type": kind, "name": name, **options}
    try:
        return TYPES[kind].of(table)
    except DefinitionError as error:
        which = about(table).strip(" ()")
        raise DefinitionError(*(f"{which}: {problem}" for problem in error.problems)) from None
