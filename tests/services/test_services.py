"""Services: servers of one configuration section each, which exporters bring up where it says anything."""

import asyncio

import pytest
from otpylib import gen_server, process, supervisor
from otpylib_config import Config
from pydantic import Field

from otpylib_telemetry import TomlSource, attach, otp, start_exporter, start_link
from otpylib_telemetry.config.field_types import Number
from otpylib_telemetry.config.settings import SectionSettings
from otpylib_telemetry.services import starting
from otpylib_telemetry.services.known import SERVICES
from otpylib_telemetry.services.server import service_module
from otpylib_telemetry.services.service import Applied
from otpylib_telemetry.supervision.specs import exporter_child_spec
from tests.supervision.test_supervision import tree
from tests.support.chassis import make_exporter, up
from tests.support.crash import crash
from tests.support.runtime import MemorySource, in_process
from tests.support.waiting import eventually

NAME = "telemetry_toy"


class ToySettings(SectionSettings):
    """Two keys."""

    enabled: bool = Field(True, description="Whether it plays.")
    speed: Number = Field(1.0, ge=0, description="How fast.")


OFF = ToySettings(enabled=False, speed=0)


class Toy:
    """What was applied, and what applying does."""

    def __init__(self):
        self.applied = []
        self.trouble = None

    def __call__(self, settings):
        if self.trouble is not None:
            raise self.trouble
        self.applied.append(settings)

    @property
    def now(self):
        return self.applied[-1] if self.applied else None


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(starting, "_services", {})
    made = Toy()
    made.module = service_module(
        "TelemetryToy",
        ToySettings,
        lambda: Applied(made, OFF),
        name=NAME,
        section="telemetry.toy",
        module=__name__,
    )
    return made


@pytest.fixture
async def events():
    found = []
    await attach("events", "telemetry.config.*", lambda *event: found.append(event))
    return found


async def start_an_exporter(name="x_exporter"):
    module, _ = make_exporter(name, f"telemetry.{name.removesuffix('_exporter')}")
    await start_exporter(module)
    await up(name)


def ask(what):
    return otp.safe_call(NAME, (what,), timeout=30)


@pytest.mark.parametrize("service", SERVICES, ids=lambda each: each.section)
def test_what_is_known_of_a_service_before_it_is_imported_is_so(service):
    module = service.load()
    assert (service.section, service.registered_name) == (module.section, module.registered_name)
    assert service.keys == tuple(module.settings_type.model_fields)


async def test_nothing_runs_where_nothing_is_set(runtime, config_manager, toy):
    await config_manager(MemorySource({"telemetry": {"x": {"rate": 0.5}}}))
    await start_an_exporter()
    await asyncio.sleep(0.3)
    assert otp.whereis(NAME) is None
    assert toy.applied == []


async def test_none_is_started_in_a_runtime_that_was_shut_down(runtime, toy, caplog):
    starting.want("telemetry.toy")
    await start_an_exporter()
    await eventually(lambda: otp.whereis(NAME) is not None)
    await runtime.shutdown()
    # Exporters have their last look when they end.
    starting.watch("x_exporter", asyncio.get_running_loop())
    assert starting._here().starting == {}
    assert caplog.messages == []


async def test_a_change_with_which_it_never_worked_is_pending_until_it_does(runtime, toy):
    toy.trouble = OSError("the port is taken")
    await otp.start_server(toy.module, {}, NAME, link=False)
    await eventually(lambda: service_state("degraded"))
    answer = await otp.safe_call(NAME, ("apply_config", {"speed": 2}, None), timeout=30)
    assert (answer["outcome"], len(answer["problems"])) == ("pending", 1)
    assert "the port is taken" in answer["problems"][0]
    assert (await otp.safe_call(NAME, ("get_history",), timeout=30))[-1]["outcome"] == "pending"
    toy.trouble = None
    await eventually(lambda: service_state("running"))
    assert (await otp.safe_call(NAME, ("get_history",), timeout=30))[-1]["outcome"] == "applied"
    # One that works and cannot have the next change goes on with what it has.
    toy.trouble = OSError("another port is taken")
    answer = await otp.safe_call(NAME, ("apply_config", {"speed": 3}, None), timeout=30)
    assert answer["outcome"] == "pending"
    assert "another port is taken" in answer["problems"][0]
    assert (await ask("get_config"))["config"]["speed"] == 2


