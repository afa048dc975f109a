"""Events as log records: which become one, how severe they are, and what they carry.

An event that is neither part of a span nor a measurement is an event in OpenTelemetry's sense, which is a log
record with a name. A record of the logging bridge is a log record without one.

Pure, and without OpenTelemetry.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Final

from otpylib_telemetry.instrument.logging import LOG_EVENT
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.tracing.operations import Phase, classify
from otpylib_telemetry.tracing.propagation import parse_span_id, parse_trace_id, parse_traceparent
from otpylib_telemetry_otel import semantics
from otpylib_telemetry_otel.attributes import attribute, sorted_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otpylib_telemetry.bus.events import RawEvent
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


#: The severities there are, and the number of the least of each (OpenTelemetry's "Logs Data Model",
#: "Field: SeverityNumber").
SEVERITIES: Final[Mapping[str, int]] = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "warn": 13,
    "error": 17,
    "fatal": 21,
}
_LARGEST: Final = 24

_SHORT_NAMES: Final = tuple(f"{name.upper()}{more}" for name in SEVERITIES for more in ("", "2", "3", "4"))

#: Other names of the same, by the examples of "Appendix B" of the data model; CRITICAL is what Python calls
#: FATAL.
_BY_NAME: Final[Mapping[str, int]] = {
    **{name: number for number, name in enumerate(_SHORT_NAMES, start=1)},
    "VERBOSE": 1,
    "INFORMATION": 9,
    "INFORMATIONAL": 9,
    "NOTICE": 10,
    "WARNING": 13,
    "ERR": 17,
    "EXCEPTION": 17,
    "ALERT": 19,
    "CRITICAL": 21,
    "CRIT": 21,
    "EMERGENCY": 21,
    "EMERG": 21,
    "PANIC": 21,
}

_INFO: Final = SEVERITIES["info"]
_ERROR: Final = SEVERITIES["error"]

#: An event that measures something is a metric.
_MEASUREMENTS: Final = ("count", "duration_ms", "value")

_NUMBER: Final = "severity_number"
_SEVERITY: Final = "severity"
_LEVEL: Final = "level"
_BODY: Final = "body"
_MESSAGE: Final = "message"
_TIME: Final = "time_unix_nano"
_LOGGER: Final = "logger"
_TRACE: Final = "trace_id"
_SPAN: Final = "span_id"
_CALLER: Final = "traceparent"
_EXCEPTION: Final = "exception"
_STACK: Final = "stacktrace"
_SCOPE: Final = ("otel.scope.name", "otel.scope.version")

_SPECIAL: Final = frozenset(
    {
        *(_NUMBER, _SEVERITY, _LEVEL, _BODY, _MESSAGE, _TIME, _LOGGER, _TRACE, _SPAN, _CALLER),
        *(_EXCEPTION, _STACK, *_SCOPE),
    }
)

_MAX_SEVERITY_TEXT: Final = 64

#: The last time that OTLP can tell, in nanoseconds since the epoch, as a signed number.
_LAST: Final = 2**63 - 1

#: An application has hundreds of event names; one that makes names of data must not grow this for ever.
_MAX_KNOWN: Final = 10_000


@dataclass(slots=True, eq=False)
class LogItem:
    """A log record, exportable.

    Attributes:
        name: The event's name; empty for a record of the logging bridge.
        at_ns: When it happened, in nanoseconds since the epoch.
        observed_ns: When we heard of it.
        severity: OpenTelemetry's severity number, from 1 to 24.
        severity_text: What the application calls it.
        body: What it says; None for nothing.
        attributes: What else it carries.
        dropped_attributes: How many attributes did not fit.
        trace_id: The trace it belongs to; 0 for none.
        span_id: The span it belongs to; 0 for none.
        sampled: Whether whoever began the trace is known to record it.
        scope: Name and version of the instrumentation, or None for ours.
    """

    #: The lane it goes out on.
    lane: ClassVar[str] = "logs"

    name: str
    at_ns: int
    observed_ns: int
    severity: int
    severity_text: str
    body: Any
    attributes: Mapping[str, Any]
    dropped_attributes: int = 0
    trace_id: int = 0
    span_id: int = 0
    sampled: bool = False
    scope: tuple[str, str] | None = None

    @property
    def error(self) -> bool:
        """Whether it tells of an error."""
        return self.severity >= _ERROR


class LogMaker:
    """Makes log records of events."""

    def __init__(self, patterns: Sequence[str] = ("*",), minimum: int = 1) -> None:
        self._patterns = None if "*" in patterns else tuple(patterns)
        self._minimum = minimum
        self._known: dict[str, bool] = {}

    def make(
        self, event: RawEvent, wall_offset_ns: int, around: FinishedSpan | None = None
    ) -> LogItem | None:
        """Make a log record of an event that is part of no span; ``around`` is the one it happened in.

        None where it is to become none: it measures something, its name is none of those wanted, or it is not
        severe enough.

        Raises:
            Exception: Whatever is in the event does not let itself be read.
        """
        name, measurements, metadata, at_ns, _ = event
        if any(key in measurements for key in _MEASUREMENTS) or not self._wants(name):
            return None
        severity, severity_text, told = _severity(name, metadata)
        if severity < self._minimum:
            return None
        observed_ns = max(at_ns + wall_offset_ns, 0)
        carried = {**metadata, **measurements} if measurements else metadata
        exportable, dropped, found = sorted_out(carried, frozenset(), _SPECIAL)
        item = LogItem(
            text(name, semantics.MAX_NAME_LENGTH),
            observed_ns,
            observed_ns,
            severity,
            severity_text,
            None,
            exportable,
            dropped,
        )
        special = found or {}
        used = {*told, *_place(item, special, around), *_speak(item, special)}
        if name == LOG_EVENT:
            used |= _as_record(item, special)
        if (scope := semantics.scope(special)) is not None:
            item.scope = scope
            used |= {*_SCOPE}
        if (failed := _failure(name, metadata)) is not None:
            used |= failed.told
            special = {**failed.details, **special}
        for key, value in special.items():
            if key not in used and not attribute(exportable, key, value):
                item.dropped_attributes += 1
        return item

    def _wants(self, name: str) -> bool:
        if self._patterns is None:
            return True
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[name] = any(fnmatchcase(name, pattern) for pattern in self._patterns)
        return known


def short_name(severity: int) -> str:
    """Return the name of a severity number, such as ``WARN`` or ``INFO2``."""
    return _SHORT_NAMES[severity - 1]


def _severity(name: str, metadata: Mapping[Any, Any]) -> tuple[int, str, set[str]]:
    """Read how severe an event is.

    Numbers count under ``severity_number`` alone: a ``level`` of 7 is more likely to be one of a game's than
    of a log's. What names no severity stays an attribute.
    """
    told = set()
    number = _number(metadata.get(_NUMBER))
    if number is not None:
        told.add(_NUMBER)
    words = ""
    for key in (_SEVERITY, _LEVEL):
        said = _name(metadata.get(key))
        if said is None:
            continue
        meant = _BY_NAME.get(said.upper())
        if meant is None and not (number and key == _SEVERITY):
            continue
        told.add(key)
        words = text(said, _MAX_SEVERITY_TEXT)
        number = number or meant
        break
    if number is None:
        number = _ERROR if classify(name)[1] is Phase.ERROR else _INFO
    return number, words or short_name(number), told


def _number(value: object) -> int | None:
    """A severity number, given as one or as a member of OpenTelemetry's enumeration."""
    kind = type(value)
    if kind is int:
        return value if 1 <= value <= _LARGEST else None  # type: ignore[operator,return-value]  # it is one
    return None if value is None or kind is bool else _BY_NAME.get((_name(value) or "").upper())


