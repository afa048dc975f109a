"""What is put on an operation while it is open: attributes, measurements, events, links, and how it fails.

Nothing here raises, whatever it is given, and nothing is done to an operation that has ended. Any thread may
call; what is kept is bounded, and what is beyond is counted.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.bus.dispatch import as_dict
from otpylib_telemetry.primitives import exceptions
from otpylib_telemetry.primitives.any_value import number, text
from otpylib_telemetry.primitives.errors import describe, error_text
from otpylib_telemetry.primitives.fork import new_rlock
from otpylib_telemetry.tracing.links import link_table, read_link
from otpylib_telemetry.tracing.phases import MAX_DURATION_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.tracing.operation import Operation


#: The longest name of an event, and what a failure says at most, in characters.
_MAX_NAME: Final = 1024
_MAX_REASON: Final = 2000

#: The name of the event of an exception (OpenTelemetry's semantic conventions).
EXCEPTION: Final = "exception"

#: The variable that leaves stack traces out.
STACK_TRACES: Final = "TELEMETRY_SPAN_STACK_TRACES"

_OFF: Final = frozenset({"false", "0", "no", "off"})


class _Kept:
    """How much is kept of one operation; and whether stack traces are, where that was said."""

    # OpenTelemetry's default limits for events and links. Attributes are limited where they are exported:
    # here is the end of what a mistake may cost.
    attributes = 1024
    events = 128
    links = 128
    stack_traces: bool | None = None


# Re-entrant, because a signal handler may do the same to the operation it has interrupted.
_lock: Final = new_rlock()


def keep_at_least(*, attributes: int = 0, events: int = 0, links: int = 0) -> None:
    """Have more kept of each operation: some exporter takes as much."""
    with _lock:
        _Kept.attributes = max(_Kept.attributes, attributes)
        _Kept.events = max(_Kept.events, events)
        _Kept.links = max(_Kept.links, links)


def span_stack_traces(keep: bool | None) -> None:  # noqa: FBT001 - it is all that is said
    """Say whether spans that fail have a stack trace, for the whole process.

    Args:
        keep: False leaves them out; None goes by the variable ``TELEMETRY_SPAN_STACK_TRACES`` again.
    """
    _Kept.stack_traces = None if keep is None else bool(keep)


def are_stacks_kept() -> bool:
    """Tell whether what fails is told with its stack trace."""
    # Only asked where something failed, which costs far more.
    if _Kept.stack_traces is None:
        return os.environ.get(STACK_TRACES, "").strip().lower() not in _OFF
    return _Kept.stack_traces


def metadata_of(operation: Operation) -> dict[str, Any]:
    """Return the metadata of its end, which may be added to as long as it is open."""
    with _lock:
        final = _final(operation)
        final |= operation.ids
    return final


def _final(operation: Operation) -> dict[str, Any]:
    if operation.ended:
        return {**(operation.metadata if operation.final is None else operation.final)}
    if operation.final is None:
        operation.final = operation.metadata.copy()
        operation.is_plain = False
    return operation.final


def set_attribute(operation: Operation, key: Any, value: object) -> None:
    """Put one attribute on it, in place of what it has under this key."""
    if operation.ended:
        return
    if type(key) is not str:
        key = text(key, None)
    final = operation.final
    if final is None:
        with _lock:
            final = _final(operation)
    try:
        if len(final) < _Kept.attributes or key in final:
            final[key] = value
            return
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - another key, whose own code is asked whether it is the same
        pass
    with _lock:
        operation.dropped_attributes += 1


def set_attributes(operation: Operation, attributes: Any) -> None:
    """Put several attributes on it."""
    if not operation.ended:
        for key, value in table_of(attributes).items():
            set_attribute(operation, key, value)


def measure(operation: Operation, numbers: dict[str, Any]) -> None:
    """Put measurements on it."""
    if operation.ended or not numbers:
        return
    with _lock:
        measured = numbers if operation.measured is None else {**operation.measured, **numbers}
        if len(measured) > _Kept.attributes:
            return
        operation.measured = measured
        operation.is_plain = False


def add_event(operation: Operation, name: object, attributes: Any = None, at_ns: int | None = None) -> None:
    """Note that something happened: now, or at this time on the monotonic clock."""
    if operation.ended:
        return
    if at_ns is None:
        at_ns = monotonic_ns()
    with _lock:
        if len(operation.happenings) >= _Kept.events:
            operation.dropped_happenings += 1
            return
    happening = (text(name, _MAX_NAME), at_ns, {} if attributes is None else table_of(attributes))
    with _lock:
        if not operation.happenings:
            operation.happenings = []
            operation.is_plain = False
        operation.happenings.append(happening)  # type: ignore[attr-defined]  # the list just made


def add_link(operation: Operation, context: object, attributes: Any = None) -> None:
    """Link it to another span, unless this is none."""
    if operation.ended:
        return
    found = read_link(context)
    if found is None:
        return
    link = link_table(found)
    said = found.attributes if attributes is None else attributes
    if said is not None:
        link["attributes"] = table_of(said)
    with _lock:
        if len(operation.links) >= _Kept.links:
            operation.dropped_links += 1
            return
        if not operation.links:
            operation.links = []
            operation.is_plain = False
        operation.links.append(link)  # type: ignore[attr-defined]  # the list just made


def record_exception(
    operation: Operation,
    error: object,
    attributes: Any = None,
    at_ns: int | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Note an exception, or what ``sys.exc_info()`` says of one, which it may survive.

    ``more`` is what else is known of it; ``attributes`` go before everything.
    """
    if operation.ended:
        return
    told: dict[str, Any] = {}
    if issubclass(type(error), BaseException | tuple):
        told |= exceptions.failure(error, with_stack=are_stacks_kept())
    if not told:
        # No exception: what it is, is said all the same.
        told = {"exception.type": exceptions.short_name(type(error)), "exception.message": text(error)}
    if more is not None:
        told |= more
    if attributes is not None:
        told |= table_of(attributes)
    add_event(operation, EXCEPTION, told, at_ns)


