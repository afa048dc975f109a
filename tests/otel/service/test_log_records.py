"""Log records of the OpenTelemetry API arrive as its own SDK would send them."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import _logs as logs_api
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otpylib_telemetry import otp, span
from otpylib_telemetry.bus import table
from otpylib_telemetry.instrument.log_record import LogRecord as Given
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.api.log_records import event_name, read
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_otel.otlp.logs import LogEncoder
from otpylib_telemetry_otel.service import start_telemetry_service
from tests.support.absurd import DETAILS, Malicious, MaliciousStr, UnprintableError
from tests.support.chassis import up
from tests.support.examples import examples
from tests.support.ledger import quiet_stats
from tests.support.telemetry_service import EXPORTER, stop, tracer
from tests.support.versions import needs_new_sdk
from tests.support.waiting import eventually

AT, SEEN = 1_700_000_000_000_000_000, 1_700_000_000_000_000_005

#: Keys that mean something among the metadata of an event.
KEYS = {
    "message": "m",
    "body": "b",
    "severity": "critical",
    "severity_number": 3,
    "severity_text": "x",
    "level": "error",
    "logger": "other",
    "time_unix_nano": 5,
    "trace_id": "1" * 32,
    "span_id": "2" * 16,
    "parent_span_id": "3" * 16,
    "traceparent": f"00-{1:032x}-{2:016x}-01",
    "tracestate": "a=b",
    "correlation_id": "order-7",
    "request_id": "r",
    "exception": "e",
    "stacktrace": "s",
    "error": True,
    "error_type": "E",
    "kind": "server",
    "span.kind": "client",
    "span.name": "n",
    "links": ("l",),
    "event.name": "n",
    "otel.scope.name": "o",
    "otel.scope.version": "9",
    "count": 1,
    "value": 2,
    "duration_ms": 3.0,
    "log_record": "mine",
}


@pytest.fixture(params=["grpc", "http/protobuf"])
async def receiver(request, runtime):
    """A receiver, and an exporter and the service in front of it, over one of the protocols."""
    found = request.getfixturevalue("grpc_receiver" if request.param == "grpc" else "http_receiver")
    await start_otel_exporter(
        {
            "endpoint": found.endpoint,
            "protocol": request.param,
            "flush_interval": 0.02,
            "service_name": "shop",
            "log_severity": "trace",
            "metrics": False,
        }
    )
    await up(EXPORTER)
    await start_telemetry_service()
    yield found
    await stop()


def logger(name="shop.client", version="1.2", *more):
    return logs_api.get_logger_provider().get_logger(name, version, *more)


def arrived(receiver):
    """Every log record that came, with its scope and the schema URL of that."""
    return [
        (record, scoped.scope, scoped.schema_url)
        for request in receiver.requests
        if request.signal == "logs"
        for group in request.message.resource_logs
        for scoped in group.scope_logs
        for record in scoped.log_records
    ]


async def sent(receiver, number):
    """So many log records, once they are there."""
    await eventually(lambda: len(arrived(receiver)) >= number, timeout=20)
    found = arrived(receiver)
    assert len(found) == number
    stats = await quiet_stats(EXPORTER)
    assert (stats["rejected"], stats["dropped"]) == (0, {})
    return found


def plain(value):
    """What an AnyValue says."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return tuple(plain(element) for element in value.array_value.values)
        case "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        case kind:
            return getattr(value, kind)


def attributes(record):
    return {pair.key: plain(pair.value) for pair in record.attributes}


async def test_body_and_attributes_of_any_type_arrive_as_what_they_are(receiver):
    bodies = [
        {"a": {"b": [1, "x", None]}, "raw": b"\xff"},
        [1, [2.5, True]],
        b"\xff\x00",
        7,
        True,
        None,
        "",
        {},
    ]
    for body in bodies:
        logger().emit(LogRecord(body=body, attributes={"same": body, "deep": {"k": [body]}}))
    expected = [{"a": {"b": (1, "x", None)}, "raw": b"\xff"}, (1, (2.5, True)), *bodies[2:]]
    for (record, _, _), body in zip(await sent(receiver, len(bodies)), expected, strict=True):
        assert (plain(record.body), type(plain(record.body))) == (body, type(body))
        assert attributes(record) == {"same": body, "deep": {"k": (body,)}}


