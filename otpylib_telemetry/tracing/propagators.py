"""Which formats the trace context takes in headers: W3C's own, or those that ``OTEL_PROPAGATORS`` names.

W3C's are written and read here, with or without OpenTelemetry. Everything else comes from the packages that
OpenTelemetry's propagators are in. A propagator that the application has set for OpenTelemetry goes first.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib_telemetry.bus import log
from otpylib_telemetry.primitives.errors import describe
from otpylib_telemetry.primitives.fork import new_lock
from otpylib_telemetry.primitives.once import Once
from otpylib_telemetry.tracing import carriers
from otpylib_telemetry.tracing.headers import baggage_of, baggage_values, header_text, merge_baggage
from otpylib_telemetry.tracing.propagation import (
    SpanContext,
    format_span_id,
    format_trace_id,
    format_traceparent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_VARIABLE: Final = "OTEL_PROPAGATORS"

#: Where packages register propagators.
_GROUP: Final = "opentelemetry_propagator"

_W3C: Final = frozenset({"tracecontext", "baggage"})

_said: Final = Once(100)


class W3C(NamedTuple):
    """W3C's formats, as far as they are wanted."""

    trace: bool = True
    baggage: bool = True

    def extract(self, carrier: Any) -> dict[str, Any]:
        """Return the context in headers as metadata has it."""
        names = (
            *(("traceparent", "tracestate") if self.trace else ()),
            *(("baggage",) if self.baggage else ()),
        )
        return {name: values for name, values in carriers.read(carrier, names).items() if values}

    def inject(self, carrier: Any, there: SpanContext | None, baggage: str) -> None:
        """Put a context into headers."""
        if self.trace and there is not None:
            carriers.write(carrier, "traceparent", there.traceparent)
            if there.tracestate:
                carriers.write(carrier, "tracestate", there.tracestate)
        if self.baggage and baggage:
            carriers.write(carrier, "baggage", baggage)


_BOTH: Final = W3C()


