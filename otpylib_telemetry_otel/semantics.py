"""What certain metadata keys mean for a span: its kind, its name, its scope, its links, how it failed.

Pure, and without OpenTelemetry. The keys are either OpenTelemetry's own or plain words; whatever does not say
what it should stays an ordinary attribute, since an application may well use ``links`` for something else.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Final

from otpylib_telemetry.primitives.any_value import MAX_TEXT_LENGTH, scope_text, text
from otpylib_telemetry.tracing.propagation import parse_span_id, parse_trace_id, parse_traceparent
from otpylib_telemetry_otel.attributes import attributes

#: The kinds of span there are: OpenTelemetry's ``SpanKind``.
KINDS: Final = frozenset({"INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"})

#: How many links a span has at most. The default of the OpenTelemetry specification ("Span Limits":
#: LinkCountLimit).
MAX_LINKS: Final = 128

#: Longest name of a span, an event or a scope, in characters.
MAX_NAME_LENGTH: Final = 1024

_KIND: Final = "span.kind"
_SHORT_KIND: Final = "kind"
_NAME: Final = "span.name"
_SCOPE_NAME: Final = "otel.scope.name"
_SCOPE_VERSION: Final = "otel.scope.version"
_LINKS: Final = "links"
_EXCEPTION: Final = "exception"
_STACK: Final = "stacktrace"
_DESCRIPTION: Final = "otel.status_description"

#: Keys that may mean something other than an attribute.
MEANINGFUL: Final = frozenset(
    {_KIND, _SHORT_KIND, _NAME, _SCOPE_NAME, _SCOPE_VERSION, _LINKS, _EXCEPTION, _STACK, _DESCRIPTION}
)

#: Of deeper stacks the innermost frames are kept; so many are some ten thousand characters.
_MAX_FRAMES: Final = 64


@dataclass(slots=True, eq=False)
class SpanLink:
    """A span that has to do with another without being its parent; its attributes are exportable."""

    trace_id: int
    span_id: int
    attributes: Mapping[str, Any]
    dropped_attributes: int = 0
    tracestate: str = ""
    is_remote: bool = False
    #: Those of its trace, where they say more than whether it is recorded.
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """How a span failed; ``told`` are the metadata keys that were used up for it."""

    message: str
    details: Mapping[str, Any]
    told: frozenset[str]


def span_kind(metadata: Mapping[Any, Any]) -> str | None:
    """Return what ``span.kind``, or else ``kind``, says, as a name out of :data:`KINDS`; None for nothing.

    It may be ``"server"``, ``"SERVER"``, ``"SPAN_KIND_SERVER"`` or a member of an enumeration of such a name.
    """
    return _kind(metadata.get(_KIND)) or _kind(metadata.get(_SHORT_KIND))


def _kind(value: object) -> str | None:
    if value is None:
        return None
    kind = type(value)
    try:
        said: Any = str.__str__(value) if issubclass(kind, str) else getattr(value, "name", None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code may do anything
        return None
    if type(said) is not str:
        return None
    name = said.upper().removeprefix("SPAN_KIND_")
    return name if name in KINDS else None


def span_name(metadata: Mapping[Any, Any]) -> str | None:
    """Return the name that ``span.name`` gives, or None: only text that says something is one."""
    return _words(metadata.get(_NAME))


def scope(metadata: Mapping[Any, Any]) -> tuple[str, str] | None:
    """Return the name and the version of the instrumentation scope; None where none is named."""
    name = _words(metadata.get(_SCOPE_NAME))
    if name is None:
        return None
    return name, scope_text(metadata.get(_SCOPE_VERSION), MAX_NAME_LENGTH)


def _words(value: object) -> str | None:
    if not issubclass(type(value), str):
        return None
    return text(value, MAX_NAME_LENGTH) or None


def links(*several: object, most: int = MAX_LINKS) -> tuple[list[SpanLink], int]:
    """Read what ``links`` says: each span once, and how many are no links or beyond ``most``.

    Each of ``several`` is a link or a list, tuple or set of links. A link is a ``traceparent``, a pair of
    trace id and span id, a table or an object with ``trace_id`` and ``span_id`` (a table may have
    ``traceparent`` instead, and ``attributes``), or an object whose ``context`` is one, such as
    OpenTelemetry's ``Link``. Ids are hexadecimal text or integers.
    """
    found: dict[tuple[int, int], SpanLink] = {}
    left_out = 0
    for given in several:
        kind = type(given)
        several_links: Any = given
        if kind not in _COLLECTIONS or (kind is tuple and _link(given) is not None):
            several_links = (given,)
        left_out += max(len(several_links) - _MAX_READ, 0)
        for element in islice(several_links, _MAX_READ):
            link = _link(element)
            if link is None:
                left_out += 1
            elif (link.trace_id, link.span_id) not in found:
                if len(found) < most:
                    found[link.trace_id, link.span_id] = link
                else:
                    left_out += 1
    return list(found.values()), left_out


_COLLECTIONS: Final = frozenset({list, tuple, set, frozenset})

#: How many elements are looked at: a list may hold a link many times, or a million things that are none.
_MAX_READ: Final = 1024


def _link(value: Any) -> SpanLink | None:
    kind = type(value)
    if value is None or kind in _NO_LINKS:
        return None
    try:
        trace_id, span_id, carried = _linked(kind, value)
        trace, span = parse_trace_id(trace_id), parse_span_id(span_id)
        if trace is None or span is None:
            return None
        link = SpanLink(trace, span, {})
        if issubclass(type(carried), Mapping):
            link.attributes, link.dropped_attributes = attributes(carried)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code may do anything
        return None
    return link


def _linked(kind: type, value: Any) -> tuple[Any, Any, Any]:
    """What a link says: trace id, span id and attributes, any of them None or nonsense."""
    if issubclass(kind, str):
        return (*(parse_traceparent(value) or (None, None))[:2], None)
    if kind is tuple or kind is list:
        return (*value, None) if len(value) == 2 else (None, None, None)  # noqa: PLR2004 - a pair
    if issubclass(kind, Mapping):
        if (header := value.get("traceparent")) is not None:
            return (*(parse_traceparent(header) or (None, None))[:2], value.get("attributes"))
        return value.get("trace_id"), value.get("span_id"), value.get("attributes")
    context = getattr(value, "context", None)
    if context is None:
        return getattr(value, "trace_id", None), getattr(value, "span_id", None), None
    return context.trace_id, context.span_id, getattr(value, "attributes", None)


_NO_LINKS: Final = frozenset({bool, int, float, bytes, bytearray})


def failure(event_name: str, metadata: Mapping[Any, Any]) -> Failure:
    """Read how an operation failed out of the event that said so.

    The message is ``error``, unless that is a mere flag, or else what ``exception`` says; an ending that says
    neither still says by its name whether it was an error, an exception or a failure. ``error_type`` names
    the type; for an exception object it is its class with the module, as the semantic conventions ask.
    ``stacktrace`` (text, lines or a traceback) goes before the exception's own.
    """
    get = metadata.get
    error, exception = get("error"), get(_EXCEPTION)
    told = set()
    if type(error) is bool:
        error = None
    raised: Any = next((one for one in (exception, error) if issubclass(type(one), BaseException)), None)
    if raised is not None and raised is exception:
        told.add(_EXCEPTION)
    kind = _first(get("error_type"), get("exception.type"), get("error.type"))
    if kind is None and raised is not None:
        kind = _class_name(type(raised))
    message = text(_first(error, get("exception.message"), exception, kind, event_name))
    details = {"exception.message": message}
    if kind is not None:
        details["exception.type"] = text(kind)
    stack = get(_STACK)
    if stack is not None:
        told.add(_STACK)
    if written := _stack(_first(stack, get("exception.stacktrace"), raised)):
        details["exception.stacktrace"] = written
    description = get(_DESCRIPTION)
    if description is not None:
        told.add(_DESCRIPTION)
        message = text(description)
    return Failure(message, details, frozenset(told))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _class_name(kind: type) -> str:
    try:
        return (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return text(kind)


def _stack(value: Any) -> str:
    if value is None:
        return ""
    try:
        lines = _lines(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - an exception of the application's own making may do anything
        return ""
    if lines is None:
        return text(value)
    written = "".join(lines)
    # The end says what went wrong.
    return text(written if len(written) <= MAX_TEXT_LENGTH else "…" + written[1 - MAX_TEXT_LENGTH :])


def _lines(value: Any) -> list[str] | None:
    """The lines of a stack, each with its end; None for what is no stack of a kind that is known."""
    kind = type(value)
    if issubclass(kind, BaseException):
        return [] if value.__traceback__ is None else traceback.format_exception(value, limit=-_MAX_FRAMES)
    if kind is TracebackType:
        return traceback.format_tb(value, limit=-_MAX_FRAMES)
    if kind is list and all(type(line) is str for line in value):
        return [line if line.endswith("\n") else f"{line}\n" for line in value]
    return None