async def test_its_fields_arrive_whatever_its_name_is(receiver):
    names = ["", "shop.sold", "shop.sale.start", "log.record", ".otel.span", "x" * 2000]
    for name in names:
        logger("shop", "1", "https://shop.example/schema", {"team": "a", "sizes": [1, 2]}).emit(
            LogRecord(
                timestamp=AT,
                observed_timestamp=SEEN,
                severity_number=SeverityNumber.WARN2,
                severity_text="careful",
                body="low",
                attributes={"shelf": "a"},
                event_name=name or None,
            )
        )
    for record, scope, schema_url in await sent(receiver, len(names)):
        assert (record.time_unix_nano, record.observed_time_unix_nano) == (AT, SEEN)
        assert (record.severity_number, record.severity_text) == (14, "careful")
        assert (plain(record.body), attributes(record)) == ("low", {"shelf": "a"})
        assert (scope.name, scope.version, schema_url) == ("shop", "1", "https://shop.example/schema")
        assert attributes(scope) == {"team": "a", "sizes": (1, 2)}
    assert {record.event_name for record, _, _ in arrived(receiver)} == set(names)


async def test_what_it_does_not_say_stays_unsaid(receiver):
    logger("", None).emit(LogRecord(observed_timestamp=SEEN))
    ((record, scope, schema_url),) = await sent(receiver, 1)
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (0, SEEN)
    assert (record.severity_number, record.severity_text, record.event_name) == (0, "", "")
    assert (record.trace_id, record.span_id, record.flags) == (b"", b"", 0)
    assert (scope.name, scope.version, schema_url) == ("", "", "")
    assert plain(record.body) is None


async def test_no_attribute_is_taken_for_anything_else(receiver):
    add_spans = (
        span("shop.order", {"correlation_id": "order-7", "span_id": "2" * 16, "trace_id": "1" * 32}),
    )
    with add_spans[0]:
        context = trace.get_current_span().get_span_context()
        for key, value in KEYS.items():
            logger().emit(
                LogRecord(
                    timestamp=AT,
                    severity_number=SeverityNumber.WARN,
                    severity_text="WARN",
                    body=f"about {key}",
                    attributes={key: value},
                    context=set_span_in_context(trace.INVALID_SPAN),
                )
            )
        logger().emit(LogRecord(body="about all", attributes=KEYS, event_name="shop.sold"))
    found = {plain(record.body): (record, scope) for record, scope, _ in await sent(receiver, len(KEYS) + 1)}
    for key, value in KEYS.items():
        record, scope = found[f"about {key}"]
        assert attributes(record) == {key: value}
        assert (record.severity_number, record.severity_text, record.time_unix_nano) == (13, "WARN", AT)
        assert (record.trace_id, record.event_name, scope.name) == (b"", "", "shop.client")
    record, _ = found["about all"]
    assert attributes(record) == KEYS
    assert int.from_bytes(record.span_id, "big") == context.span_id
    await eventually(lambda: receiver.spans)
    assert [made.events for made in receiver.spans] == [[]]


@pytest.mark.parametrize("off", [{"logs": False}, {"traces": False}])
async def test_it_is_an_event_of_no_span_whatever_is_switched_off(runtime, http_receiver, off):
    table.add("all", ["*"], lambda *event: None)
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "protocol": "http/protobuf", "flush_interval": 0.02, **off}
    )
    await up(EXPORTER)
    await start_telemetry_service()
    with span("shop.order"):
        logger().emit(LogRecord(body="low", event_name="shop.low"))
        logger().emit(LogRecord(body="low"))
    await quiet_stats(EXPORTER)
    await otp.safe_call(EXPORTER, ("flush", 5.0), timeout=20)
    assert len(arrived(http_receiver)) == (0 if "logs" in off else 2)
    assert all(made.events == [] for made in http_receiver.spans)
    await stop()


