"""MockExporter: a handler that remembers, and the process around it."""

import asyncio
import math
import threading
import time

import otpylib_config
import pytest
from otpylib import gen_server, process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime.atoms import KILLED, SHUTDOWN

import otpylib_telemetry_mock
from otpylib_telemetry import attach, detach, emit, emit_counter, execute, list_handlers
from otpylib_telemetry.exporter.process import ExporterServer
from otpylib_telemetry.exporter.registry import forget
from otpylib_telemetry_mock import (
    MockExporter,
    MockExporterServer,
    RecordedEvent,
    child_spec,
    mock_callbacks,
    start_mock_exporter,
)
from tests.support.runtime import in_process, running_runtime
from tests.support.waiting import eventually


@pytest.fixture
async def mock():
    """A MockExporter that is attached to everything."""
    mock = MockExporter(clock=lambda: 1000.5)
    await attach("mock", "*", mock.handle_telemetry_event)
    yield mock
    await detach("mock")


@pytest.fixture
async def exporter(runtime):
    """The process form, with nothing left by another test."""
    forget("mock_exporter")
    await start_mock_exporter()
    return "mock_exporter"


async def ask(*message):
    return await gen_server.call("mock_exporter", message, timeout=60)


class Hostile:
    """A key or value that refuses everything."""

    def __init__(self):
        self.armed = False

    def __hash__(self):
        if self.armed:
            raise ValueError("no hash")
        return 1

    def __eq__(self, other):
        raise ValueError("no comparison")

    def __repr__(self):
        raise ValueError("no text")


# --- the object -------------------------------------------------------------------------------------------


async def test_an_event_of_a_plain_function_is_there_at_once(mock):
    execute("shop.checkout", {"count": 1}, {"order": 7})
    assert mock.events == [
        {
            "event_name": "shop.checkout",
            "measurements": {"count": 1},
            "metadata": {"order": 7},
            "timestamp": 1000.5,
        }
    ]


async def test_an_awaited_event_is_there_once(mock):
    await emit_counter("shop.checkout", 2, shop="north")
    assert [event["measurements"] for event in mock.events] == [{"count": 2}]


async def test_it_stays_a_plain_handler_whatever_it_returns(mock):
    for number in range(3):
        execute("shop.checkout", {"count": number})
        await emit("shop.checkout", {"count": number})
    assert len(mock.events) == 6
    assert [(info.failures, info.missed) for info in list_handlers("shop.checkout")] == [(0, 0)]


async def test_it_can_be_called_by_hand_with_and_without_await():
    mock = MockExporter()
    await mock.handle_telemetry_event("shop.opened", {"count": 1}, {})
    mock.handle_telemetry_event("shop.closed", None, None)
    assert [event["event_name"] for event in mock.events] == ["shop.opened", "shop.closed"]
    assert mock.events[1]["measurements"] == {}


async def test_what_the_emitter_changes_later_is_not_changed_in_the_recording(mock):
    measurements, metadata = {"count": 1}, {"items": [1, {"tags": {"new"}}], "pair": ([1], 2)}
    execute("shop.checkout", measurements, metadata)
    measurements["count"] = 2
    metadata["items"][1]["tags"].add("sold")
    metadata["items"].append(2)
    metadata["pair"][0].append(3)
    metadata["order"] = 7
    assert mock.events[0].measurements == {"count": 1}
    assert mock.events[0].metadata == {"items": [1, {"tags": {"new"}}], "pair": ([1], 2)}


async def test_objects_are_kept_and_not_copied(mock):
    error, lock = ValueError("no"), threading.Lock()
    execute("shop.failed", {}, {"error": error, "lock": lock})
    assert mock.events[0].metadata["error"] is error
    assert mock.events[0].metadata["lock"] is lock


