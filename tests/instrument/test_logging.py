"""Records of Python's logging as events on the bus."""

import io
import logging
import sys
import threading
import traceback

import pytest

from otpylib_telemetry import execute, span
from otpylib_telemetry.bus.table import add, remove
from otpylib_telemetry.instrument.logging import LOG_EVENT, LogBridge, install, severity_number, uninstall
from otpylib_telemetry.primitives.threads import run_in_thread


@pytest.fixture
def heard():
    """The metadata of the log events."""
    found = []
    add("test", (LOG_EVENT,), lambda name, measurements, metadata: found.append(metadata))
    yield found
    remove("test")


@pytest.fixture
def logger():
    """A logger of the test's own, with the bridge on it."""
    logger = logging.getLogger("shop.bridge")
    logger.setLevel(logging.DEBUG)
    install(logger)
    yield logger
    uninstall(logger)
    logger.setLevel(logging.NOTSET)


def test_a_record_says_what_where_and_how_severe(heard, logger):
    logger.warning("%d items of %s are left", 3, "tea", extra={"warehouse": "north", "shelves": (1, 2)})
    (metadata,) = heard
    assert metadata["message"] == "3 items of tea are left"
    assert (metadata["severity"], metadata["severity_number"]) == ("WARNING", 13)
    assert metadata["logger"] == "shop.bridge"
    assert metadata["warehouse"] == "north"
    assert metadata["shelves"] == (1, 2)
    assert metadata["code.file.path"] == __file__
    assert metadata["code.function.name"] == "test_a_record_says_what_where_and_how_severe"
    assert metadata["code.line.number"] > 0
    assert metadata["time_unix_nano"] > 1_600_000_000 * 10**9
    assert not {"trace_id", "span_id", "correlation_id", "args", "msg", "exc_info", "taskName"} & set(
        metadata
    )


def test_it_belongs_to_the_span_that_is_open(heard, logger):
    add("spans", ("*",), lambda *event: None)
    with span("shop.order", {"correlation_id": "order-7"}) as order:
        logger.info("packed")
    remove("spans")
    (metadata,) = heard
    assert metadata["trace_id"] == order.metadata["trace_id"]
    assert metadata["span_id"] == order.metadata["span_id"]
    assert metadata["correlation_id"] == "order-7"


def test_ids_given_as_extra_go_before_those_of_the_span(heard, logger):
    add("spans", ("*",), lambda *event: None)
    with span("shop.order"):
        logger.info("packed", extra={"trace_id": "a" * 32})
    remove("spans")
    assert heard[0]["trace_id"] == "a" * 32
    assert "span_id" not in heard[0]


def test_an_exception_is_written_down_at_once(heard, logger):
    class CardDeclinedError(Exception):
        pass

    try:
        raise CardDeclinedError("no money")
    except CardDeclinedError as error:
        logger.exception("payment failed")
        expected = "".join(traceback.format_exception(error))
    (metadata,) = heard
    assert metadata["exception.type"].endswith("CardDeclinedError")
    assert metadata["exception.type"].startswith(f"{__name__}.")
    assert metadata["exception.message"] == "no money"
    assert metadata["exception.stacktrace"] == expected
    assert not any(isinstance(value, BaseException) for value in metadata.values())


def test_exc_info_without_an_exception_adds_nothing(heard, logger):
    logger.error("odd", exc_info=True)  # noqa: LOG014 - the mistake that is tried here
    assert not any(key.startswith("exception") for key in heard[0])


def test_an_exception_that_cannot_be_written_costs_its_own_words_only(heard, logger):
    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    try:
        raise MuteError
    except MuteError:
        logger.exception("failed")
    assert heard[0]["message"] == "failed"
    assert heard[0]["exception.type"].endswith("MuteError")
    assert heard[0]["exception.message"] == ""


def test_of_a_deep_stack_the_end_is_kept(heard, logger):
    def dive(depth):
        if not depth:
            raise ValueError("x" * 40_000 + " the end")
        dive(depth - 1)

    try:
        dive(200)
    except ValueError:
        logger.exception("deep")
    written = heard[0]["exception.stacktrace"]
    assert len(written) <= 16_384
    assert written.count("in dive") > 1
    assert "\nValueError: xxx" in written


def test_the_stack_of_the_caller_is_there_where_it_is_asked_for(heard, logger):
    logger.info("here", stack_info=True)
    assert "test_the_stack_of_the_caller" in heard[0]["code.stacktrace"]


@pytest.mark.parametrize(
    ("message", "arguments", "written"),
    [("%d items", ("tea",), "%d items"), (ValueError("bad"), (), "bad"), ("%s and %s", (1,), "%s and %s")],
)
def test_a_message_that_does_not_fit_its_arguments_is_not_lost(heard, message, arguments, written):
    record = logging.LogRecord("shop", logging.INFO, "f.py", 1, message, arguments, None)
    assert LogBridge().handle(record) is True
    assert heard[0]["message"] == written


