"""Every call of an application that takes an object, with an object that no sane program passes."""

import asyncio
import contextlib
import gc

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LogRecord
from opentelemetry.trace import Link, SpanContext, Status, StatusCode

from otpylib_telemetry import emit, emit_counter, emit_gauge, emit_timer, execute, span
from tests.support.odd_items import OBJECTS

HERE = SpanContext(1, 2, is_remote=False)


class OwnError(BaseException):
    """Ends a program that does not know it."""


class UnaskableError(Exception):
    """An exception that raises whatever it is asked."""

    def __str__(self):
        raise OwnError

    def __repr__(self):
        # An ordinary exception, which pytest survives as well.
        raise RuntimeError

    def __getattribute__(self, name):
        raise OwnError


def hostile(error):
    """An object that raises this whatever is done with it."""

    def _raise(*_args, **_named):
        raise error

    names = (
        "str eq hash bool len iter getitem contains float int index lt format call fspath abs add radd"
        " neg round trunc next enter exit await getattribute"
    )

    def _repr(_self):
        # An ordinary exception, which pytest survives as well.
        raise RuntimeError

    methods = {f"__{name}__": _raise for name in names.split()}
    return type("Hostile", (), {**methods, "__repr__": _repr})()


def deep(wrap):
    value = 1
    for _ in range(3000):
        value = wrap(value)
    return value


def circular():
    value = {"a": [1]}
    value["a"].append(value)
    return value


#: Errors that a hostile object raises. KeyboardInterrupt is a person's, and is left to it.
ERRORS = (
    RuntimeError,
    SystemExit,
    OwnError,
    asyncio.CancelledError,
    StopIteration,
    GeneratorExit,
    MemoryError,
    RecursionError,
)

ALL = {
    **OBJECTS,
    "deep list": deep(lambda value: [value]),
    "deep map": deep(lambda value: {"a": value}),
    "circular map": circular(),
    "unaskable exception": UnaskableError(),
    **{f"raises {error.__name__}": hostile(error) for error in ERRORS},
}


