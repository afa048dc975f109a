"""What otpylib itself says, as events on the bus."""

import asyncio

import pytest
from otpylib import atom, gen_server, process
from otpylib.runtime import get_runtime
from otpylib_config import Config

from otpylib_telemetry import TomlSource, exporter_child_spec, otp, span, start_exporter
from otpylib_telemetry.bus.manager import MANAGER, TelemetryManager
from otpylib_telemetry.bus.table import add, remove
from otpylib_telemetry.config.redaction import REDACTED
from otpylib_telemetry.instrument.log_events import LOG_EVENT
from otpylib_telemetry.instrument.log_record import record_in
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.instrument.otpylib_logger import OtpylibLogger
from otpylib_telemetry.tracing.places import current_span
from otpylib_telemetry_mock.exporter import start_mock_exporter
from tests.support.actors import call, server
from tests.support.runtime import in_process as config_task
from tests.support.waiting import eventually

LOGGER = atom.ensure("logger")
NAME = "otpylib_logger"


@pytest.fixture
async def heard(runtime):
    """The metadata of the log events."""
    found = []
    add("test", (LOG_EVENT,), lambda name, measurements, metadata: found.append(metadata))
    yield found
    remove("test")


async def start(**settings):
    pid = await start_exporter(OtpylibLogger, settings)
    await listens()
    return pid


async def stats():
    return await otp.safe_call(NAME, ("get_stats",))


async def listens():
    async with asyncio.timeout(30):
        while (await stats())["logger"] is None:
            await asyncio.sleep(0.005)


async def in_process(work):
    """Run something in an otpylib process, which otpylib wants for starting servers."""
    done = asyncio.get_running_loop().create_future()

    async def body():
        try:
            done.set_result(await work())
        except BaseException as error:
            done.set_exception(error)

    await process.spawn(body)
    return await asyncio.wait_for(done, 30)


async def crash(message, name="till"):
    """A server that crashes of a message; what is in its mailbox is the message."""

    async def on_cast(_message, _state):
        raise ValueError("no change")

    async def work():
        await gen_server.start(server(on_cast=on_cast), None, name)
        await gen_server.cast(name, message)

    await in_process(work)


def texts(heard, level="ERROR"):
    return [found["message"] for found in heard if found["severity"] == level]


async def test_a_crash_is_told_with_severity_and_who_it_was(heard):
    await start()
    await crash(("pay", 3))
    await eventually(lambda: texts(heard))
    found = next(each for each in heard if each["severity"] == "ERROR")
    assert "crashed with ValueError('no change')" in found["message"]
    assert (found["logger"], found["severity_number"]) == ("otpylib", 17)
    made = record_in(found)
    assert (made.scope, made.body) == (("otpylib", ""), found["message"])
    assert "ValueError" in made.attributes["exception"]
    # Text, so that nothing of the process is kept alive.
    assert isinstance(found["pid"], str)


async def test_below_the_level_nothing_is_told_and_nothing_piles_up(heard):
    await start()
    for _ in range(200):
        await gen_server.cast("nobody", ("secret", "hunter2"))
    assert heard == []
    assert get_runtime().process_info(otp.whereis(LOGGER)).message_queue_length == 0


async def test_at_debug_messages_are_told_without_what_is_in_them(heard):
    await start(level="debug")
    await gen_server.cast("nobody", {"api_key": "hunter2"})
    (found,) = [each for each in heard if "gen_server.cast" in each["message"]]
    assert found["message"] == "[gen_server.cast] target=nobody"
    assert "hunter2" not in repr(record_in(found).attributes) + repr(found)
    assert found["target"] == "nobody"


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        ({"api_key": "hunter2", "tea": 3}, "tea"),
        (("login", {"user": "ann", "Password": "hunter2"}), "ann"),
        (("set", "access_token", "hunter2"), "set"),
        (("fetch", "https://ann:hunter2@bank.example/x"), "bank.example"),
        ("order tea with authorization='hunter2'", "order tea"),
        ({"headers": [("Authorization", "Bearer hunter2")], "tea": 3}, "tea"),
    ],
)
async def test_what_is_in_messages_is_told_where_it_is_asked_for_without_secrets(heard, payload, kept):
    await start(level="DEBUG", payloads=True)
    await gen_server.cast("nobody", payload)
    (found,) = [each for each in heard if "gen_server.cast" in each["message"]]
    said = repr(record_in(found).attributes) + found["message"] + repr(found)
    assert "hunter2" not in said
    assert REDACTED in found["message"]
    assert kept in found["message"]
    assert kept in repr(found["payload"])


