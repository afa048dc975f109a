"""What can be read off an event: its numbers, and the operation it was part of.

Measurements and metadata hold anything at all. Nothing here raises, whatever a value does when it is asked.
Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.tracing.propagation import format_span_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.tracing.operation import LocalTrace, Place


_PARTS: Final = 4


def number_of(value: Any) -> float | None:
    """Return a number as a plain int or float; None if it is none.

    Bool counts as 0 and 1; Decimal, Fraction and NumPy's scalars know how to become a float; text does not,
    even if it looks like a number: what emitted it is mistaken, and better told so.
    """
    kind = type(value)
    if issubclass(kind, int):
        return int.__pos__(value)
    if issubclass(kind, float):
        return float.__pos__(value)
    try:
        return float(value) if hasattr(kind, "__float__") else None
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a value may raise anything when asked
        return None


def operation_of(metadata: Mapping[str, Any], at_ns: int) -> Traced | None:
    """Return the operation an event was part of, as far as its metadata says; None if it does not."""
    trace_id, span_id = metadata.get("trace_id"), metadata.get("span_id")
    if type(trace_id) is str:
        return Traced(at_ns, trace_id, span_id if type(span_id) is str else "")
    parent = metadata.get("traceparent")
    if trace_id is not None or type(parent) is not str:
        return None
    # https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent's span id, flags.
    parts = parent.split("-", 3)
    return Traced(at_ns, parts[1], parts[2]) if len(parts) == _PARTS else None


class InTrace(NamedTuple):
    """The operation during which something was measured, before its ids are written as text."""

    at_ns: int
    trace: LocalTrace
    span_id: int

    def settled(self) -> Traced:
        """Return what an exemplar keeps."""
        return Traced(self.at_ns, self.trace.written(), format_span_id(self.span_id))


def in_trace(place: Place, at_ns: int) -> InTrace:
    """Return what was measured at a place in a trace at some time.

    Where no trace tells of that place, it is the one around it that can be found.
    """
    if not place.is_parent:
        place = place.beyond or place
    return tuple.__new__(InTrace, (at_ns, place.trace, place.span_id))


def is_of_an_operation(metadata: Any) -> bool:
    """Tell whether metadata has a key that says which operation an event was part of."""
    try:
        return "trace_id" in metadata or "traceparent" in metadata
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as above
        return False


def readable_mapping(mapping: Any) -> Mapping[str, Any]:
    """Return a mapping that can be looked at: a copy of it, or an empty one."""
    if type(mapping) is dict:
        return mapping
    try:
        return dict(mapping)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - as above
        return {}
