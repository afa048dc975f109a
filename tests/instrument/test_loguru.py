"""Records of loguru as events on the bus."""

import asyncio
import contextlib
import logging
import multiprocessing
import threading
import traceback

import pytest
from loguru import logger

from otpylib_telemetry import emit, execute, span
from otpylib_telemetry.bus.table import add, remove
from otpylib_telemetry.instrument import logging as logging_bridge
from otpylib_telemetry.instrument import passed_on
from otpylib_telemetry.instrument.log_events import LOG_EVENT
from otpylib_telemetry.instrument.log_record import record_in
from otpylib_telemetry.instrument.loguru import LoguruBridge, install, uninstall
from otpylib_telemetry.primitives.threads import run_in_thread

#: Records that a loop would have made many of.
FEW = 5


@pytest.fixture
def heard():
    """The metadata of the log events."""
    found = []
    add("test", (LOG_EVENT,), lambda name, measurements, metadata: found.append(metadata))
    yield found
    remove("test")


@pytest.fixture(autouse=True)
def _only_ours(capfd):
    """No sink but the test's own, and nothing is printed: loguru prints what a sink raises."""
    logger.remove()
    yield
    uninstall()
    logger.remove()
    printed = capfd.readouterr()
    assert "Logging error" not in printed.err


@pytest.fixture
def root():
    """The root logger of logging, which takes everything."""
    root, level, handlers = logging.getLogger(), logging.getLogger().level, logging.getLogger().handlers[:]
    root.setLevel(logging.DEBUG)
    yield root
    logging_bridge.uninstall()
    root.setLevel(level)
    root.handlers[:] = handlers


class InterceptHandler(logging.Handler):
    """What loguru's documentation gives to have loguru handle the records of logging."""

    def emit(self, record):
        try:
            level = logger.level(record.levelname).name
        except ValueError:
            level = record.levelno
        frame, depth = logging.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        logger.opt(depth=depth, exception=record.exc_info).log(level, record.getMessage())


class ShortInterceptHandler(logging.Handler):
    """The same in short, as many have it: what it says comes from this module."""

    def emit(self, record):
        logger.log(record.levelname, record.getMessage())


class PropagateHandler(logging.Handler):
    """What loguru's documentation gives to have logging handle the records of loguru."""

    def emit(self, record):
        logging.getLogger(record.name).handle(record)


def test_a_record_says_what_where_and_how_severe(heard):
    install()
    logger.bind(warehouse="north").warning("{} items of {kind} are left", 3, kind="tea")
    (metadata,) = heard
    assert metadata["message"] == "3 items of tea are left"
    assert (metadata["severity"], metadata["severity_number"]) == ("WARNING", 13)
    assert metadata["logger"] == __name__
    assert (metadata["warehouse"], metadata["kind"]) == ("north", "tea")
    assert metadata["code.file.path"] == __file__
    assert metadata["code.function.name"] == "test_a_record_says_what_where_and_how_severe"
    assert metadata["code.line.number"] > 0
    assert metadata["time_unix_nano"] > 1_600_000_000 * 10**9
    made = record_in(metadata)
    assert (made.body, made.severity_text, made.scope) == (
        "3 items of tea are left",
        "WARNING",
        (__name__, ""),
    )
    assert made.attributes["kind"] == "tea"


@pytest.mark.parametrize(
    ("level", "number"),
    [
        ("TRACE", 1),
        ("DEBUG", 5),
        ("INFO", 9),
        ("SUCCESS", 12),
        ("WARNING", 13),
        ("ERROR", 17),
        ("CRITICAL", 21),
    ],
)
def test_every_level_of_loguru_has_a_severity_and_its_name(heard, level, number):
    install()
    logger.log(level, "said")
    assert [(found["severity"], found["severity_number"]) for found in heard] == [(level, number)]


