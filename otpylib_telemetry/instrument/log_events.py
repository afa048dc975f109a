"""The event that a log record becomes, whichever library it was logged with."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otpylib_telemetry.bus import log
from otpylib_telemetry.bus.dispatch import execute
from otpylib_telemetry.instrument.log_record import RECORD, LogRecord
from otpylib_telemetry.primitives.any_value import AnyValue, any_values, text
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.tracing.places import current_span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otpylib_telemetry.tracing.propagation import SpanContext

F = TypeVar("F")
T = TypeVar("T")

#: The event that a record becomes.
LOG_EVENT: Final = "log.record"

#: The packages of OpenTelemetry's API, SDK and exporters. Its instrumentations speak of the application.
_OF_OPENTELEMETRY: Final = (
    *("_events", "_logs", "attributes", "baggage", "context", "environment_variables", "exporter", "metrics"),
    *("propagate", "propagators", "sdk", "trace", "util"),
)

#: Loggers whose records are never taken, and all below them: ours, and those of OpenTelemetry. What they say
#: while a record is handled, wherever that is, must not be the next record.
IGNORED: Final = ("otpylib_telemetry", *(f"opentelemetry.{package}" for package in _OF_OPENTELEMETRY))

#: The name of the threads that export; whatever a library logs there, it logs because of us.
_EXPORTING: Final = "otpylib-telemetry"

#: How many attributes a log record has at most. The default of the OpenTelemetry specification ("Attribute
#: Limits": AttributeCountLimit).
_MAX_ATTRIBUTES: Final = 128

#: The last time that every receiver can tell, in nanoseconds since the epoch.
_LAST: Final = 2**63 - 1

_TRACE: Final = 1
UNREADABLE: Final = "<log record that cannot be read>"
NOTHING: Final[dict[Any, Any]] = {}

_FILTER_FAILS: Final = (
    "%s fails (%s). A record for which it fails becomes no event. Further failures are not reported."
)

#: Whether a log record is being handled: also in a task that its handler starts.
_handled: ContextVar[bool] = ContextVar("otpylib_telemetry_log_record", default=False)


class Ignored:
    """The loggers whose records are left out, and all below them: :data:`IGNORED`, and further ones."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        # A single text would be taken for its letters.
        listed = [None] if isinstance(further, str) or not isinstance(further, Iterable) else [*further]
        names = [*IGNORED, *(name for name in listed if isinstance(name, str))]
        if len(names) < len(IGNORED) + len(listed):
            raise TypeError(f"ignored: expected a list of names, got {type(further).__name__}")
        self._names = frozenset(names)
        self._below = tuple(f"{name}." for name in names)

    def has(self, name: object) -> bool:
        """Tell whether a logger of this name is one of them."""
        return type(name) is str and (name in self._names or name.startswith(self._below))


class Filter:
    """A filter of the application's own, which may fail."""

    def __init__(self, bridge: str, passes: Callable[[Any], Any]) -> None:
        self._bridge = bridge
        self._passes = passes
        self._failed = Once()

    def __call__(self, record: Any) -> Any:
        """Return what the filter says; False where it fails."""
        try:
            return self._passes(record)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a filter of the application's own
            # It may be there to keep secrets: what it has not let through does not go out.
            if self._failed.is_news():
                log.warning(_FILTER_FAILS, self._bridge, describe(error))
            return False


def is_caused_by_us(thread: object = None) -> bool:
    """Tell whether what is logged now is logged by a handler of log records, or by a thread that exports."""
    if _handled.get():
        return True
    return (thread if type(thread) is str else threading.current_thread().name) == _EXPORTING


def emit(metadata_of: Callable[[F], dict[str, Any]], record: F) -> None:
    """Emit the event of a record; what its handlers log meanwhile becomes none."""
    token = _handled.set(True)
    try:
        execute(LOG_EVENT, {}, metadata_of(record))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever is in a record, logging it must not fail
        execute(LOG_EVENT, {}, {"message": UNREADABLE, RECORD: LogRecord(UNREADABLE)})
    finally:
        _handled.reset(token)


def read(part: Callable[[F], T], record: F, otherwise: T) -> T:
    """Return a part of a record, whatever is in it."""
    try:
        return part(record)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever is in a record, it costs the part that it is in
        return otherwise


def severity_number(level: int) -> int:
    """Return OpenTelemetry's severity number of a level of logging, or of loguru.

    The ten levels from DEBUG on, say, are the four severities DEBUG to DEBUG4, as OpenTelemetry's own bridge
    has it; what is below DEBUG is TRACE, CRITICAL is FATAL.
    """
    tens, rest = divmod(min(max(level, 0), 59), 10)
    return _TRACE if tens == 0 else _TRACE + 4 * tens + min(rest, 3)


def nanoseconds(seconds: float) -> int:
    """Return a time since the epoch in nanoseconds; 0 for one that cannot be told."""
    at_ns = int(seconds * 1e9)
    return at_ns if 0 < at_ns <= _LAST else 0


@dataclass(slots=True)
class Logged:
    """What was logged, whichever library it was logged with.

    Attributes:
        message: What it says.
        body: What is sent of that, if not the same.
        severity: OpenTelemetry's severity.
        level: The name of its level.
        at_ns: When, in nanoseconds since the epoch; 0 for now.
        logger: Who says it.
        extra: What the application gave along, under any names.
        details: What the library knows besides: the place in the code, the exception.
        span: Where in a trace it was logged, if that is not here.
    """

    message: str
    body: AnyValue
    severity: int
    level: str
    at_ns: int
    logger: str
    extra: Mapping[Any, Any] = field(default_factory=dict)
    details: Mapping[Any, Any] = field(default_factory=dict)
    span: SpanContext | None = None


def metadata_of(logged: Logged) -> dict[str, Any]:
    """Return the metadata of the event, the record in OpenTelemetry's fields among them."""
    extra, details = logged.extra, logged.details
    at_ns = logged.at_ns or time.time_ns()
    metadata, sent = dict(extra), {**details, **extra}
    made = LogRecord(
        logged.body,
        severity_number=logged.severity,
        severity_text=text(logged.level),
        time_unix_nano=at_ns,
        scope=(text(logged.logger), "") if logged.logger else None,
    )
    span = logged.span or current_span()
    if span is not None:
        made.trace_id, made.span_id = int(span.trace_id, 16), int(span.span_id, 16)
        made.flags = span.trace_flags
        sent.setdefault("correlation_id", span.correlation_id)
        if extra.get("trace_id") is None and extra.get("span_id") is None:
            metadata["trace_id"], metadata["span_id"] = span.trace_id, span.span_id
            metadata.setdefault("correlation_id", span.correlation_id)
    attributes, made.dropped_attributes = any_values(sent)
    if len(attributes) > _MAX_ATTRIBUTES:
        made.dropped_attributes += len(attributes) - _MAX_ATTRIBUTES
        attributes = dict(islice(attributes.items(), _MAX_ATTRIBUTES))
    made.attributes = attributes
    return {
        **metadata,
        "message": logged.message,
        "severity": logged.level,
        "severity_number": logged.severity,
        "logger": logged.logger,
        "time_unix_nano": at_ns,
        **details,
        RECORD: made,
    }