async def test_absurd_metadata_is_recorded(mock):
    circle = []
    circle.append((circle,))
    deep = []
    for _ in range(5000):
        deep = [deep]
    key = Hostile()
    metadata = {key: [1], "self": Hostile(), 5: b"\xff", "nan": math.nan, "circle": circle, "deep": deep}
    key.armed = True
    execute("shop.absurd", {"count": 10**5000}, metadata)
    assert mock.events[0].measurements == {"count": 10**5000}
    assert len(mock.events[0].metadata) == 6
    assert mock.events[0].metadata["circle"] is not circle
    assert not any(info.failures for info in list_handlers("shop.absurd"))


async def test_a_name_that_is_a_kind_of_string_is_recorded_as_a_string(mock):
    class Loud(str):
        __slots__ = ()

        def __str__(self):
            raise ValueError("no text")

    await mock.handle_telemetry_event(Loud("shop.checkout"), {}, {})
    assert type(mock.events[0].event_name) is str


async def test_matching_is_by_case_sensitive_glob_across_dots(mock):
    for name in ("shop.checkout.start", "shop.checkout.stop", "Shop.checkout.start", "db.query"):
        execute(name)
    names = [event.event_name for event in mock.get_events_matching("shop.*")]
    assert names == ["shop.checkout.start", "shop.checkout.stop"]
    assert len(mock.get_events_matching("*.start")) == 2
    assert mock.get_events_matching("nothing.*") == []


async def test_config_changes_are_remembered(mock):
    await mock.handle_config_change("telemetry.otel.batch_size", 100, 10)
    assert mock.config_changes == [
        {"path": "telemetry.otel.batch_size", "old_value": 100, "new_value": 10, "timestamp": 1000.5}
    ]


async def test_clear_forgets_events_and_config_changes(mock):
    execute("shop.checkout")
    mock.handle_config_change("a", 1, 2)
    mock.clear()
    assert (mock.events, mock.config_changes) == ([], [])


def test_the_oldest_are_forgotten_and_counted():
    mock = MockExporter(max_events=3)
    for number in range(5):
        mock.handle_telemetry_event("n", {"count": number}, {})
        mock.handle_config_change("path", number, number + 1)
    assert [event.measurements["count"] for event in mock.events] == [2, 3, 4]
    assert mock.forgotten == 2
    assert [change["old_value"] for change in mock.config_changes] == [2, 3, 4]


def test_room_for_nothing_is_refused():
    with pytest.raises(ValueError, match="max_events is at least 1, not 0"):
        MockExporter(max_events=0)


async def test_events_of_many_threads_all_arrive_each_threads_in_order(mock):
    def work(worker):
        for number in range(300):
            execute("thread.step", {"count": number}, {"worker": worker})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mock.events) == 2400
    for worker in range(8):
        steps = [e.measurements["count"] for e in mock.events if e.metadata["worker"] == worker]
        assert steps == list(range(300))


def test_an_event_reads_as_a_dict_and_by_attribute():
    event = RecordedEvent("shop.checkout", {"count": 1}, {"order": 7}, 5.0, "somebody")
    assert event == {
        "event_name": "shop.checkout",
        "measurements": {"count": 1},
        "metadata": {"order": 7},
        "timestamp": 5.0,
    }
    assert (event.event_name, event.measurements, event.metadata) == (
        "shop.checkout",
        {"count": 1},
        {"order": 7},
    )
    assert (event.timestamp, event.emitter) == (5.0, "somebody")


# --- the process ------------------------------------------------------------------------------------------


async def test_the_process_answers_with_everything_emitted_before_the_question(exporter):
    for number in range(250):
        execute("shop.step", {"count": number}, {"n": number})
    events = await ask("get_events", "shop.*")
    assert [event["measurements"]["count"] for event in events] == list(range(250))
    assert set(events[0]) == {"event_name", "measurements", "metadata", "timestamp"}


async def test_the_process_takes_events_by_cast_as_if_they_had_been_emitted(exporter):
    await gen_server.cast(exporter, ("telemetry", "shop.cast", {"count": 1}, {"a": 1}))
    [event] = await eventually(lambda: ask("get_events", "shop.cast"))
    assert (event["measurements"], event["metadata"]) == ({"count": 1}, {"a": 1})


