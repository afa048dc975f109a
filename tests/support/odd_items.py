"""What no sane program puts into a span, wherever something can be put."""

import contextlib
import decimal
import enum
import math
import os
import pathlib
import uuid

import numpy as np
from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from otpylib_telemetry import execute, span
from tests.support.absurd import Malicious, MaliciousDict, MaliciousMapping, MaliciousStr, UnprintableError


class Colour(enum.Enum):
    RED = 1


def endless():
    inner = []
    inner.append(inner)
    return inner


SURROGATE = "a\ud83eb"

#: Any Python object.
OBJECTS = {
    "text": "x",
    "surrogate": SURROGATE,
    "file name": os.fsdecode(b"/srv/\xff.txt"),
    "malicious text": MaliciousStr("still text"),
    "bytes": b"\xff\x00",
    "none": None,
    "huge": 2**70,
    "no number": math.nan,
    "number of numpy": np.int64(3),
    "array": np.arange(3),
    "decimal": decimal.Decimal("1.1"),
    "uuid": uuid.UUID(int=1),
    "enumeration": Colour.RED,
    "path": pathlib.Path("/srv"),
    "object": object(),
    "class": int,
    "map": {"a": {"b": [1, SURROGATE]}, 5: None},
    "mixed": [1, "a", None, b"x", 2**70],
    "nested": [[1], [2, [SURROGATE]]],
    "set": {"a", SURROGATE},
    "endless": endless(),
    "exception": UnprintableError(),
    "malicious": Malicious(),
    "malicious exit": Malicious(SystemExit),
    "malicious mapping": MaliciousMapping(),
    "malicious dict": MaliciousDict(a=1),
}

#: Where ids are wanted, and times.
CONTEXT = SpanContext(5, 6, is_remote=True)


def _ended(made):
    made.end()


#: By place, what puts an object there, in a span of the API of that name.
API_PLACES = {
    "attribute": lambda tracer, name, odd: _with(tracer, name, lambda made: made.set_attribute("k", odd)),
    "attribute of the start": lambda tracer, name, odd: _ended(
        tracer.start_span(name, attributes={"k": odd})
    ),
    "key": lambda tracer, name, odd: _ended(tracer.start_span(name, attributes={odd: 1})),
    "event": lambda tracer, name, odd: _with(tracer, name, lambda made: made.add_event("e", {"k": odd})),
    "event's name": lambda tracer, name, odd: _with(tracer, name, lambda made: made.add_event(odd)),
    "event's time": lambda tracer, name, odd: _with(
        tracer, name, lambda made: made.add_event("e", timestamp=odd)
    ),
    "exception": lambda tracer, name, odd: _with(
        tracer, name, lambda made: made.record_exception(ValueError(odd))
    ),
    "status": lambda tracer, name, odd: _with(
        tracer, name, lambda made: made.set_status(Status(StatusCode.ERROR, odd))
    ),
    "link": lambda tracer, name, odd: _ended(tracer.start_span(name, links=[Link(CONTEXT, {"k": odd})])),
    "link's target": lambda tracer, name, odd: _ended(tracer.start_span(name, links=[Link(odd)])),
    "link's trace": lambda tracer, name, odd: _ended(
        tracer.start_span(name, links=[Link(SpanContext(5, 6, is_remote=False, trace_state=odd))])
    ),
    "start": lambda tracer, name, odd: _ended(tracer.start_span(name, start_time=odd)),
    "end": lambda tracer, name, odd: tracer.start_span(name).end(odd),
    "kind": lambda tracer, name, odd: _ended(tracer.start_span(name, kind=odd)),
}

#: The same for the scope it is made in.
SCOPE_PLACES = {
    "name": lambda odd: trace.get_tracer(odd, "1"),
    "version": lambda odd: trace.get_tracer("shop", odd),
    "schema": lambda odd: trace.get_tracer("shop", "1", schema_url=odd),
    "attribute": lambda odd: trace.get_tracer("shop", "1", attributes={"k": odd}),
    "key": lambda odd: trace.get_tracer("shop", "1", attributes={odd: 1}),
}

_FAILING = ("error", "error_type", "exception", "stacktrace", "otel.status_description")

#: And for spans of ours.
OWN_PLACES = {
    "metadata": lambda name, odd: _own(name, {"k": odd}),
    "key": lambda name, odd: _own(name, {odd: 1}),
    "span.kind": lambda name, odd: _own(name, {"span.kind": odd}),
    "links": lambda name, odd: _own(name, {"links": odd}),
    "link's attribute": lambda name, odd: _own(
        name, {"links": [{"trace_id": "5" * 32, "span_id": "6" * 16, "attributes": {"k": odd}}]}
    ),
    "scope": lambda name, odd: _own(name, {"otel.scope.name": odd, "otel.scope.version": odd}),
    "measurement": lambda name, odd: execute(f"{name}.success", {"duration_ms": 1, "k": odd}),
    "added": lambda name, odd: _own(name, {}, lambda made: made.metadata.update(k=odd)),
    "event": lambda name, odd: _own(name, {}, lambda _: execute("happened", {"n": odd}, {"k": odd})),
    "failure": lambda name, odd: _failing(name, ValueError(odd)),
    "traceparent": lambda name, odd: _own(name, {"traceparent": odd}),
    "correlation": lambda name, odd: _own(name, {"correlation_id": odd}),
    "ending": lambda name, odd: (
        execute(f"{name}.start", {}, {"request_id": name}),
        execute(
            f"{name}.error", {}, {"request_id": name, "error": odd, "stacktrace": odd, "error_type": odd}
        ),
    ),
}


def _with(tracer, name, act):
    with tracer.start_as_current_span(name) as made:
        act(made)


def _own(name, metadata, act=lambda _: None):
    with span(name, metadata) as made:
        act(made)


def _failing(name, error):
    with contextlib.suppress(ValueError), span(name):
        raise error


def make_all():
    """Put every object in every place; returns the names of the spans that have to arrive.

    Those are missing for which OpenTelemetry's own classes raise in the application.
    """
    names = set()
    tracer = trace.get_tracer("odd")
    for label, odd in OBJECTS.items():
        for place, make in API_PLACES.items():
            name = f"api {place}: {label}"
            with contextlib.suppress(Exception, SystemExit):
                make(tracer, name, odd)
                names.add(name)
        for place, scoped in SCOPE_PLACES.items():
            name = f"scope {place}: {label}"
            with contextlib.suppress(Exception, SystemExit):
                _ended(scoped(odd).start_span(name))
                names.add(name)
        for place, own in OWN_PLACES.items():
            name = f"own {place}: {label}"
            # What cannot be a key cannot be passed as one.
            with contextlib.suppress(SystemExit if place == "key" else (), RuntimeError, TypeError):
                own(name, odd)
                names.add(name)
        with contextlib.suppress(Exception, SystemExit):
            _ended(tracer.start_span(odd))
    return names