async def service_state(state):
    return (await ask("get_stats"))["state"] == state


async def test_a_section_of_the_file_an_edit_and_a_put_take_effect(
    runtime, config_manager, toy, events, tmp_path, caplog
):
    caplog.set_level("INFO")
    path = tmp_path / "config.toml"
    path.write_text("[telemetry.toy]\nspeed = 2\n")
    await config_manager(TomlSource(path))
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings(speed=2))
    assert (await ask("get_stats"))["state"] == "running"
    path.write_text("[telemetry.toy]\nspeed = 3\n")
    await eventually(lambda: toy.now == ToySettings(speed=3))
    await in_process(Config.put, "telemetry.toy.enabled", False)
    await eventually(lambda: toy.now == ToySettings(speed=3, enabled=False))
    config = await ask("get_config")
    assert config["config"] == {"enabled": False, "speed": 3.0}
    assert config["origins"]["speed"] == f"file {path}"
    assert (await ask("get_stats"))["state"] == "disabled"
    assert f"{NAME} works with changed settings: speed." in caplog.messages
    assert f"{NAME} is off now; changed: enabled." in caplog.messages
    applied = [metadata for name, _, metadata in events if name == "telemetry.config.applied"]
    assert applied == [
        {"exporter": NAME, "section": "telemetry.toy", "keys": ["speed"]},
        {"exporter": NAME, "section": "telemetry.toy", "keys": ["enabled"]},
    ]


async def test_a_put_of_a_section_that_was_not_there_brings_it_up(runtime, config_manager, toy):
    await config_manager()
    await start_an_exporter()
    await in_process(Config.put, "telemetry.toy.speed", 7)
    await eventually(lambda: toy.now == ToySettings(speed=7))


async def test_a_config_manager_that_comes_later_is_asked(runtime, config_manager, toy):
    await start_an_exporter()
    await config_manager(MemorySource({"telemetry": {"toy": {"speed": 4}}}))
    await eventually(lambda: toy.now == ToySettings(speed=4))


async def test_the_environment_is_enough_but_not_what_is_for_all_exporters(runtime, toy, monkeypatch):
    monkeypatch.setenv("TELEMETRY_SPEED", "9")
    monkeypatch.setenv("TELEMETRY_ENABLED", "true")
    await start_an_exporter()
    await asyncio.sleep(0.2)
    assert toy.applied == []
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    await start_an_exporter("y_exporter")
    await eventually(lambda: toy.now == ToySettings(speed=5))


async def test_a_bad_value_and_an_unknown_key_are_told_and_cost_themselves(
    runtime, config_manager, toy, events, caplog, tmp_path
):
    path = tmp_path / "config.toml"
    path.write_text('[telemetry.toy]\nspeed = "fast"\nenabeld = true\n')
    await config_manager(TomlSource(path))
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings())
    assert f"telemetry.toy.speed ('fast', a string) from {path} is refused: expected a number" in caplog.text
    assert "telemetry.toy.enabeld" in caplog.text
    assert "did you mean telemetry.toy.enabled?" in caplog.text
    [(_, _, metadata)] = events
    assert (metadata["exporter"], metadata["key"]) == (NAME, "telemetry.toy.speed")
    await gen_server.cast(NAME, ("config_changed", "telemetry.toy.speed", 1, -1))
    await eventually(lambda: len(events) == 2)
    assert toy.now == ToySettings()
    await gen_server.cast(NAME, ("config_changed", "telemetry.toy.speed", 1, 8))
    await eventually(lambda: toy.now == ToySettings(speed=8))


async def test_it_outlives_its_exporters_and_there_is_one_of_it(runtime, config_manager, toy):
    await config_manager(MemorySource({"telemetry": {"toy": {"speed": 2}}}))
    for name in ("x_exporter", "y_exporter"):
        await start_an_exporter(name)
    await eventually(lambda: toy.now is not None)
    pid = otp.whereis(NAME)
    for name in ("x_exporter", "y_exporter"):
        await crash(name)
        await eventually(lambda name=name: otp.whereis(name) is None)
    await start_an_exporter()
    await asyncio.sleep(0.2)
    assert otp.whereis(NAME) == pid
    assert toy.applied == [ToySettings(speed=2)]