async def test_get_events_without_a_pattern_gives_all(exporter):
    execute("a")
    execute("b")
    assert [event["event_name"] for event in await ask("get_events")] == ["a", "b"]


async def test_answers_are_copies(exporter):
    execute("shop.step", {}, {"items": [1]})
    [event] = await ask("get_events", "*")
    event["metadata"]["items"].append(2)
    event["metadata"]["added"] = True
    assert (await ask("get_events", "*"))[0]["metadata"] == {"items": [1]}


async def test_timestamps_are_of_the_moment_of_emission(exporter):
    mock = MockExporter()
    await attach("beside", "shop.*", mock.handle_telemetry_event)
    began = time.time()
    execute("shop.step")
    await detach("beside")
    await asyncio.sleep(0.02)
    asked = time.time()
    [event] = await ask("get_events", "shop.*")
    assert began - 0.01 <= event["timestamp"] <= mock.events[0]["timestamp"] + 0.01 < asked


async def test_a_pattern_that_is_none_is_answered_with_what_was_expected(exporter):
    assert await ask("get_events", 5) == (
        "error",
        "get_events takes an event pattern, a string, not int",
    )


@pytest.mark.parametrize("message", [("bogus",), ("get_events", "*", 1), "get_events", (Hostile(),), ()])
async def test_an_unknown_question_is_counted_and_the_process_goes_on(exporter, message):
    before = (await ask("get_stats"))["unknown_messages"]
    assert await gen_server.call(exporter, message, timeout=60) == ("error", "unknown request")
    assert (await ask("get_stats"))["unknown_messages"] == before + 1


async def test_clear_empties_the_process(exporter):
    execute("shop.step")
    await gen_server.cast(exporter, ("config_changed", "telemetry.mock.batch_size", 100, 10))
    assert await ask("clear") == "ok"
    execute("shop.after")
    assert [event["event_name"] for event in await ask("get_events", "shop.*")] == ["shop.after"]
    assert await ask("get_config_changes") == []


async def test_a_config_change_by_cast_is_recorded_and_in_force(exporter):
    await gen_server.cast(exporter, ("config_changed", "telemetry.mock.batch_size", 100, 10))
    [change] = await ask("get_config_changes")
    assert (change["path"], change["old_value"], change["new_value"]) == (
        "telemetry.mock.batch_size",
        100,
        10,
    )
    assert (await ask("get_config"))["config"]["batch_size"] == 10


async def test_a_change_in_otpylib_config_is_recorded_and_in_force(config_manager):
    await config_manager({"telemetry": {"mock": {"batch_size": 50}}})
    forget("mock_exporter")
    await start_mock_exporter()
    await otpylib_config.Config.put("telemetry.mock.batch_size", 20)
    [change] = await eventually(lambda: ask("get_config_changes"))
    assert (change["path"], change["new_value"]) == ("telemetry.mock.batch_size", 20)
    assert (await ask("get_config"))["config"]["batch_size"] == 20


async def test_the_settings_from_otpylib_config_are_in_force_when_it_has_started(config_manager):
    await config_manager({"telemetry": {"mock": {"event_patterns": ["shop.*"], "max_events": 2}}})
    forget("mock_exporter")
    await start_mock_exporter()
    for name in ("db.query", "shop.a", "shop.b", "shop.c"):
        execute(name)
    assert [event["event_name"] for event in await ask("get_events", "*")] == ["shop.b", "shop.c"]


async def test_max_events_can_be_changed_while_it_runs(exporter):
    await gen_server.cast(exporter, ("config_changed", "telemetry.mock.max_events", 100_000, 2))
    await eventually(lambda: _has("max_events", 2))
    # It records this event too, which must not come between those of the test.
    await eventually(lambda: ask("get_events", "telemetry.config.applied"))
    for number in range(5):
        execute("shop.step", {"count": number})
    assert [event["measurements"]["count"] for event in await ask("get_events", "shop.*")] == [3, 4]
    assert (await ask("get_stats"))["forgotten"] >= 3