def test_what_cannot_be_written_at_all_is_named_by_its_type(heard):
    class Mute:
        def __str__(self):
            raise SystemExit

    LogBridge().handle(logging.LogRecord("shop", logging.INFO, "f.py", 1, Mute(), (), None))
    assert heard[0]["message"] == "<Mute>"


def test_nothing_is_formatted_where_nobody_listens():
    class Counting:
        asked = 0

        def __str__(self):
            Counting.asked += 1
            return "counted"

    record = logging.LogRecord("shop", logging.INFO, "f.py", 1, "%s", (Counting(),), None)
    assert LogBridge().handle(record) is False
    assert Counting.asked == 0
    add("test", (LOG_EVENT,), lambda *event: None)
    assert LogBridge().handle(record) is True
    remove("test")
    assert Counting.asked == 1


def test_a_handler_that_logs_does_not_hear_itself(logger):
    heard = []

    def loud(name, measurements, metadata):
        heard.append(metadata["message"])
        logger.info("heard: %s", metadata["message"])

    add("loud", (LOG_EVENT,), loud)
    logger.info("one")
    logger.info("two")
    remove("loud")
    assert heard == ["one", "two"]


def test_a_handler_of_other_events_that_logs_is_heard_once(logger):
    heard = []

    def loud(name, measurements, metadata):
        heard.append(name)
        logger.info("heard: %s", name)

    add("loud", ("*",), loud)
    execute("shop.sold")
    remove("loud")
    assert heard == ["shop.sold", LOG_EVENT]


@pytest.mark.parametrize("name", ["otpylib_telemetry", "opentelemetry.exporter", "opentelemetry.sdk"])
def test_loggers_of_exporters_are_not_heard(heard, name):
    install()
    try:
        logging.getLogger(name).warning("about an export")
        logging.getLogger(f"{name}.more").warning("about an export")
        logging.getLogger(f"{name}s").warning("about something else")
    finally:
        uninstall()
    assert [metadata["message"] for metadata in heard] == ["about something else"]


def test_further_loggers_are_not_heard_if_they_are_named(heard):
    install(ignored=["urllib3"])
    try:
        logging.getLogger("urllib3.connection").warning("a")
        logging.getLogger("urllib").warning("b")
    finally:
        uninstall()
    assert [metadata["message"] for metadata in heard] == ["b"]


async def test_what_is_logged_while_exporting_is_not_heard(heard, logger):
    await run_in_thread(logger.info, "sending")
    logger.info("sent")
    assert [metadata["message"] for metadata in heard] == ["sent"]


async def test_the_thread_is_known_without_its_name_in_the_record(heard, logger, monkeypatch):
    monkeypatch.setattr(logging, "logThreads", False)
    await run_in_thread(logger.info, "sending")
    logger.info("sent")
    assert [metadata["message"] for metadata in heard] == ["sent"]


def test_a_record_is_heard_once_however_often_the_bridge_is_installed(heard, logger):
    first = install(logger)
    second = install(logger)
    assert first is not second
    logger.info("once")
    assert len(heard) == 1
    assert uninstall(logger) is True
    assert uninstall(logger) is False
    logger.info("gone")
    assert len(heard) == 1


def test_levels_and_filters_are_those_of_every_handler(heard, logger):
    bridge = install(logger, level="WARNING")
    bridge.addFilter(lambda record: "secret" not in record.getMessage())
    logger.info("low")
    logger.error("secret")
    logger.error("high")
    assert [metadata["message"] for metadata in heard] == ["high"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a filter gives another record from Python 3.12 on")
def test_a_filter_may_give_another_record(heard, logger):
    bridge = install(logger)
    bridge.addFilter(lambda record: logging.makeLogRecord({**record.__dict__, "msg": "other"}))
    logger.info("one")
    assert heard[0]["message"] == "other"


def test_threads_do_not_silence_each_other(logger):
    """A handler that is busy with one thread's record must still hear the other's."""
    inside, go_on = threading.Event(), threading.Event()
    heard = []

    def slow(name, measurements, metadata):
        heard.append(metadata["message"])
        if metadata["message"] == "first":
            inside.set()
            assert go_on.wait(10)

    add("slow", (LOG_EVENT,), slow)
    thread = threading.Thread(target=logger.info, args=("first",))
    thread.start()
    assert inside.wait(10)
    logger.info("second")
    go_on.set()
    thread.join()
    remove("slow")
    assert heard == ["first", "second"]


def test_it_works_beside_other_handlers(heard, logger):
    stream = logging.StreamHandler(io.StringIO())
    logger.addHandler(stream)
    try:
        logger.info("both")
    finally:
        logger.removeHandler(stream)
    assert stream.stream.getvalue() == "both\n"
    assert [metadata["message"] for metadata in heard] == ["both"]


@pytest.mark.parametrize(
    ("level", "number"),
    [
        (0, 1),
        (5, 1),
        (10, 5),
        (12, 7),
        (19, 8),
        (20, 9),
        (30, 13),
        (35, 16),
        (40, 17),
        (50, 21),
        (99, 24),
        (-5, 1),
    ],
)
def test_levels_have_the_numbers_of_opentelemetry(level, number):
    assert severity_number(level) == number