async def test_it_says_which_trace_it_belongs_to_and_whether_that_is_recorded(receiver):
    def within(flags):
        context = SpanContext(7, 8, is_remote=True, trace_flags=TraceFlags(flags))
        logger().emit(LogRecord(body=flags, context=set_span_in_context(NonRecordingSpan(context))))

    for flags in (0, 1, 2, 3):
        within(flags)
    with tracer().start_as_current_span("pay"), span("shop.order"):
        logger().emit(LogRecord(body="ours"))
    found = {plain(record.body): record for record, _, _ in await sent(receiver, 5)}
    for flags in (0, 1, 2, 3):
        ids = int.from_bytes(found[flags].trace_id, "big"), int.from_bytes(found[flags].span_id, "big")
        assert (*ids, found[flags].flags) == (7, 8, flags)
    await eventually(lambda: len(receiver.spans) == 2)
    (order,) = [made for made in receiver.spans if made.name == "shop.order"]
    assert (found["ours"].span_id.hex(), found["ours"].flags) == (order.span_id, 1)


async def test_what_the_limits_have_left_out_is_counted(receiver):
    logger().emit(LogRecord(body="x", attributes={f"k{number}": number for number in range(200)}))
    ((record, _, _),) = await sent(receiver, 1)
    assert (len(record.attributes), record.dropped_attributes_count) == (128, 72)


async def test_a_logger_is_enabled_while_somebody_listens(runtime, http_receiver):
    await start_otel_exporter(
        {"endpoint": http_receiver.endpoint, "event_patterns": ["shop.*"], "protocol": "http/protobuf"}
    )
    await up(EXPORTER)
    await start_telemetry_service()
    assert logger().enabled(event_name="shop.sold")
    assert not logger().enabled(event_name="bank.sold")
    assert not logger().enabled(event_name="shop.sale.start")
    assert not logger().enabled()
    table.add("all", ["log.*"], lambda *event: None)
    assert logger().enabled()
    await stop()
    assert not logger().enabled()


def odd(**fields):
    """A log record with these fields set, whatever the constructor thinks of them."""
    record = LogRecord(body="odd")
    for name, value in fields.items():
        setattr(record, name, value)
    return record


ODD = [
    {"timestamp": -5},
    {"timestamp": 2**64},
    {"timestamp": 1.5e18},
    {"timestamp": "2024"},
    {"timestamp": float("nan")},
    {"observed_timestamp": Malicious()},
    {"severity_number": 17},
    {"severity_number": 99},
    {"severity_number": "ERROR"},
    {"severity_text": "\ud800"},
    {"severity_text": 5},
    {"severity_text": MaliciousStr("x")},
    {"event_name": "\ud800"},
    {"event_name": 5},
    {"event_name": Malicious()},
    {"trace_id": 2**130},
    {"trace_id": "7"},
    {"span_id": -1},
    {"trace_flags": 300},
    {"trace_flags": None},
    {"body": Malicious()},
    {"body": {Malicious: {2: object()}}},
    {"body": 2**70},
    {"body": "\ud800"},
    {"attributes": {"x": Malicious()}},
    {"attributes": {"x": MaliciousStr("y")}},
    {"attributes": {"x": "\ud800", "\ud800": 1}},
    {"attributes": {"x": 2**70}},
    {"attributes": {5: 1, None: 2, "": 3}},
    {"attributes": [("a", 1)]},
    {"attributes": 5},
    {"attributes": Malicious()},
    {"exception": UnprintableError()},
]


async def test_one_odd_record_costs_at_most_what_is_odd(receiver, caplog):
    caplog.set_level(logging.WARNING, "otpylib_telemetry")
    for fields in ODD:
        logger().emit(odd(**fields))
        logger().emit(LogRecord(body="good"))
    bodies = [plain(record.body) for record, _, _ in await sent(receiver, 2 * len(ODD))]
    assert bodies.count("good") == len(ODD)
    assert bodies.count("odd") == len([fields for fields in ODD if "body" not in fields])
    assert not [entry for entry in caplog.records if entry.name.startswith("otpylib_telemetry")]


