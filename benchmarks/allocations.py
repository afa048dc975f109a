"""Allocations of one operation: how often Python's allocator is asked for a block, in whichever place.

Between two instructions of the bytecode the blocks in use are counted. Each that is more than before is an
allocation. What one instruction takes and gives back itself is not seen, nor is what is larger than the
allocator's blocks (512 bytes). The count is of work, not of time: it is the same on a busy machine.
"""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import operations
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_prometheus.backend import PrometheusBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: A chunk of events: fewer spans than wake the thread of a BatchSpanProcessor, which nobody would count.
OPERATIONS = 200

#: The largest request that Python's allocator has a block for.
_LARGEST_BLOCK = 512


def _allocations(run: Callable[[int], None], count: int) -> float:
    """Return how many blocks one operation takes."""
    run(count)  # caches, first-time look-ups
    run(count)
    blocks = sys.getallocatedblocks
    taken = last = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal taken, last
        more = blocks() - last
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            # Frames have an object only because they are traced.
            more -= sys.getsizeof(frame) <= _LARGEST_BLOCK
        if more > 0:
            taken += more
        last = blocks()
        return trace

    gc.collect()
    gc.disable()
    last = blocks()
    sys.settrace(trace)
    try:
        run(count)
    finally:
        sys.settrace(None)
        gc.enable()
    return taken / count


def table(count: int) -> str:
    """Count, of so many operations at most, and return the result as a Markdown table."""
    count = min(count, OPERATIONS)
    theirs = _allocations(operations.both_libraries(), count)
    rows = {
        "both libraries": theirs,
        "`with span()`, both exporters": _allocations(
            operations.spans(OtelBackend, PrometheusBackend), count
        ),
        "`with span()`, the caller's part": _allocations(operations.caller(2), count),
        "`with span()`, nobody listens": _allocations(operations.nobody(), count),
    }
    return "\n".join(
        [
            "| allocations of one operation | blocks | ratio |",
            "|---|---:|---:|",
            *(f"| {what} | {blocks:.0f} | {blocks / theirs:.2f} |" for what, blocks in rows.items()),
        ]
    )