def test_a_level_of_the_applications_own_and_one_without_a_name(heard):
    with contextlib.suppress(ValueError, TypeError):
        logger.level("AUDIT", no=33)
    install()
    logger.log("AUDIT", "own")
    logger.log(7, "none")
    logger.log(400, "high")
    assert [(found["severity"], found["severity_number"]) for found in heard] == [
        ("AUDIT", 16),
        ("Level 7", 1),
        ("Level 400", 24),
    ]


@pytest.mark.parametrize("level", ["WARNING", 30])
def test_records_below_the_level_are_not_taken(heard, level):
    install(level=level)
    logger.info("low")
    logger.error("high")
    assert [found["message"] for found in heard] == ["high"]


def test_a_level_that_there_is_not_is_refused_and_the_former_bridge_stays(heard):
    install()
    with pytest.raises(ValueError, match="LOUD"):
        install(level="LOUD")
    logger.info("said")
    assert len(heard) == 1


def test_what_is_bound_may_be_called_anything(heard):
    install()
    logger.bind(message="m", severity=1, body="b", log_record=2, traceparent="t").info("packed")
    (metadata,) = heard
    assert (metadata["message"], metadata["severity"]) == ("packed", "INFO")
    made = record_in(metadata)
    assert made.body == "packed"
    assert {"message": "m", "severity": 1, "body": "b", "log_record": 2}.items() <= made.attributes.items()


async def test_it_belongs_to_the_span_in_which_it_is_logged(heard):
    add("spans", ("shop.*",), lambda *event: None)
    install()

    async def order():
        with span("shop.order", {"correlation_id": "order-7"}) as opened:
            logger.info("in the task")
            await asyncio.to_thread(logger.info, "in a thread")
            return opened.context

    contexts = await asyncio.gather(order(), order())
    remove("spans")
    assert {found["span_id"] for found in heard} == {context.span_id for context in contexts}
    assert {record_in(found).trace_id for found in heard} == {int(found.trace_id, 16) for found in contexts}
    assert {found["correlation_id"] for found in heard} == {"order-7"}


def test_where_loguru_has_a_thread_for_it_the_ids_are_those_of_the_caller(heard):
    add("spans", ("shop.*",), lambda *event: None)
    threads = []
    add("where", (LOG_EVENT,), lambda *event: threads.append(threading.current_thread().name))
    install(enqueue=True)
    with span("shop.order", {"correlation_id": 7}) as order:
        context = order.context
        logger.info("packed")
        try:
            raise LookupError("no tea")
        except LookupError:
            logger.exception("failed")
    logger.info("outside")
    logger.complete()
    remove("spans")
    remove("where")
    ids = (context.trace_id, context.span_id, "7")
    assert [
        (found.get("trace_id"), found.get("span_id"), found.get("correlation_id")) for found in heard
    ] == [
        ids,
        ids,
        (None, None, None),
    ]
    assert heard[1]["exception.type"] == "LookupError"
    assert threading.current_thread().name not in threads


def _log_elsewhere(its_logger):
    add("spans", ("shop.*",), lambda *event: None)
    with span("shop.elsewhere"):
        its_logger.bind(tea=3).info("from another process")


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.process
def test_records_of_other_processes_arrive_in_the_one_that_listens(heard, method):
    processes = multiprocessing.get_context(method)
    install(enqueue=True, context=method)
    worker = processes.Process(target=_log_elsewhere, args=(logger,))
    worker.start()
    worker.join(60)
    logger.complete()
    uninstall()
    assert worker.exitcode == 0
    assert [(found["message"], found["tea"]) for found in heard] == [("from another process", 3)]
    assert heard[0]["trace_id"]


def test_an_exception_is_written_down_at_once_and_without_the_values_of_variables(heard):
    install()
    secret = "hunter2"
    try:
        raise LookupError("no " + secret[:0] + "money")
    except LookupError as error:
        logger.exception("payment failed")
        expected = "".join(traceback.format_exception(error))
    (metadata,) = heard
    assert (metadata["exception.type"], metadata["exception.message"]) == ("LookupError", "no money")
    assert metadata["exception.stacktrace"] == expected
    assert not any(isinstance(value, BaseException) for value in metadata.values())
    assert "hunter2" not in str(record_in(metadata).attributes)


