"""The flight recorder: what a server has handled last, told when it crashes.

Messages are remembered by their tags and times. Of what was in them nothing is kept unless that is asked for,
and then it is written down, bounded and without secrets, at the crash.
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.config.redaction import without_secrets
from otpylib_telemetry.instrument.otpylib.identity import known
from otpylib_telemetry.instrument.otpylib.reasons import is_stop
from otpylib_telemetry.primitives.any_value import Bounds, any_value, text
from otpylib_telemetry.scrubbing.events import scrubbed_value

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from otpylib_telemetry.instrument.otpylib.envelope import Envelope
    from otpylib_telemetry.instrument.otpylib.identity import Handled, Identity
    from otpylib_telemetry.tracing.operation import Operation

#: How many operations that have failed are remembered, of all processes: those that were open at a crash end
#: right before it.
_MAX_FAILED: Final = 256

#: How many of them are told of, and how many messages.
_MAX_OPEN: Final = 16
_MAX_TOLD: Final = 100

#: How much of a payload is told: how deep, how many elements, and how long in all.
_BOUNDS: Final = Bounds(depth=4, width=16, elements=64, length=120)
_MAX_PAYLOAD: Final = 300
#: The same before secrets are taken out of it: half of one is not seen to be one.
_READ: Final = Bounds(depth=4, width=16, elements=64, length=4_096)


class Remembered(NamedTuple):
    """A message that was handled while nobody listened to more than crashes."""

    metadata: dict[str, Any]
    at_ns: int
    wait_ms: float | None
    duration_ms: float
    failure: bool


#: Operations that ended with an exception last, and which one that was.
_failed: deque[tuple[int, Operation]] = deque(maxlen=_MAX_FAILED)


async def remembering(
    found: Identity, handled: Handled, payload: Any, envelope: Envelope | None, handling: Awaitable[Any]
) -> Any:
    """Have a message handled, and remember it."""
    at_ns = monotonic_ns()
    wait_ms = None if envelope is None else (at_ns - envelope.sent_ns) / 1e6
    failed = False
    try:
        return await handling
    except BaseException as error:
        failed = not is_stop(error)
        raise
    finally:
        if found.recent is not None:
            duration_ms = (monotonic_ns() - at_ns) / 1e6
            done = Remembered(handled.metadata, at_ns, wait_ms, duration_ms, failed)
            found.recent.append((done, payload) if found.keeps_payloads else done)


def watch(operation: Operation, error: BaseException) -> None:
    """Take notice that an operation has ended with an exception."""
    _failed.append((id(error), operation))


def told(found: Identity, error: object) -> dict[str, Any]:
    """Return what is told of a server that crashes now: with this exception, or because it was asked to."""
    now_ns = monotonic_ns()
    spans = [
        _as_span(operation)
        for number, operation in reversed(_failed)
        if operation.emitter is found.pid
        and (number == id(error) or (found.asked_ns and operation.ended_ns >= found.asked_ns))
    ]
    messages = [_as_message(each, now_ns) for each in [*(found.recent or ())][-_MAX_TOLD:]]
    named = {"recent": messages, "open_spans": spans[:_MAX_OPEN]}
    return {key: value for key, value in named.items() if value}


def forget_all() -> None:
    """Forget everything."""
    _failed.clear()
    for found in list(known.values()):
        found.forget_recent()


def _as_span(operation: Operation) -> dict[str, Any]:
    ids = operation.ids
    return {
        "name": operation.name,
        "open_ms": round(operation.duration_ms, 3),
        "trace_id": ids["trace_id"],
        "span_id": ids["span_id"],
    }


def _as_message(each: Any, now_ns: int) -> dict[str, Any]:
    message, *payload = each if type(each) is tuple else (each,)
    found: dict[str, Any] = {
        "message": message.metadata["message"],
        "kind": message.metadata["kind"],
        "outcome": "error" if message.failure else "success",
        "age_ms": round((now_ns - message.at_ns) / 1e6, 3),
        "duration_ms": round(message.duration_ms, 3),
    }
    if message.wait_ms is not None:
        found["wait_ms"] = round(message.wait_ms, 3)
    if payload:
        found["payload"] = written(*payload)
    return found


def written(payload: Any) -> str:
    """Write down what was in a message: bounded, and without what looks like a secret."""
    clean = without_secrets(scrubbed_value(any_value(payload, _READ)))
    return text(repr(any_value(clean, _BOUNDS)), _MAX_PAYLOAD)
