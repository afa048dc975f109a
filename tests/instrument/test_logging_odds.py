"""Records of Python's logging that nobody would make on purpose: none is lost, and none harms who logs it."""

import decimal
import enum
import logging
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry import span
from otpylib_telemetry.bus.table import add, remove
from otpylib_telemetry.instrument.log_record import RECORD, LogRecord, record_in
from otpylib_telemetry.instrument.logging import LOG_EVENT, LogBridge, install, uninstall
from otpylib_telemetry_otel.log_records.events import LogMaker
from otpylib_telemetry_otel.otlp.logs import LogEncoder
from tests.support.absurd import DETAILS, ERRORS, Malicious, MaliciousStr, UnprintableError
from tests.support.examples import examples


@pytest.fixture
def heard():
    """The metadata of the log events."""
    found = []
    add("test", (LOG_EVENT,), lambda name, measurements, metadata: found.append(metadata))
    yield found
    remove("test")


def logged(heard, **fields):
    """The metadata and the log record of a record of these fields, which must be one."""
    heard.clear()
    assert LogBridge().handle(logging.makeLogRecord({"name": "shop", "msg": "sold out", **fields})) is True
    (metadata,) = heard
    return metadata, record_in(metadata)


def raised():
    try:
        raise LookupError("no tea")
    except LookupError as error:
        return error


ERROR = raised()
TRIPLE = (LookupError, ERROR, ERROR.__traceback__)
TEXT = "Traceback (most recent call last):\n  ...\nLookupError: no tea\n"


class TestException:
    @pytest.mark.parametrize(
        "exc_info",
        [
            ERROR,
            TRIPLE,
            list(TRIPLE),
            (LookupError, ERROR),
            (ERROR, LookupError),
            (None, ERROR, None),
            (ERROR,),
            (TRIPLE[2], ERROR, LookupError),
            (None, ERROR, ERROR.__traceback__),
            (LookupError, ERROR, None, "more"),
        ],
    )
    def test_it_is_told_whatever_form_it_comes_in(self, heard, exc_info):
        metadata, record = logged(heard, exc_info=exc_info)
        for told in (metadata, record.attributes):
            assert (told["exception.type"], told["exception.message"]) == ("LookupError", "no tea")
            assert told["exception.stacktrace"].startswith("Traceback")
            assert told["exception.stacktrace"].endswith("LookupError: no tea\n")

    @pytest.mark.parametrize("exc_info", [True, 1])
    def test_true_is_the_one_that_is_being_handled(self, heard, exc_info):
        try:
            raise LookupError("no coffee")
        except LookupError:
            _, record = logged(heard, exc_info=exc_info)
        assert record.attributes["exception.message"] == "no coffee"
        _, record = logged(heard, exc_info=exc_info)
        assert "exception.type" not in record.attributes

    @pytest.mark.parametrize(
        "fields", [{"exc_info": TEXT}, {"exc_text": TEXT}, {"exc_info": False, "exc_text": TEXT}]
    )
    def test_of_one_that_comes_as_text_the_text_is_kept(self, heard, fields):
        _, record = logged(heard, **fields)
        assert record.attributes["exception.stacktrace"] == TEXT

    def test_one_that_has_lost_its_traceback_has_the_text_that_was_made_of_it(self, heard):
        _, record = logged(heard, exc_info=(LookupError, LookupError("no tea"), None), exc_text=TEXT)
        assert record.attributes["exception.stacktrace"] == TEXT
        assert record.attributes["exception.message"] == "no tea"

    def test_its_type_alone_is_its_type(self, heard):
        _, record = logged(heard, exc_info=(UnprintableError, None, None))
        assert record.attributes["exception.type"].endswith(".UnprintableError")
        assert "exception.stacktrace" not in record.attributes

    def test_a_traceback_alone_is_a_stack_trace(self, heard):
        _, record = logged(heard, exc_info=(None, None, TRIPLE[2]))
        assert "in raised" in record.attributes["exception.stacktrace"]

    def test_one_that_cannot_be_printed_has_its_type_all_the_same(self, heard):
        try:
            raise UnprintableError
        except UnprintableError as error:
            _, record = logged(heard, exc_info=error)
        assert record.attributes["exception.type"].endswith(".UnprintableError")
        assert record.attributes["exception.message"] == ""

    @pytest.mark.parametrize(
        "exc_info", [None, False, 0, "", (), [], (None, None, None), 1.5, object(), b"x"]
    )
    def test_what_tells_of_none_adds_nothing(self, heard, exc_info):
        metadata, record = logged(heard, exc_info=exc_info)
        assert not [key for key in (*metadata, *record.attributes) if key.startswith("exception")]