async def test_one_that_crashes_comes_back_with_what_was_changed_meanwhile(runtime, toy, monkeypatch):
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings(speed=5))
    await gen_server.cast(NAME, ("config_changed", "telemetry.toy.speed", 5, 6))
    await eventually(lambda: toy.now == ToySettings(speed=6))
    await crash(NAME)
    await eventually(lambda: toy.applied[-2:] == [OFF, ToySettings(speed=6)])


async def test_what_cannot_be_applied_is_told_once_and_tried_again(runtime, toy, monkeypatch, caplog):
    monkeypatch.setattr("otpylib_telemetry.services.server.full_jitter", lambda _attempt, _most: 0.02)
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    toy.trouble = OSError("no room")
    await start_an_exporter()

    async def is_degraded():
        return (await ask("get_stats"))["state"] == "degraded"

    await eventually(is_degraded)
    await asyncio.sleep(0.1)
    assert caplog.text.count("telemetry_toy is degraded: OSError: no room") == 1
    toy.trouble = None
    await eventually(lambda: toy.now == ToySettings(speed=5))


async def test_it_ends_with_the_runtime(runtime, toy, monkeypatch):
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings(speed=5))
    await runtime.shutdown()
    await eventually(lambda: toy.now == OFF)


async def test_the_application_may_have_it_in_its_own_tree_before_and_after(runtime, toy, monkeypatch):
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings(speed=5))
    automatic = otp.whereis(NAME)
    own = supervisor.child_spec(id=NAME, module=toy.module, args={"speed": 6}, name=NAME)
    await in_process(tree(own).start_link)
    await eventually(lambda: toy.now == ToySettings(speed=6))
    assert otp.whereis(NAME) not in {None, automatic}
    mine = otp.whereis(NAME)
    await start_an_exporter("y_exporter")
    await asyncio.sleep(0.2)
    assert otp.whereis(NAME) == mine
    await crash(NAME)
    await eventually(lambda: otp.whereis(NAME) not in {None, mine} and toy.now == ToySettings(speed=6))


async def test_a_bare_start_takes_its_place_too(runtime, toy, monkeypatch):
    monkeypatch.setenv("TELEMETRY_TOY_SPEED", "5")
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings(speed=5))

    async def bare():
        return await gen_server.start(toy.module, {"speed": 7}, NAME)

    pid = await in_process(bare)
    await eventually(lambda: toy.now == ToySettings(speed=7))
    assert otp.whereis(NAME) == pid
    await asyncio.sleep(0.2)
    assert otp.whereis(NAME) == pid


async def test_a_child_spec_and_the_suite_take_settings_and_refuse_wrong_ones(runtime, toy):
    with pytest.raises(ValueError, match=r"telemetry\.toy\.speed"):
        exporter_child_spec(toy.module, {"speed": "fast"})
    await start_link({"toy": {"speed": 3}})
    await eventually(lambda: toy.now == ToySettings(speed=3))
    with pytest.raises(ValueError, match=r"telemetry\.toy\.speed"):
        await start_link({"toy": {"speed": "fast"}})


async def test_the_suite_without_an_exporter_brings_it_up(runtime, toy, config_manager):
    await config_manager(MemorySource({"telemetry": {"toy": {"speed": 4}}}))
    await start_link()
    await eventually(lambda: toy.now == ToySettings(speed=4))


async def test_a_wrong_argument_that_reaches_it_leaves_it_idle(runtime, toy, caplog):
    async def bare():
        return await gen_server.start(toy.module, {"speed": "fast"}, NAME)

    await in_process(bare)
    stats = await ask("get_stats")
    assert stats["state"] == "idle"
    assert "telemetry.toy.speed" in stats["reason"]
    await process.send(NAME, "anything")
    await gen_server.cast(NAME, "anything")
    assert (await otp.safe_call(NAME, "anything", timeout=30))[0] == "error"
    assert (await ask("get_stats"))["unknown_messages"] == 3


async def test_a_service_can_be_wanted_without_a_section(runtime, toy):
    starting.want("telemetry.toy")
    await start_an_exporter()
    await eventually(lambda: toy.now == ToySettings())