def test_what_is_caught_by_its_decorator_is_told_with_its_stack(heard):
    install()

    @logger.catch(reraise=False)
    def pay():
        raise OSError("bank is closed")

    pay()
    assert heard[0]["exception.message"] == "bank is closed"
    assert "in pay" in heard[0]["exception.stacktrace"]


def test_records_that_are_odd_cost_what_is_odd(heard):
    class Odd:
        def __str__(self):
            raise RuntimeError

        __repr__ = __str__

    def spoil(record):
        record["time"] = record["file"] = record["thread"] = None
        record["extra"] = {"left": 3}

    install()
    logger.bind(odd=Odd(), late=float("nan")).info("bound")
    logger.patch(spoil).info("patched")
    logger.opt(raw=True).info("raw\n")
    logger.opt(colors=True).info("<red>red</red>")
    logger.opt(lazy=True).info("{}", lambda: "lazy")
    assert [found["message"] for found in heard] == ["bound", "patched", "raw\n", "red", "lazy"]


def test_nobody_listens_and_nothing_is_made_of_it():
    asked = []
    install(filter=asked.append)
    logger.info("said")
    assert asked == []


def test_a_filter_chooses_and_one_that_fails_lets_nothing_through(heard, caplog):
    install(filter=lambda record: "secret" not in record["message"])
    logger.info("open")
    logger.info("secret")
    assert [found["message"] for found in heard] == ["open"]
    install(filter=lambda record: record["there is none"])
    with caplog.at_level(logging.WARNING):
        logger.info("lost")
        logger.info("lost")
    assert len(heard) == 1
    assert [
        text.startswith("The filter of the loguru bridge fails (KeyError") for text in caplog.messages
    ] == [True]


def test_modules_can_be_left_out_and_those_of_telemetry_are(heard):
    install(ignored=["shop.noise"])
    for name in ("shop.noise", "shop.noise.more", "otpylib_telemetry.bus", "opentelemetry.sdk.trace", "shop"):
        logger.patch(lambda record, name=name: record.update(name=name)).info("said")
    assert [found["logger"] for found in heard] == ["shop"]


def test_a_handler_that_logs_does_not_hear_of_itself():
    heard = []

    def handler(name, measurements, metadata):
        heard.append(metadata["message"])
        logger.info("heard of one")
        logging.getLogger("shop").warning("heard of one")

    add("test", (LOG_EVENT,), handler)
    install()
    logging_bridge.install()
    logger.info("said")
    logging.getLogger("shop").warning("said, too")
    remove("test")
    logging_bridge.uninstall()
    assert heard == ["said", "said, too"]


async def test_what_the_exporting_threads_log_is_left_out(heard):
    install()
    await run_in_thread(logger.warning, "connection lost")
    assert heard == []


def test_a_bridge_is_replaced_and_removed(heard):
    assert not uninstall()
    install()
    install()
    logger.info("once")
    assert len(heard) == 1
    assert uninstall()
    assert not uninstall()
    logger.info("never")
    assert len(heard) == 1
    assert passed_on.loguru_takes == []


def test_the_application_removes_all_sinks(heard):
    install()
    logger.remove()
    assert passed_on.loguru_takes == []
    assert not uninstall()
    install()
    logger.info("said")
    assert len(heard) == 1


def test_as_a_sink_by_itself(heard):
    logger.add(LoguruBridge(ignored=["shop.noise"]), level="INFO")
    logger.debug("low")
    logger.info("said")
    logger.patch(lambda record: record.update(name="shop.noise")).info("noise")
    assert [found["message"] for found in heard] == ["said"]


@pytest.mark.parametrize("handler", [InterceptHandler, ShortInterceptHandler])
@pytest.mark.parametrize("first", ["bridge", "handler"])
def test_what_loguru_takes_over_from_logging_is_told_once(heard, root, handler, first):
    install()
    if first == "bridge":
        logging_bridge.install()
    root.addHandler(handler())
    if first == "handler":
        logging_bridge.install()
    logging.getLogger("shop.stock").warning("%d left", 3, extra={"order": 7})
    logger.info("of its own")
    told = [(found["message"], found["logger"], found.get("order")) for found in heard]
    assert told == [("3 left", "shop.stock", 7), ("of its own", __name__, None)]