class TestTime:
    @pytest.mark.parametrize(
        "created",
        [0, -5.0, float("nan"), float("inf"), 1e20, "2024", None, [], decimal.Decimal(5), 1j, Malicious],
    )
    def test_one_that_cannot_be_told_is_now(self, heard, created):
        created = created() if created is Malicious else created
        before = logged(heard)[1].time_unix_nano
        metadata, record = logged(heard, created=created)
        after = logged(heard)[1].time_unix_nano
        assert before - 10**9 <= record.time_unix_nano <= after + 10**9
        assert metadata["time_unix_nano"] == record.time_unix_nano

    def test_any_other_is_as_it_was_given(self, heard):
        assert logged(heard, created=1_700_000_000)[1].time_unix_nano == 1_700_000_000 * 10**9
        assert logged(heard, created=1.5)[1].time_unix_nano == 1_500_000_000


class TestSeverity:
    @pytest.mark.parametrize(
        ("level", "name", "number", "words"),
        [
            (35, "Level 35", 16, "Level 35"),
            (1000, "LOUD", 24, "LOUD"),
            (0, "NOTSET", 1, "NOTSET"),
            (-3, "QUIET", 1, "QUIET"),
            (20, None, 9, "INFO"),
            (20, 5, 9, "INFO"),
            (25.5, "NOTE", 12, "NOTE"),
            (None, "ERROR", 17, "ERROR"),
            ("40", "ERROR", 17, "ERROR"),
            (None, "loud", 0, "loud"),
            (None, None, 0, ""),
            (float("nan"), "ERROR", 0, ""),
            (2**200, "HUGE", 24, "HUGE"),
            (enum.IntEnum("Levels", {"WARN": 30}).WARN, "WARN", 13, "WARN"),
        ],
    )
    def test_it_is_what_level_and_name_say(self, heard, level, name, number, words):
        metadata, record = logged(heard, levelno=level, levelname=name)
        assert (record.severity_number, record.severity_text) == (number, words)
        assert (metadata["severity_number"], metadata["severity"]) == (number, words)


class TestBody:
    @pytest.mark.parametrize(
        ("message", "body"),
        [
            ({"tea": [1, None], "raw": b"\xff"}, {"tea": (1, None), "raw": b"\xff"}),
            ([1, "a", {"b": 2.5}], (1, "a", {"b": 2.5})),
            (b"\xff\x00", b"\xff\x00"),
            (None, None),
            (7, 7),
            (True, True),
            (2.5, 2.5),
            ("", ""),
            (uuid.UUID(int=5), str(uuid.UUID(int=5))),
            (Path("/tea"), "/tea"),
            (ERROR, "no tea"),
            ("half \ud800", "half ?"),
        ],
    )
    def test_a_message_of_any_type_is_sent_as_what_it_is(self, heard, message, body):
        _, record = logged(heard, msg=message)
        assert (record.body, type(record.body)) == (body, type(body))

    def test_with_arguments_it_is_text(self, heard):
        assert logged(heard, msg=["%s"], args=("a",))[1].body == "['a']"
        assert logged(heard, msg="%(tea)s", args=({"tea": 1},))[1].body == "%(tea)s"
        assert logged(heard, msg="%(tea)s", args={"tea": 1})[1].body == "1"
        assert logged(heard, msg="100%", args=())[1].body == "100%"
        assert logged(heard, msg="%d", args=("x",))[1].body == "%d"

    def test_it_says_what_was_so_when_it_was_logged(self, heard):
        stock = {"tea": [1]}
        _, record = logged(heard, msg=stock, shelf=stock)
        stock["tea"].append(2)
        stock["coffee"] = 3
        assert record.body == record.attributes["shelf"] == {"tea": (1,)}


GIVEN = {
    "severity": "mine",
    "severity_number": 3,
    "level": "error",
    "logger": "mine",
    "body": "mine",
    "time_unix_nano": 5,
    "trace_id": "1" * 32,
    "span_id": "2" * 16,
    "traceparent": f"00-{1:032x}-{2:016x}-01",
    "correlation_id": "order-7",
    "otel.scope.name": "mine",
    "otel.scope.version": "9",
    "event.name": "shop.sold",
    "exception": "of the rule",
    "exception.type": "mine",
    "stacktrace": "mine",
    "error": True,
    "kind": "server",
    "links": [1],
    "count": 1,
    "duration_ms": 2.5,
    "code.function.name": "mine",
    RECORD: "mine",
}