class Theirs:
    """A propagator of OpenTelemetry.

    Args:
        textmap: OpenTelemetry's object.
    """

    def __init__(self, textmap: Any) -> None:
        self.textmap = textmap

    def extract(self, carrier: Any) -> dict[str, Any]:
        """Return the context in headers as metadata has it."""
        return self._tried("read", self._extract, carrier) or {}

    def inject(self, carrier: Any, there: SpanContext | None, baggage: str) -> None:
        """Put a context into headers."""
        self._tried("written", self._inject, carrier, there, baggage)

    def _extract(self, carrier: Any) -> dict[str, Any]:
        from opentelemetry import baggage, context, trace  # noqa: PLC0415 - only where it is wanted

        read = self.textmap.extract(carrier, context=context.Context(), getter=_Getter())
        found: dict[str, Any] = {}
        there = trace.get_current_span(read).get_span_context()
        if there.is_valid:
            found["traceparent"] = format_traceparent(there.trace_id, there.span_id, int(there.trace_flags))
            if there.trace_state:
                found["tracestate"] = there.trace_state.to_header()
        if values := baggage.get_all(read):
            # Where it is W3C's header, as it came.
            header = ",".join(map(header_text, carriers.read(carrier, ("baggage",))["baggage"]))
            found["baggage"] = baggage_of(values, header)
        return found

    def _inject(self, carrier: Any, there: SpanContext | None, baggage: str) -> None:
        from opentelemetry import baggage as api_baggage  # noqa: PLC0415 - as above
        from opentelemetry import context, trace  # noqa: PLC0415 - as above

        made = context.get_current()
        if there is not None:
            made = trace.set_span_in_context(trace.NonRecordingSpan(as_theirs(there)), made)
        made = api_baggage.clear(made)
        for name, value in baggage_values(baggage).items():
            made = api_baggage.set_baggage(name, value, made)
        self.textmap.inject(carrier, context=made, setter=_Setter())

    def _tried(self, what: str, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - somebody else's code
            if _said.is_news((what, type(error))):
                log.warning(
                    "The trace context cannot be %s by OpenTelemetry's propagator (%s): it does not pass. "
                    "Further failures of this kind are not reported.",
                    what,
                    describe(error),
                )


class _Getter:
    """Reads headers for OpenTelemetry."""

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """Return the values of a header, or None."""
        name = key.lower()
        return list(map(header_text, carriers.read(carrier, (name,))[name])) or None

    def keys(self, carrier: Any) -> list[str]:
        """Return the names of all headers."""
        return carriers.names_in(carrier)


class _Setter:
    """Writes headers for OpenTelemetry."""

    def set(self, carrier: Any, key: str, value: str) -> None:
        """Set a header."""
        carriers.write(carrier, key, value)


def as_theirs(there: SpanContext) -> Any:
    """Return an identity as OpenTelemetry's."""
    from opentelemetry import trace  # noqa: PLC0415 - only where it is wanted

    return trace.SpanContext(
        int(there.trace_id, 16),
        int(there.span_id, 16),
        is_remote=there.is_remote,
        trace_flags=trace.TraceFlags(there.trace_flags),
        trace_state=_their_state(there.tracestate) if there.tracestate else None,
    )


@functools.lru_cache(maxsize=256)
def _their_state(tracestate: str) -> Any:
    from opentelemetry import trace  # noqa: PLC0415 - as above

    return trace.TraceState.from_header([tracestate])


def with_theirs(there: SpanContext | None, baggage: str) -> tuple[SpanContext | None, str]:
    """Add what OpenTelemetry has open here, where somebody uses it without us: ours goes first."""
    if (trace := sys.modules.get("opentelemetry.trace")) is None:
        return there, baggage
    try:
        found = trace.get_current_span().get_span_context()
        if there is None and found.is_valid:
            there = as_ours(found)
        return there, merge_baggage(their_baggage(baggage), baggage)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it is being imported, or somebody else's class
        return there, baggage


def their_baggage(known: str) -> str:
    """Return the baggage in OpenTelemetry's context; what ``known`` says as well stays as it is there."""
    from opentelemetry import baggage  # noqa: PLC0415 - only where it is wanted

    values = baggage.get_all()
    return baggage_of(values, known) if values else ""


def as_ours(found: Any, correlation_id: Any = None, baggage: str = "") -> SpanContext:
    """Return an identity of OpenTelemetry's as ours."""
    trace_id = format_trace_id(found.trace_id)
    return SpanContext(
        trace_id,
        format_span_id(found.span_id),
        trace_id if correlation_id is None else correlation_id,
        int(found.trace_flags),
        found.trace_state.to_header() if found.trace_state else "",
        baggage,
        bool(found.is_remote),
    )


class _Known:
    """What was found last, and for what."""

    of: tuple[Any, str] = (None, "")
    propagator: W3C | Theirs = _BOTH


_lock = new_lock()


def in_force() -> W3C | Theirs:
    """Return the propagator to use."""
    get = getattr(sys.modules.get("opentelemetry.propagate"), "get_global_textmap", None)
    textmap = None if get is None else get()
    wanted = (textmap, "" if textmap is not None else os.environ.get(_VARIABLE, ""))
    if _Known.of != wanted:
        with _lock:
            _Known.propagator = _of_names(wanted[1]) if textmap is None else _of_theirs(textmap)
            _Known.of = wanted
    return _Known.propagator


def _of_theirs(textmap: Any) -> W3C | Theirs:
    """Return the propagator that is set for OpenTelemetry: ours, where it does the same."""
    parts = getattr(textmap, "_propagators", None)
    kinds = None if parts is None else [type(part).__name__ for part in parts]
    return _BOTH if kinds == ["TraceContextTextMapPropagator", "W3CBaggagePropagator"] else Theirs(textmap)


def _of_names(written: str) -> W3C | Theirs:
    """Return what ``OTEL_PROPAGATORS`` names."""
    names = dict.fromkeys(filter(None, map(str.strip, written.split(","))))
    if not names:
        return _BOTH
    if "none" in map(str.lower, names):
        return W3C(trace=False, baggage=False)
    own = _W3C.intersection(names)
    if len(own) < len(names) and (loaded := _load(names)):
        from opentelemetry.propagators.composite import CompositePropagator  # noqa: PLC0415 - as above

        return Theirs(CompositePropagator(loaded))
    return W3C("tracecontext" in own, "baggage" in own) if own else _BOTH


def _load(names: Iterable[str]) -> list[Any]:
    """Load propagators by the names under which packages have registered them."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # where nobody names one, nobody waits for it

    registered = {entry.name: entry for entry in entry_points(group=_GROUP)}
    loaded, unusable = [], []
    for name in names:
        if name not in registered:
            # W3C's need no package.
            if name not in _W3C:
                unusable.append(f"{name!r} is registered by no installed package")
            continue
        try:
            loaded.append(registered[name].load()())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a package that fails to load
            unusable.append(f"{name!r} cannot be loaded ({describe(error)})")
    if unusable and _said.is_news(tuple(unusable)):
        known = ", ".join(sorted(_W3C.union(registered)))
        log.warning(
            "%s: %s. There are %s. What else it names is used, or tracecontext and baggage where that is "
            "nothing.",
            _VARIABLE,
            "; ".join(unusable),
            known,
        )
    return loaded