async def test_one_odd_logger_costs_at_most_what_is_odd(receiver):
    scopes = [
        ("shop", ("1", "2")),
        ("shop", ["1"]),
        (None, None),
        (5, 5),
        ("\ud800", "\ud800", "\ud800"),
        ("shop", "1", None, {"x": Malicious(), "y": 2**70}),
        ("shop", "1", None, Malicious()),
    ]
    for number, scope in enumerate(scopes):
        logger(*scope).emit(LogRecord(body=number))
        logger().emit(LogRecord(body="good"))
    bodies = [plain(record.body) for record, _, _ in await sent(receiver, 2 * len(scopes))]
    assert sorted(body for body in bodies if body != "good") == list(range(len(scopes)))


async def test_what_is_emitted_in_place_of_a_record_is_what_it_says(receiver):
    for said in ("sold out", {"shelf": "a"}, 5):
        logger().emit(said)
    assert [plain(record.body) for record, _, _ in await sent(receiver, 3)] == ["sold out", {"shelf": "a"}, 5]


async def test_an_exception_of_a_record_that_the_sdk_refuses_is_told(receiver):
    try:
        raise LookupError("no tea")
    except LookupError as error:
        logger().emit(odd(attributes={"x": Malicious()}, exception=error))
    ((record, _, _),) = await sent(receiver, 1)
    told = attributes(record)
    assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no tea")
    assert told["x"] == "<Malicious that cannot be shown>"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.none() | st.text()
FIELDS = {
    "timestamp": st.none() | st.integers(0, 2**64 - 1),
    "observed_timestamp": st.integers(1, 2**64 - 1),
    "severity_number": st.none() | st.sampled_from(SeverityNumber),
    "severity_text": WORDS,
    "body": ANY,
    "attributes": st.none() | st.dictionaries(st.text(min_size=1), ANY, max_size=4),
    "event_name": WORDS,
    "exception": st.sampled_from([None, ValueError("x"), KeyError()]),
}
ABOUT = st.dictionaries(st.text(min_size=1), st.text() | st.integers(0, 9), min_size=1, max_size=2)


class Keep(logs_sdk.LogRecordProcessor):
    """Keeps what is emitted."""

    def __init__(self):
        self.taken = []

    def on_emit(self, log_record):
        self.taken.append(log_record)

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True


@needs_new_sdk
@settings(deadline=None, max_examples=examples(200))
@given(
    st.fixed_dictionaries({}, optional=FIELDS),
    st.tuples(st.text(), WORDS, st.none() | st.text(min_size=1), st.none() | ABOUT),
    st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 2**64 - 1), st.integers(0, 255)),
)
def test_a_record_is_encoded_as_the_sdk_would_encode_it(fields, scope, ids):
    context = SpanContext(*ids[:2], is_remote=True, trace_flags=TraceFlags(ids[2]))
    resource, keep = Resource({"service.name": "shop"}), Keep()
    provider = logs_sdk.LoggerProvider(resource, shutdown_on_exit=False)
    provider.add_log_record_processor(keep)
    provider.get_logger(*scope).emit(
        LogRecord(context=set_span_in_context(NonRecordingSpan(context)), **fields)
    )
    (log_record,) = keep.taken
    record = read(log_record.log_record, log_record.instrumentation_scope)
    item = LogMaker().make((event_name(record.event_name), {}, {"log_record": record}, 5, "p"), AT)
    encoded = LogEncoder(resource).encode([item])
    assert encoded.refused == 0
    theirs = encode_logs([log_record])
    assert LogEncoder.request.FromString(encoded.body).SerializeToString() == theirs.SerializeToString()


ODD_FIELDS = ["body", "severity_number", "severity_text", "timestamp", "observed_timestamp"]
ODD_FIELDS += ["trace_id", "span_id", "trace_flags", "event_name", "attributes"]


@settings(deadline=None, max_examples=examples(200))
@given(st.dictionaries(st.sampled_from(ODD_FIELDS), st.integers(0, len(DETAILS) - 1)))
def test_whatever_is_in_a_record_it_can_be_sent(places):
    values = {name: DETAILS[place] for name, place in places.items()}
    record = odd(**values, exception=UnprintableError())
    if "attributes" not in values:
        record.attributes = values
    made = read(record, None)
    assert type(made) is Given
    item = LogMaker().make((event_name(made.event_name), {}, {"log_record": made}, 5, "p"), AT)
    assert LogEncoder(Resource.get_empty()).encode([item]).refused == 0