async def test_the_ids_are_those_of_the_span_in_which_it_is_said(heard):
    add("spans", ("shop.*",), lambda *event: None)
    await start(level="DEBUG")
    with span("shop.order"):
        here = current_span()
        await gen_server.cast("nobody", 1)
    await gen_server.cast("nobody", 2)
    remove("spans")
    inside, outside = [record_in(each) for each in heard if "gen_server.cast" in each["message"]]
    assert (f"{inside.trace_id:032x}", f"{inside.span_id:016x}") == (here.trace_id, here.span_id)
    assert (outside.trace_id, outside.span_id) == (0, 0)


async def test_of_telemetry_itself_nothing_is_told(heard):
    await start(level="DEBUG")
    await start_mock_exporter({"event_patterns": ["log.*", "shop.*"]})
    heard.clear()
    for _ in range(5):
        await otp.safe_call("mock_exporter", ("get_stats",))
        await otp.safe_call(NAME, ("get_stats",))
        await gen_server.cast("mock_exporter", ("flush_batch",))
    pid = otp.whereis("mock_exporter")
    await gen_server.cast(pid, ("flush_batch",))
    await process.exit(pid, "crash")
    await eventually(lambda: otp.whereis("mock_exporter") is None)
    assert [
        each["message"] for each in heard if "mock" in each["message"] or "telemetry" in each["message"]
    ] == []
    assert (await stats())["left_out"] > 0


async def test_one_record_does_not_bring_about_the_next(heard):
    """What handlers of records send, at once or later, brings about no records."""
    await otp.start_server(TelemetryManager, None, MANAGER, link=False)
    await start(level="DEBUG")
    await start_mock_exporter({"event_patterns": ["log.*"]})
    called, tasks = [], []

    async def send():
        await gen_server.cast("nobody", "told")

    async def later(name, measurements, metadata):
        await send()
        called.append(name)

    add("later", ("log.*",), later)
    add("at once", ("log.*",), lambda *event: tasks.append(asyncio.ensure_future(send())))
    heard.clear()
    await gen_server.cast("nobody", "first")
    await eventually(lambda: called and tasks)
    await asyncio.gather(*tasks)
    assert (await otp.safe_call("mock_exporter", ("flush", 10.0), 20.0))["left"] == 0
    assert (await otp.safe_call(MANAGER, ("get_stats",)))["async_calls_waiting"] == 0
    remove("later")
    remove("at once")
    assert [each["message"] for each in heard] == ["[gen_server.cast] target=nobody"]
    assert len(called) == len(tasks) == 1


async def test_a_logger_of_the_application_is_not_displaced(heard, caplog):
    got = []

    async def body():
        await process.register(LOGGER)
        while True:
            got.append(await process.receive())

    theirs = await process.spawn(body)
    await eventually(lambda: otp.whereis(LOGGER) == theirs)
    await start_exporter(OtpylibLogger)
    await eventually(lambda: any("is registered as logger" in text for text in caplog.messages))
    await crash("pay")
    await eventually(lambda: [each for each in got if each[1] == "ERROR"])
    assert texts(heard) == []
    assert otp.whereis(LOGGER) == theirs
    assert (await stats())["logger"] is None
    # Once it is gone, its place is taken; and while it was there, that was said once.
    await process.exit(theirs, "done")
    await eventually(lambda: otp.whereis(LOGGER) not in {None, theirs})
    assert sum("is registered as logger" in text for text in caplog.messages) == 1


async def test_where_it_is_asked_for_both_hear(heard):
    got = []

    async def body():
        await process.register(LOGGER)
        while True:
            got.append(await process.receive())

    theirs = await process.spawn(body)
    await eventually(lambda: otp.whereis(LOGGER) == theirs)
    pid = await start(chain=True)
    assert (await stats())["chained"]
    await crash("pay")
    await eventually(lambda: texts(heard))
    await eventually(lambda: [each for each in got if each[1] == "ERROR"])
    assert otp.whereis(LOGGER) == theirs
    # Its mailbox is as before once telemetry has let go.
    await process.exit(pid, "shutdown")
    await eventually(lambda: "send" not in otp.process_record(theirs).mailbox.__dict__)