async def _has(key, value):
    return (await ask("get_config"))["config"][key] == value


async def test_the_books_balance(exporter):
    for _ in range(120):
        execute("shop.step")
    await ask("get_events", "*")
    stats = await ask("get_stats")
    assert stats["accepted"] == stats["exported"] >= 120
    assert stats["queued"] == stats["in_flight"] == 0
    assert stats["events"] >= 120


async def test_start_mock_exporter_begins_with_nothing(runtime):
    pid = await start_mock_exporter({"batch_size": 7})
    execute("shop.first")
    await process.exit(pid, SHUTDOWN)
    await eventually(lambda: not process.is_alive(pid))
    await start_mock_exporter()
    execute("shop.second")
    assert [event["event_name"] for event in await ask("get_events", "shop.*")] == ["shop.second"]
    assert (await ask("get_config"))["config"]["batch_size"] == 100


async def test_a_second_start_is_refused_and_the_first_keeps_what_it_has(exporter):
    execute("shop.first")
    with pytest.raises(RuntimeError, match="mock_exporter cannot start"):
        await start_mock_exporter()
    assert len(await ask("get_events", "shop.*")) == 1


async def test_another_runtime_begins_with_nothing():
    async with running_runtime():
        await start_mock_exporter()
        execute("shop.first")
        assert len(await ask("get_events", "shop.*")) == 1
    async with running_runtime():
        await in_process(MockExporterServer.start_link, None, "mock_exporter")
        execute("shop.second")
        events = await eventually(lambda: ask("get_events", "shop.*"))
        assert [event["event_name"] for event in events] == ["shop.second"]


class Application(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
    """An application's own supervisor, with the exporter below it."""

    async def init(self, _arg):
        return ([child_spec()], supervisor.options())

    async def terminate(self, reason, state):
        pass


async def crash(monkeypatch):
    """Make the exporter's process raise where it works."""
    work = ExporterServer.work

    def fail_once(self):
        monkeypatch.setattr(ExporterServer, "work", work)
        raise RuntimeError("crashed on purpose")

    monkeypatch.setattr(ExporterServer, "work", fail_once)


async def kill(_monkeypatch):
    await process.exit(process.whereis("mock_exporter"), KILLED)


@pytest.mark.parametrize("disaster", [crash, kill])
async def test_what_was_recorded_survives_under_supervision(runtime, monkeypatch, disaster):
    forget("mock_exporter")
    await in_process(supervisor.start_link, Application, None, "application_sup")
    execute("shop.before")
    assert len(await eventually(lambda: ask("get_events", "shop.*"))) == 1
    old = process.whereis("mock_exporter")
    await disaster(monkeypatch)
    await eventually(lambda: process.whereis("mock_exporter") not in (old, None))
    execute("shop.after")
    assert await eventually(lambda: _names(2)) == ["shop.before", "shop.after"]


async def _names(count):
    names = [event["event_name"] for event in await ask("get_events", "shop.*")]
    return names if len(names) == count else None


def test_a_wrong_setting_is_refused_where_it_is_given():
    with pytest.raises(ValueError, match=r"telemetry\.mock\.max_events"):
        child_spec({"max_events": 0})


async def test_a_wrong_setting_is_refused_at_the_start(runtime):
    with pytest.raises(ValueError, match=r"telemetry\.mock\.batch_siz"):
        await start_mock_exporter({"batch_siz": 5})


# --- the package ------------------------------------------------------------------------------------------


def test_both_names_are_the_same_module():
    assert mock_callbacks is MockExporterServer
    assert MockExporterServer.registered_name == "mock_exporter"
    assert MockExporterServer.section == "telemetry.mock"


def test_every_public_name_is_there_and_sorted():
    names = otpylib_telemetry_mock.__all__
    assert names == sorted(names)
    assert all(getattr(otpylib_telemetry_mock, name) is not None for name in names)
    assert set(names) <= set(dir(otpylib_telemetry_mock))


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'assert_emited'"):
        otpylib_telemetry_mock.assert_emited  # noqa: B018  # looking it up is the test
