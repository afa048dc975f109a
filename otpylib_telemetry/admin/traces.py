"""``GET /traces``: the traces that ended last, as waterfalls.

Ends of operations are recorded only while somebody asks: from the first request until a minute after the
last. An end costs one append then; the traces are put together when somebody asks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.admin.models.insight import Trace, Traces, TraceSpan
from otpylib_telemetry.admin.plain import plain, shown, shown_text
from otpylib_telemetry.bus import table
from otpylib_telemetry.primitives.threads import run_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otpylib_telemetry.admin.routing import Call

#: Ends of operations that are remembered, and operations of one trace that are shown.
_MOST_ENDS: Final = 10_000
_MOST_SPANS: Final = 200

#: Seconds after the last request in which ends are still recorded.
LINGER: Final = 60.0

_HANDLER: Final = "telemetry.admin.traces"
_PATTERNS: Final = ("*.success", "*.stop", "*.error", "*.exception", "*.failed")
_FAILURES: Final = (".error", ".exception", ".failed")

#: What says where an operation is, and is shown as such.
_PLACE: Final = frozenset(
    {"trace_id", "span_id", "parent_span_id", "correlation_id", "traceparent", "tracestate", "baggage"}
)


#: Ids as W3C has them; of digits alone, it may be the number of a card.
_HEXADECIMAL: Final = re.compile(r"(?=.*[a-f])(?:[0-9a-f]{16}){1,2}")


class End(NamedTuple):
    """The end of an operation."""

    name: str
    measurements: dict[str, Any]
    metadata: dict[str, Any]
    at: float


class Recorder:
    """Ends of operations, while anybody wants them."""

    def __init__(self) -> None:
        self.since = 0.0
        self.ends: deque[End] = deque(maxlen=_MOST_ENDS)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_recording(self) -> bool:
        """Whether ends are recorded."""
        return self._timer is not None

    def wanted(self) -> None:
        """Record from now on, for a minute."""
        if self._timer is None:
            self.since = time.time()
            self.ends.clear()
            # Where no exporter tells of traces, this makes operations parents of those inside of them, as any
            # handler does: else each would be a trace of its own.
            table.add(_HANDLER, _PATTERNS, self._take)
        else:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self.end)

    def end(self) -> None:
        """Record no more, and forget what was recorded."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            table.remove(_HANDLER)
            self.ends.clear()

    def _take(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.ends.append(End(name, dict(measurements), dict(metadata), time.time()))


recorder: Final = Recorder()


async def get_traces(call: Call) -> Traces:
    """Answer with the traces that ended last."""
    recorder.wanted()
    # On a thread: large ones take a second, in which the application goes on.
    found = await run_in_thread(put_together, list(recorder.ends), call.parameters.limit)
    return Traces(since=recorder.since, traces=found)


def put_together(ends: Sequence[End], limit: int) -> list[Trace]:
    """Return the last traces of which the first operation here has ended, newest first. Pure."""
    by_trace: dict[str, list[End]] = {}
    for end in ends:
        trace_id, span_id = end.metadata.get("trace_id"), end.metadata.get("span_id")
        if type(trace_id) is str and type(span_id) is str:
            by_trace.setdefault(trace_id, []).append(end)
    found: list[Trace] = []
    for trace_id, parts in sorted(by_trace.items(), key=lambda item: -item[1][-1].at):
        if len(found) >= limit:
            break
        found.append(_trace(trace_id, parts))
    return found


def _trace(trace_id: str, parts: list[End]) -> Trace:
    began = {id(end): end.at - _ms(end.measurements.get("duration_ms")) / 1000 for end in parts}
    ordered = sorted(parts, key=lambda end: began[id(end)])
    start, ids = began[id(ordered[0])], {end.metadata["span_id"] for end in parts}
    root = next((end for end in ordered if end.metadata.get("parent_span_id") not in ids), ordered[0])
    inside: dict[Any, list[tuple[float, float]]] = {}
    for end in parts:
        inside.setdefault(end.metadata.get("parent_span_id"), []).append((began[id(end)], end.at))
    spans = [
        _span(end, began[id(end)], start, inside.get(end.metadata["span_id"], ()))
        for end in ordered[:_MOST_SPANS]
    ]
    return Trace(
        trace_id=_id(trace_id),
        name=_operation(root.name),
        start=start,
        duration_ms=(max(end.at for end in parts) - start) * 1000,
        error=any(end.name.endswith(_FAILURES) for end in parts),
        spans=spans,
        left_out=len(parts) - len(spans),
    )


def _span(end: End, began: float, start: float, inside: Iterable[tuple[float, float]]) -> TraceSpan:
    duration_ms = (end.at - began) * 1000
    wait = end.measurements.get("wait_ms")
    parent = end.metadata.get("parent_span_id")
    failed = end.name.endswith(_FAILURES)
    details = {key: value for key, value in end.metadata.items() if key not in _PLACE}
    return TraceSpan(
        span_id=_id(end.metadata["span_id"]),
        parent_span_id=_id(parent) if isinstance(parent, str) else None,
        name=_operation(end.name),
        start_ms=(began - start) * 1000,
        duration_ms=duration_ms,
        wait_ms=None if wait is None else _ms(wait),
        work_ms=max(0.0, duration_ms - _covered(inside, began, end.at) * 1000),
        error=_error(end.metadata) if failed else None,
        metadata=dict(shown(details)),
    )


def _covered(intervals: Iterable[tuple[float, float]], begin: float, until: float) -> float:
    """Return how many seconds of a time are covered by intervals, which may overlap."""
    covered, reached = 0.0, begin
    for one, other in sorted(intervals):
        low, high = max(one, reached), min(other, until)
        if high > low:
            covered += high - low
            reached = high
    return covered


def _error(metadata: Mapping[str, Any]) -> str:
    told = shown({"said": metadata.get("error_type") or metadata.get("error") or "error"})
    return str(told["said"])


def _operation(name: str) -> str:
    return shown_text(name.rpartition(".")[0] or name)


def _id(given: str) -> str:
    # Whoever emits an event may call anything its id.
    return given if _HEXADECIMAL.fullmatch(given) else shown_text(given)


def _ms(value: object) -> float:
    found = plain(value)
    return max(0.0, float(found)) if isinstance(found, int | float) else 0.0
