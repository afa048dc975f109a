"""What names another span, whoever made it: a header, metadata, an object of ours or of another API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from otpylib_telemetry.tracing.headers import read_tracestate
from otpylib_telemetry.tracing.propagation import (
    SAMPLED,
    format_traceparent,
    parse_span_id,
    parse_trace_id,
    parse_traceparent,
)

_NO_LINKS: Final = frozenset({bool, int, float, bytes, bytearray, type(None)})


class Link(NamedTuple):
    """A span somewhere.

    Attributes:
        trace_id: The trace it belongs to.
        span_id: Its id.
        flags: The flags of its trace.
        tracestate: The ``tracestate`` of its trace; empty where there is none.
        attributes: What is said about the link, whatever that is; None for nothing.
        is_remote: Whether it is known to be elsewhere.
    """

    trace_id: int
    span_id: int
    flags: int = SAMPLED
    tracestate: str = ""
    attributes: Any = None
    is_remote: bool = False


def read_link(value: Any) -> Link | None:
    """Return the span that is named; None where none is.

    It is named by a ``traceparent``, a pair of trace id and span id, a table or an object with ``trace_id``
    and ``span_id`` (a table may have ``traceparent`` instead, and ``attributes``), or an object whose
    ``context`` is one, such as OpenTelemetry's ``Link``. Ids are hexadecimal text or integers.
    """
    kind = type(value)
    if kind in _NO_LINKS:
        return None
    try:
        found = _read(kind, value)
        return found._replace(is_remote=True) if found is not None and _is_remote(kind, value) else found
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code may do anything
        return None


def _read(kind: type, value: Any) -> Link | None:
    if issubclass(kind, str):
        return _of_header(value)
    if kind is tuple or kind is list:
        return _of_ids(*value) if len(value) == 2 else None  # noqa: PLR2004 - a pair
    if issubclass(kind, Mapping):
        given = value.get("attributes")
        if (header := value.get("traceparent")) is not None:
            return _of_header(header, value.get("tracestate"), given)
        flags = value.get("trace_flags", SAMPLED)
        return _of_ids(value.get("trace_id"), value.get("span_id"), flags, value.get("tracestate"), given)
    context = getattr(value, "context", None)
    given = None if context is None else getattr(value, "attributes", None)
    context = value if context is None else context
    flags = getattr(context, "trace_flags", None)
    state: Any = getattr(context, "tracestate", None) or getattr(context, "trace_state", None)
    return _of_ids(
        getattr(context, "trace_id", None),
        getattr(context, "span_id", None),
        flags,
        state.to_header() if hasattr(state, "to_header") else state,
        given,
    )


def _is_remote(kind: type, value: Any) -> bool:
    if issubclass(kind, Mapping):
        return value.get("is_remote") is True
    context = getattr(value, "context", None)
    return getattr(value if context is None else context, "is_remote", None) is True


def _of_header(header: Any, tracestate: Any = None, attributes: Any = None) -> Link | None:
    found = parse_traceparent(header)
    if found is None:
        return None
    return Link(found.trace_id, found.span_id, found.flags, read_tracestate(tracestate), attributes)


def _of_ids(
    trace_id: Any, span_id: Any, flags: Any = SAMPLED, tracestate: Any = None, attributes: Any = None
) -> Link | None:
    trace, span = parse_trace_id(trace_id), parse_span_id(span_id)
    if trace is None or span is None:
        return None
    known = int.__int__(flags) if issubclass(type(flags), int) else SAMPLED
    return Link(trace, span, known, read_tracestate(tracestate), attributes)


def link_table(link: Link) -> dict[str, Any]:
    """Return the table that names a span in metadata."""
    made: dict[str, Any] = {"traceparent": format_traceparent(link.trace_id, link.span_id, link.flags)}
    if link.tracestate:
        made["tracestate"] = link.tracestate
    if link.is_remote:
        made["is_remote"] = True
    return made
