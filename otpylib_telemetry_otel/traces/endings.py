"""How a span ends: with what its ending carries, and for how long it says that it went on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.tracing.phases import MAX_DURATION_MS, Phase, classify

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry_otel.traces.spans import FinishedSpan


def end(
    span: FinishedSpan,
    name: str,
    measurements: Mapping[Any, Any],
    metadata: Mapping[Any, Any],
    duration_ns: int,
) -> None:
    """End a span with what its ending carries, so many nanoseconds after its start."""
    if "links" in metadata:
        span.early_links = span.attributes.get("links")
    span.attributes = {**span.attributes, **metadata, **measurements}
    span.end_ns = span.start_ns + duration_ns if duration_ns > 0 else span.start_ns
    if classify(name)[1] is Phase.ERROR:
        span.error = True
        span.failure = (name, metadata)


def duration_ns(measurements: Mapping[Any, Any]) -> int | None:
    """Return the measured duration, or None where there is none that can be believed."""
    measured: Any = measurements.get("duration_ms")
    kind = type(measured)
    if kind is not float and kind is not int:
        if kind is bool or not issubclass(kind, int | float):
            return None
        # A subclass compares and multiplies as it likes.
        measured = int.__int__(measured) if issubclass(kind, int) else float.__float__(measured)
    # Not a number compares false with everything.
    return int(measured * 1_000_000) if 0 <= measured <= MAX_DURATION_MS else None