def fail(operation: Operation, reason: object) -> None:
    """Have it end in an error, whatever becomes of it but an exception."""
    if operation.ended:
        return
    said = "" if reason is None else text(reason, _MAX_REASON)
    with _lock:
        operation.failure = {"error": said}
        operation.is_ok = operation.is_plain = False


def succeed(operation: Operation) -> None:
    """Have it said to be well, whatever becomes of it."""
    if operation.ended:
        return
    with _lock:
        operation.failure = None
        operation.is_ok = True
        operation.is_plain = False


def complete(operation: Operation) -> None:
    """Settle what was put on it, which then stays as it is: it ends."""
    if operation.final is not None:
        # Whoever added to the metadata still has it.
        operation.final = {**operation.final}
    measured = operation.measured
    if measured is not None and "duration_ms" in measured:
        # Where it is given, it decides.
        given = measured["duration_ms"]
        operation.measured = {key: value for key, value in measured.items() if key != "duration_ms"}
        try:
            duration_ms = None if type(given) is bool else number(type(given), given)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the number's own code
            return
        if duration_ms is not None and 0 <= duration_ms <= MAX_DURATION_MS:
            operation.duration_ms = float(duration_ms)


def raised(operation: Operation, error: BaseException) -> None:
    """Have it end in an error with an exception, unless that is none."""
    kind = type(error)
    if issubclass(kind, GeneratorExit) or (issubclass(kind, SystemExit) and _is_clean(error)):
        return
    name = exceptions.short_name(kind)
    failure = {"error": error_text(error) or name, "error_type": name}
    route = operation.route
    # Only where it is read: it takes longer than all the rest.
    if (route.traced or route.fails) and are_stacks_kept() and (stack := exceptions.stack_trace(error)):
        failure["stacktrace"] = stack
    operation.raised = exceptions.class_name(kind)
    operation.failure = failure
    operation.is_plain = False
    for watch in when_raised:
        watch(operation, error)


#: Called with each operation that ends with an exception, and the exception.
when_raised: Final[list[Callable[[Operation, BaseException], None]]] = []


_exit_code: Final[Any] = SystemExit.__dict__["code"]


def _is_clean(error: BaseException) -> bool:
    code = _exit_code.__get__(error)
    return code is None or (issubclass(type(code), int) and int.__int__(code) == 0)


def table_of(given: Any) -> dict[str, Any]:
    """Return attributes, or metadata, as they are now; what cannot be read says so."""
    try:
        return as_dict(given).copy()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a mapping of the application's own making may do anything
        return {"metadata_error": describe(error)}