class TestExtra:
    def test_all_of_it_is_sent_whatever_it_is_called(self, heard):
        metadata, record = logged(heard, exc_info=ERROR, levelno=30, levelname="WARNING", created=7, **GIVEN)
        assert {key: record.attributes[key] for key in GIVEN} == {**GIVEN, "links": (1,)}
        assert (record.body, record.severity_number, record.severity_text) == ("sold out", 13, "WARNING")
        assert (record.trace_id, record.span_id, record.flags) == (0, 0, 0)
        assert (record.scope, record.time_unix_nano, record.event_name) == (("shop", ""), 7 * 10**9, "")
        assert (metadata["severity"], metadata["message"], metadata["logger"]) == (
            "WARNING",
            "sold out",
            "shop",
        )

    def test_the_span_is_the_open_one_whatever_ids_are_given(self, heard):
        add("spans", ("*",), lambda *event: None)
        with span("shop.order") as order:
            _, record = logged(heard, **GIVEN)
            context = order.context
        remove("spans")
        assert (record.trace_id, record.span_id) == (int(context.trace_id, 16), int(context.span_id, 16))
        assert record.flags == 1
        assert record.attributes["trace_id"] == GIVEN["trace_id"]
        assert record.attributes["correlation_id"] == "order-7"

    @pytest.mark.parametrize(("flags", "sampled"), [("00", 0), ("01", 1)])
    def test_it_says_whether_its_trace_is_recorded(self, heard, flags, sampled):
        add("spans", ("*",), lambda *event: None)
        with span("shop.order", {"traceparent": f"00-{1:032x}-{2:016x}-{flags}"}):
            _, record = logged(heard)
        remove("spans")
        assert (record.trace_id, record.flags) == (1, sampled)

    def test_what_does_not_fit_is_counted(self, heard):
        _, record = logged(heard, **{f"key{number}": number for number in range(500)}, exc_info=ERROR)
        assert (len(record.attributes), record.dropped_attributes > 370) == (128, True)
        assert record.attributes["exception.message"] == "no tea"

    def test_one_odd_value_costs_no_other(self, heard):
        _, record = logged(heard, bad=Malicious(), big=2**70, half="\ud800", tea="green")
        assert record.attributes["tea"] == "green"
        assert record.attributes["bad"] == "<Malicious that cannot be shown>"
        assert (record.attributes["big"], record.attributes["half"]) == (str(2**70), "?")


FIELDS = ("name", "msg", "args", "levelno", "levelname", "created", "exc_info", "exc_text", "stack_info")
FIELDS += ("pathname", "lineno", "funcName", "threadName", "process", "anything", RECORD)
ODD = [*DETAILS, *ERRORS, *TRIPLE, TRIPLE, MaliciousStr("x"), "\ud800", 10**5000, float("nan")]
ANYTHING = st.one_of(
    # By their places: some let nobody ask them for a hash.
    st.integers(0, len(ODD) - 1).map(lambda place: ODD[place]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    st.lists(st.integers() | st.text()),
    st.dictionaries(st.text() | st.integers(), st.text() | st.binary()),
)


@settings(deadline=None, max_examples=examples(300))
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING), st.sets(st.sampled_from(FIELDS)))
def test_whatever_is_in_a_record_it_becomes_one_event_that_can_be_sent(odd, left_out):
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - only this test encodes

    record = logging.makeLogRecord({"name": "shop", "msg": "sold out", "levelno": 20, **odd})
    for field in left_out - odd.keys():
        record.__dict__.pop(field, None)
    heard = []
    add("test", (LOG_EVENT,), lambda name, measurements, metadata: heard.append(metadata))
    try:
        assert LogBridge().handle(record) is True
    finally:
        remove("test")
    (metadata,) = heard
    item = LogMaker().make((LOG_EVENT, {}, metadata, 5, "p"), 10**18)
    assert LogEncoder(Resource.get_empty()).encode([item]).refused == 0


@pytest.mark.parametrize(
    "odd", [{"msg": Malicious(), "args": (1,)}, {"exc_info": 5, "created": "x", "name": None}]
)
def test_nothing_is_raised_into_the_application_and_nothing_is_printed(heard, odd, capsys):
    # With no others above it: the handlers of pytest itself are not as patient.
    logger = logging.Logger("shop.odd")  # noqa: LOG001 - that is why
    install(logger)
    try:
        logger.handle(logging.makeLogRecord({"levelno": 40, **odd}))
    finally:
        uninstall(logger)
    assert len(heard) == 1
    assert capsys.readouterr() == ("", "")


def test_what_a_filter_fails_for_is_not_let_through_and_said_once(heard, caplog):
    bridge = LogBridge()
    bridge.addFilter(lambda record: record.msg.startswith("sold") or 1 / 0)
    for message in ("sold", "secret", "secret"):
        bridge.handle(logging.makeLogRecord({"name": "shop", "msg": message}))
    assert [metadata["message"] for metadata in heard] == ["sold"]
    assert caplog.text.count("A filter of the logging bridge fails (ZeroDivisionError") == 1


def test_a_record_is_shown_without_repeating_what_the_metadata_say(heard):
    assert repr(logged(heard)[1]) == "<log record>"
    assert record_in({RECORD: "mine"}) is None
    assert type(record_in({RECORD: LogRecord()})) is LogRecord
    assert sys.getsizeof(LogRecord()) < 400