@pytest.mark.parametrize("level", [logging.NOTSET, logging.ERROR])
def test_the_bridge_of_loguru_tells_what_that_of_logging_does_not_take(heard, root, level):
    install()
    if level:
        logging_bridge.install(level=level)
    root.addHandler(InterceptHandler())
    logging.getLogger("shop.stock").warning("3 left")
    assert [(found["message"], found["logger"]) for found in heard] == [("3 left", __name__)]


@pytest.mark.parametrize("handler", [InterceptHandler, ShortInterceptHandler])
def test_what_telemetry_logs_is_left_out_when_it_comes_by_loguru(heard, root, handler):
    install()
    root.addHandler(handler())
    logging.getLogger("otpylib_telemetry").warning("collector is away")
    assert heard == []


@pytest.mark.parametrize("enqueue", [False, True])
@pytest.mark.parametrize("first", ["bridge", "sink"])
def test_what_logging_takes_over_from_loguru_is_told_once(heard, root, first, enqueue):
    logging_bridge.install()
    if first == "bridge":
        install()
    logger.add(PropagateHandler(), format="{level} {message}", enqueue=enqueue)
    if first == "sink":
        install()
    logger.bind(order=7).success("packed")
    logger.complete()
    logging.getLogger("shop").info("of its own")
    told = [(found["message"], found["severity"], found.get("order")) for found in heard]
    assert told == [("packed", "SUCCESS", 7), ("of its own", "INFO", None)]


def test_the_bridge_of_logging_tells_what_that_of_loguru_does_not_take(heard, root):
    logging_bridge.install()
    install(level="ERROR")
    logger.add(lambda message: logging.getLogger("shop").info(message.record["message"]))
    logger.info("packed")
    assert [(found["message"], found["logger"]) for found in heard] == [("packed", "shop")]


def test_what_a_sink_logs_for_itself_is_told(heard, root):
    logging_bridge.install()
    install()

    def send(message):
        logging.getLogger("mailer").warning("no mail server")

    logger.add(send)
    logger.info("packed")
    assert sorted(found["message"] for found in heard) == ["no mail server", "packed"]


@pytest.mark.filterwarnings("ignore")
def test_both_ways_at_once_do_not_go_round(heard, root):
    logging_bridge.install()
    install()
    root.addHandler(InterceptHandler())
    # loguru refuses the circle that the application has made here, and prints that unless told not to.
    logger.add(PropagateHandler(), format="{message}", catch=False)
    with contextlib.suppress(RuntimeError):
        logging.getLogger("shop").warning("from logging")
    with contextlib.suppress(RuntimeError):
        logger.warning("from loguru")
    told = [found["message"] for found in heard]
    assert set(told) == {"from logging", "from loguru"}
    assert len(told) <= FEW


async def test_events_of_the_application_go_on_as_before(heard):
    install()
    add("shop", ("shop.*",), lambda *event: logger.info("seen"))
    execute("shop.opened")
    await emit("shop.opened")
    remove("shop")
    assert [found["message"] for found in heard] == ["seen", "seen"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"filter": 3}, "filter: expected a function of a record, got int"),
        ({"filter": "shop"}, "filter: expected"),
        ({"level": None}, "level: expected a number or the name of a level, got NoneType"),
        ({"level": [10]}, "level: expected"),
        ({"ignored": "asyncio"}, "ignored: expected a list of names, got str"),
        ({"ignored": 3}, "ignored: expected a list of names, got int"),
        ({"ignored": [3]}, "ignored: expected a list of names, got list"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_the_bridge_before_goes_on(heard, wrong, words):
    install()
    with pytest.raises(TypeError, match=words):
        install(**wrong)
    logger.warning("still here")
    assert [found["message"] for found in heard] == ["still here"]