async def test_one_that_the_application_starts_later_gets_the_name_as_without_us(heard, caplog):
    await start()
    ours = otp.whereis(LOGGER)
    got = []

    async def body():
        while True:
            got.append(await process.receive())

    theirs = await process.spawn(body, name=LOGGER)
    await eventually(lambda: any("is registered as logger" in text for text in caplog.messages))
    assert otp.whereis(LOGGER) == theirs != ours
    await crash("pay")
    await eventually(lambda: [each for each in got if each[1] == "ERROR"])
    assert texts(heard) == []


async def test_it_is_switched_while_it_runs(heard):
    await start()
    await gen_server.cast(NAME, ("config_changed", "telemetry.otpylib_logger.enabled", True, False))
    await eventually(lambda: otp.whereis(LOGGER) is None)
    await crash("pay", "first")
    assert heard == []
    await gen_server.cast(NAME, ("config_changed", "telemetry.otpylib_logger.enabled", False, True))
    await listens()
    await gen_server.cast(NAME, ("config_changed", "telemetry.otpylib_logger.level", "INFO", "CRITICAL"))
    # It answers when the change is in force.
    assert (await otp.safe_call(NAME, ("get_config",)))["config"]["level"] == "CRITICAL"
    await crash("pay", "second")
    assert heard == []


async def test_at_its_end_the_name_is_free_again(heard):
    pid = await start()
    await process.exit(pid, "shutdown")
    await eventually(lambda: otp.whereis(LOGGER) is None)


async def test_a_level_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"is refused: expected one of TRACE, .*, FATAL\.$"):
        exporter_child_spec(OtpylibLogger, {"level": "LOUD"})


async def test_it_works_beside_instrumented_actors(heard):
    instrumentor = OtpylibInstrumentor()
    instrumentor.instrument()
    try:
        await start(level="DEBUG", payloads=True)

        async def on_call(message, _state):
            await gen_server.cast("nobody", "from the handler")
            return current_span()

        async def work():
            await gen_server.start(server(on_call=on_call), None, "till")
            return await call("till", "pay")

        add("spans", ("otpylib.*",), lambda *event: None)
        inside = await in_process(work)
        remove("spans")
        (found,) = [record_in(each) for each in heard if "from the handler" in each["message"]]
        assert f"{found.span_id:016x}" == inside.span_id
    finally:
        instrumentor.uninstrument()
    await gen_server.cast("nobody", "afterwards")
    assert any("afterwards" in each["message"] for each in heard)


async def test_messages_that_are_no_log_do_no_harm(heard):
    await start(level="TRACE")
    heard.clear()
    for odd in (
        None,
        1,
        ("log",),
        ("log", 1, "x", {}),
        ("log", "INFO", object(), None),
        ("other", "INFO", "x", {}),
    ):
        await process.send(LOGGER, odd)
    await process.send(LOGGER, ("log", "NOTICE", "of the application", {"tea": 3}))
    said = [(each["severity"], each["severity_number"], each.get("tea")) for each in heard]
    assert said == [("INFO", 9, None), ("NOTICE", 0, 3)]


async def test_a_section_of_the_configuration_is_all_it_needs(heard, config_manager, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[telemetry.otpylib_logger]\nenabled = true\nlevel = "error"\n')
    await config_manager(TomlSource(path))
    await start_mock_exporter({"event_patterns": ["shop.*"]})
    await eventually(lambda: otp.whereis(NAME) is not None)
    await listens()
    await crash("pay", "first")
    await eventually(lambda: len(texts(heard)) >= 1)
    await config_task(Config.put, "telemetry.otpylib_logger.enabled", False)
    await eventually(lambda: otp.whereis(LOGGER) is None)
    await config_task(Config.put, "telemetry.otpylib_logger.enabled", True)
    await listens()


async def test_without_its_section_nothing_is_heard(heard, config_manager):
    await config_manager({"telemetry": {"mock": {"enabled": True}}})
    await start_mock_exporter({"event_patterns": ["shop.*"]})
    await crash("pay")
    assert otp.whereis(NAME) is None
    assert otp.whereis(LOGGER) is None
    assert heard == []