@contextlib.contextmanager
def no_garbage_collection():
    """Finalize nothing that is not ours: it would fail where the stack is full, and be blamed on us."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


#: By name, what is called with an object.
CALLS = {}

_KEYS = (
    "trace_id span_id parent_span_id correlation_id request_id traceparent tracestate baggage"
    " error error_type stacktrace exception links span.kind span.name otel.scope.name otel.scope.version"
    " severity message body time_unix_nano logger outcome le"
)
KINDS = ("counter", "up_down_counter", "histogram", "gauge", "observable_counter", "observable_gauge")

_EVENTS = ("e", "op.start", "op.stop", "op.error", "log.record")


def call(function):
    CALLS[function.__name__] = function
    return function


def begin(name="a", **how):
    return trace.get_tracer("odd").start_span(name, **how)


@call
def attributes(odd):
    made = begin()
    made.set_attribute("k", odd)
    made.set_attribute(odd, 1)
    made.set_attributes(odd)
    made.set_attributes({"k": odd})
    made.end()


@call
def beginnings(odd):
    begin(odd).end()
    for how in ("attributes", "context", "kind", "links", "start_time", "record_exception"):
        begin(**{how: odd}).end()
    begin(attributes={"k": odd}).end(odd)
    for links in ([odd], [Link(odd)], [Link(HERE, odd)], [Link(HERE, {"k": odd})]):
        begin(links=links).end()
    begin(links=[Link(SpanContext(1, 2, is_remote=False, trace_state=odd))]).end()


@call
def parts_of_spans(odd):
    made = begin()
    made.update_name(odd)
    made.add_event(odd)
    made.add_event("a", odd)
    made.add_event("a", {"k": odd}, odd)
    made.add_link(odd)
    made.add_link(HERE, odd)
    made.add_link(HERE, {"k": odd})
    made.end()


@call
def failures(odd):
    made = begin()
    for error in (odd, ValueError(odd)):
        made.record_exception(error)
    made.record_exception(ValueError("x"), odd)
    made.record_exception(ValueError("x"), {"k": odd}, odd, odd)
    made.set_status(odd)
    made.set_status(StatusCode.ERROR, odd)
    made.set_status(Status(StatusCode.OK), odd)
    made.end()


@call
def raised(odd):
    errors = [ValueError(odd), *([odd] if issubclass(type(odd), Exception) else [])]
    ways = (lambda: trace.get_tracer("odd").start_as_current_span("a"), begin, lambda: span("a"))
    for error in errors:
        for way in ways:
            caught = None
            try:
                with way():
                    raise error
            except BaseException as found:
                caught = found
            assert caught is error


@call
def scopes(odd):
    for scope in [(odd,), ("a", odd), ("a", "1", odd), ("a", "1", "", odd), ("a", "1", "", {"k": odd})]:
        trace.get_tracer_provider().get_tracer(*scope).start_span("a").end()
        metrics.get_meter_provider().get_meter(*scope).create_counter("c").add(1)
        _logs.get_logger_provider().get_logger(*scope).emit(LogRecord(body="x"))


@call
def log_records(odd):
    logger = _logs.get_logger("odd")
    fields = (
        "timestamp observed_timestamp context severity_text severity_number body attributes event_name"
        " exception trace_id span_id trace_flags"
    )
    for field in fields.split():
        logger.emit(**{field: odd})
        with contextlib.suppress(BaseException):  # the API's own class, in the application
            made = None
            made = LogRecord(**{field: odd})
        if made is not None:
            logger.emit(made)
    logger.emit(odd)
    logger.emit(attributes={"k": odd})
    logger.enabled(severity_number=odd, event_name=odd, context=odd)


@call
def instruments(odd):
    meter = metrics.get_meter("odd")
    for kind in KINDS:
        make = getattr(meter, f"create_{kind}")
        make(odd)
        make(f"{kind}.a", unit=odd)
        make(f"{kind}.b", description=odd)
        if kind.startswith("observable"):
            for number, callbacks in enumerate(
                (odd, [odd], [lambda _: odd], [lambda _: [odd]], [lambda _: [metrics.Observation(odd, odd)]])
            ):
                make(f"{kind}.c{number}", callbacks)
            make(f"{kind}.d", [lambda _: [metrics.Observation(1, {"k": odd})]])
    meter.create_histogram("h1", explicit_bucket_boundaries_advisory=odd)
    meter.create_histogram("h2", explicit_bucket_boundaries_advisory=[odd])


@call
def measurements(odd):
    meter = metrics.get_meter("odd")
    for put in (
        meter.create_counter("m1").add,
        meter.create_up_down_counter("m2").add,
        meter.create_histogram("m3").record,
        meter.create_gauge("m4").set,
    ):
        put(odd)
        put(1, odd)
        put(1, {"k": odd})
        put(1, None, odd)


@call
def events(odd):
    execute(odd)
    for name in _EVENTS:
        execute(name, odd, odd)
        for measurement in ("count", "value", "duration_ms", "other"):
            execute(name, {measurement: odd}, {"k": odd})
        for key in _KEYS.split():
            execute(name, {"count": 1, "value": 2, "duration_ms": 3}, {key: odd})


@call
def spans(odd):
    for metadata in (
        odd,
        {"k": odd},
        {"links": [odd]},
        {"links": [{"trace_id": odd, "attributes": {"k": odd}}]},
    ):
        with span("s", metadata) as made:
            made.metadata["added"] = odd
    with span(odd):
        pass


@call
def methods_of_spans(odd):
    for name in ("s", "nobody.listens"):
        with span(name, {"k": 1}) as made:
            put_on(made, odd)
        # After the end.
        put_on(made, odd)
    # Before the beginning.
    put_on(span("s"), odd)


def put_on(made, odd):
    made.set_attribute("k", odd)
    made.set_attribute(odd, odd)
    made.add_event(odd)
    made.add_event("e", odd)
    made.add_event("e", {"k": odd})
    made.add_link(odd)
    made.add_link({"trace_id": odd, "span_id": odd, "tracestate": odd})
    made.add_link({"trace_id": 1, "span_id": 2, "trace_flags": odd, "attributes": odd})
    made.add_link(HERE, odd)
    made.add_link(HERE, {"k": odd})
    made.record_exception(odd)
    made.record_exception(ValueError(odd), odd)
    made.record_exception((ValueError, odd, odd), {"k": odd})
    for measurement in ("count", "value", "duration_ms", "rows"):
        made.measure(**{measurement: odd})
    made.fail(odd)


async def awaited(odd):
    async with span("s", {"k": odd}):
        pass
    await emit(odd, odd, odd)
    await emit("e", {"count": odd}, {"k": odd})
    for way in (emit_counter, emit_gauge, emit_timer):
        await way("c", odd, k=odd)
