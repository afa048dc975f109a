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
from typing import Any, Final, NamedTuple

from otpylib_telemetry.primitives.any_value import scope_text, text
from otpylib_telemetry.primitives.exceptions import MAX_FRAMES, class_name, cut, stack_trace, traceback_of
from otpylib_telemetry.tracing.links import read_link
from otpylib_telemetry.tracing.propagation import SAMPLED
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
#: The attribute of an event for the stack trace of an exception.
STACK_TRACE: Final = "exception.stacktrace"
_DESCRIPTION: Final = "otel.status_description"

#: Keys that may mean something other than an attribute.
MEANINGFUL: Final = frozenset(
    {_KIND, _SHORT_KIND, _NAME, _SCOPE_NAME, _SCOPE_VERSION, _LINKS, _EXCEPTION, _STACK, _DESCRIPTION}
)

#: Texts found under ``kind`` that name none, and how many of them are remembered.
_no_kinds: set[str] = set()
_MAX_NO_KINDS: Final = 1_000


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


class Failure(NamedTuple):
    """How a span failed; ``told`` are the metadata keys that were used up for it."""

    message: str
    details: Mapping[str, Any]
    told: frozenset[str]


def span_kind(metadata: Mapping[Any, Any]) -> str | None:
    """Return what ``span.kind``, or else ``kind``, says, as a name out of :data:`KINDS`; None for nothing.

    It may be ``"server"``, ``"SERVER"``, ``"SPAN_KIND_SERVER"`` or a member of an enumeration of such a name.
    """
    return _kind(metadata.get(_KIND)) or _kind(metadata.get(_SHORT_KIND))


def is_no_kind(value: object) -> bool:
    """Tell whether text is known to name no kind of span."""
    if type(value) is not str:
        return False
    if value in _no_kinds:
        return True
    if _kind(value) is not None:
        return False
    if len(_no_kinds) >= _MAX_NO_KINDS:
        _no_kinds.clear()
    _no_kinds.add(value)
    return True


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

    Each of ``several`` is a link or a list, tuple or set of links; see
    :func:`~otpylib_telemetry.tracing.links.read_link`.
    """
    found: dict[tuple[int, int], SpanLink] = {}
    left_out = 0
    for given in several:
        kind = type(given)
        several_links: Any = given
        if kind not in _COLLECTIONS or (kind is tuple and _link(given) is not None):
            several_links = (given,)
        read = max(_MAX_READ, most)
        left_out += max(len(several_links) - read, 0)
        for element in islice(several_links, read):
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
    found = read_link(value)
    if found is None:
        return None
    flags = found.flags if found.flags > SAMPLED else 0
    link = SpanLink(found.trace_id, found.span_id, {}, 0, found.tracestate, found.is_remote, flags)
    if issubclass(type(found.attributes), Mapping):
        try:
            link.attributes, link.dropped_attributes = attributes(found.attributes)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - the mapping's own code may do anything
            return None
    return link


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
    kind = _first(get("exception.type"), get("error_type"), get("error.type"))
    if kind is None and raised is not None:
        kind = class_name(type(raised))
    message = text(_first(error, get("exception.message"), exception, kind, event_name))
    details = {"exception.message": message}
    if kind is not None:
        details["exception.type"] = text(kind)
    stack = get(_STACK)
    if stack is not None:
        told.add(_STACK)
    if written := _stack(_first(stack, get(STACK_TRACE), raised)):
        details[STACK_TRACE] = written
    description = get(_DESCRIPTION)
    if description is not None:
        told.add(_DESCRIPTION)
        message = text(description)
    return Failure(message, details, frozenset(told))


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _stack(value: Any) -> str:
    if value is None:
        return ""
    kind = type(value)
    try:
        if issubclass(kind, BaseException):
            return "" if traceback_of(value) is None else text(stack_trace(value))
        if kind is TracebackType:
            return text(cut("".join(traceback.format_tb(value, limit=-MAX_FRAMES))))
        if kind is list and all(type(line) is str for line in value):
            # The end says what went wrong.
            return text(cut("".join(line if line.endswith("\n") else f"{line}\n" for line in value)))
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a traceback of the application's own making may do anything
        return ""
    return text(value)