def _name(value: object) -> str | None:
    """Text, or the name of a member of an enumeration."""
    if value is None:
        return None
    try:
        said: Any = str.__str__(value) if issubclass(type(value), str) else getattr(value, "name", None)
    except Exception:  # noqa: BLE001 - the value's own code may do anything
        return None
    return said.strip() or None if type(said) is str else None


def _place(item: LogItem, special: Mapping[str, Any], around: FinishedSpan | None) -> set[str]:
    """Find the trace and the span it belongs to.

    Its own ids go first, then the open span's, then a ``traceparent``. Ids that are none stay attributes.
    """
    used: set[str] = set()
    trace_id, span_id = parse_trace_id(special.get(_TRACE)), parse_span_id(special.get(_SPAN))
    caller = parse_traceparent(special.get(_CALLER))
    if around is not None and trace_id in {None, around.trace_id}:
        trace_id = around.trace_id
        span_id = span_id or around.span_id
    elif caller is not None and trace_id in {None, caller.trace_id}:
        trace_id = caller.trace_id
        span_id = span_id or caller.span_id
    if trace_id is None:
        return used
    item.trace_id = trace_id
    if parse_trace_id(special.get(_TRACE)) == trace_id:
        used.add(_TRACE)
    if span_id is not None:
        item.span_id = span_id
        if parse_span_id(special.get(_SPAN)) == span_id:
            used.add(_SPAN)
    if caller is not None and caller.trace_id == trace_id:
        item.sampled = caller.sampled
        used.add(_CALLER)
    return used


def _speak(item: LogItem, special: Mapping[str, Any]) -> set[str]:
    """Take what it says from ``body``, or else from ``message``."""
    for key in (_BODY, _MESSAGE):
        if key in special:
            written: dict[str, Any] = {}
            attribute(written, key, special[key])
            item.body = written.get(key)
            return {key}
    return set()


def _as_record(item: LogItem, special: Mapping[str, Any]) -> set[str]:
    """Take over what only the logging bridge says."""
    item.name = ""
    used: set[str] = set()
    at_ns = special.get(_TIME)
    if type(at_ns) is int and 0 < at_ns <= _LAST:
        item.at_ns = at_ns
        used.add(_TIME)
    logger = special.get(_LOGGER)
    if type(logger) is str and logger:
        # As OpenTelemetry's own bridge has it.
        item.scope = (text(logger, semantics.MAX_NAME_LENGTH), "")
        used.add(_LOGGER)
    return used


def _failure(name: str, metadata: Mapping[Any, Any]) -> semantics.Failure | None:
    """Read the exception an event tells of, by the names of the semantic conventions; None for none."""
    error, exception = metadata.get("error"), metadata.get(_EXCEPTION)
    raised = any(issubclass(type(one), BaseException) for one in (error, exception))
    if not raised:
        if classify(name)[1] is not Phase.ERROR:
            return None
        told = (exception, metadata.get("error_type"), metadata.get(_STACK))
        if (error is None or type(error) is bool) and all(one is None for one in told):
            return None
    return semantics.failure(name, metadata)
