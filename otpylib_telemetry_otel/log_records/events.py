"""Events as log records: which become one, how severe they are, and what they carry.

An event that is neither part of a span nor a measurement is an event in OpenTelemetry's sense, which is a log
record with a name. An event that tells of a log record, one of Python's logging or of the OpenTelemetry API,
brings it along: it is sent as it was made, and none of its attributes is taken for anything else.

Pure, and without OpenTelemetry.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.instrument.log_events import LOG_EVENT
from otpylib_telemetry.instrument.log_record import LogRecord, record_in
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.primitives.any_value import any_value, text
from otpylib_telemetry.tracing.phases import MEASURED, Phase, classify
from otpylib_telemetry.tracing.propagation import SAMPLED, parse_span_id, parse_trace_id, parse_traceparent
from otpylib_telemetry_otel import semantics
from otpylib_telemetry_otel.attributes import attribute, sorted_out
from otpylib_telemetry_otel.log_records.item import LogItem
from otpylib_telemetry_otel.log_records.severity import (
    ERROR,
    INFO,
    meant_by,
    name_of,
    severity_number,
    short_name,
)
from otpylib_telemetry_otel.traces.limits import NO_LIMIT, Limit, at_least_ours, limited

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otpylib_telemetry.bus.event_log import Entry
    from otpylib_telemetry.tracing.operation import Place
    from otpylib_telemetry_otel.traces.spans import FinishedSpan


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


class LogMaker:
    """Makes log records of events, of so many attributes as the limit allows.

    ``scrub`` takes secrets out of one before it is cut: half a secret is not seen to be one.
    """

    def __init__(
        self,
        patterns: Sequence[str] = ("*",),
        minimum: int = 1,
        limit: Limit = NO_LIMIT,
        scrub: Callable[[LogItem], None] | None = None,
    ) -> None:
        self._scrub = scrub
        self._patterns = None if "*" in patterns else tuple(patterns)
        self._minimum = minimum
        self._limit = limit
        self._most, self._longest = at_least_ours(limit)
        self._known: dict[str, bool] = {}

    def make(
        self, event: Entry, wall_offset_ns: int, around: FinishedSpan | Place | None = None
    ) -> LogItem | None:
        """Make a log record of an event that is part of no span; ``around`` is the one it happened in.

        None where it is to become none: it measures something, its name is none of those wanted, or it is not
        severe enough.
        """
        item = self._make(event, wall_offset_ns, around)
        if item is not None and self._scrub is not None:
            self._scrub(item)
        if item is not None and self._limit != NO_LIMIT:
            item.attributes, dropped = limited(item.attributes, self._limit)
            item.dropped_attributes += dropped
        return item

    def _make(self, event: Entry, wall_offset_ns: int, around: FinishedSpan | Place | None) -> LogItem | None:
        name, measurements, metadata, at_ns = event[:4]
        if (record := record_in(metadata)) is not None:
            return self._as_made(record, max(at_ns + wall_offset_ns, 0), around)
        if not MEASURED.isdisjoint(measurements) or not self._wants(name) or elsewhere.has(name, at_ns):
            return None
        severity, severity_text, told = _severity(name, metadata)
        if severity < self._minimum:
            return None
        observed_ns = max(at_ns + wall_offset_ns, 0)
        carried = {**metadata, **measurements} if measurements else metadata
        exportable, dropped, found = sorted_out(carried, frozenset(), _SPECIAL, self._most, self._longest)
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
            if key not in used and not attribute(exportable, key, value, self._most):
                item.dropped_attributes += 1
        return item

    def _as_made(
        self, record: LogRecord, observed_ns: int, around: FinishedSpan | Place | None
    ) -> LogItem | None:
        # One that says nothing of its severity is not known to be too slight.
        if 0 < record.severity_number < self._minimum or not self._wants(record.event_name or LOG_EVENT):
            return None
        item = LogItem(
            record.event_name,
            record.time_unix_nano,
            record.observed_time_unix_nano or observed_ns,
            record.severity_number,
            record.severity_text,
            record.body,
            record.attributes,
            record.dropped_attributes,
            record.trace_id,
            record.span_id,
            record.flags,
            record.scope,
        )
        if not item.trace_id and not record.is_placed and around is not None:
            # It was made where no span is passed on, as where none are sent.
            _place(item, {}, around)
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


def _severity(name: str, metadata: Mapping[Any, Any]) -> tuple[int, str, set[str]]:
    """Read how severe an event is.

    Numbers count under ``severity_number`` alone: a ``level`` of 7 is more likely to be one of a game's than
    of a log's. What names no severity stays an attribute.
    """
    told = set()
    number = severity_number(metadata.get(_NUMBER))
    if number is not None:
        told.add(_NUMBER)
    words = ""
    for key in (_SEVERITY, _LEVEL):
        said = name_of(metadata.get(key))
        if said is None:
            continue
        meant = meant_by(said)
        if meant is None and not (number and key == _SEVERITY):
            continue
        told.add(key)
        words = text(said, _MAX_SEVERITY_TEXT)
        number = number or meant
        break
    if number is None:
        number = ERROR if classify(name)[1] is Phase.ERROR else INFO
    return number, words or short_name(number), told


def _place(item: LogItem, special: Mapping[str, Any], around: FinishedSpan | Place | None) -> set[str]:
    """Find the trace and the span it belongs to.

    Its own ids go first, then the open span's, then a ``traceparent``. Ids that are none stay attributes.
    """
    used: set[str] = set()
    trace_id, span_id = parse_trace_id(special.get(_TRACE)), parse_span_id(special.get(_SPAN))
    caller = parse_traceparent(special.get(_CALLER))
    if around is not None and trace_id in {None, around.trace_id}:
        trace_id = around.trace_id
        span_id = span_id or around.span_id
        item.flags = SAMPLED if around.caller is None else around.caller.flags
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
        item.flags = caller.flags
        used.add(_CALLER)
    return used


def _speak(item: LogItem, special: Mapping[str, Any]) -> set[str]:
    """Take what it says from ``body``, or else from ``message``."""
    for key in (_BODY, _MESSAGE):
        if key in special:
            item.body = any_value(special[key])
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
