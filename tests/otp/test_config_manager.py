"""The manager of otpylib-config."""

import asyncio

from otpylib import atom, process
from otpylib_config import CONFIG_MANAGER, Config

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config
from tests.support.otp_defects import outside, repaired
from tests.support.runtime import MemorySource, in_process


async def test_defect_the_config_managers_name_is_an_atom_only(runtime, config_manager):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}})
    assert process.whereis("config_manager") is None, repaired("config_manager_name")
    assert process.whereis(CONFIG_MANAGER) == otpylib_config.manager() is not None
    assert atom.ensure("config_manager") is CONFIG_MANAGER


async def test_defect_a_section_cannot_be_read_at_once(runtime, config_manager):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}})
    assert await Config.get("telemetry.x") is None, repaired("read_section's reading key by key")
    assert await otpylib_config.read_section("telemetry.x", ["rate", "other"]) == {"rate": 1.0}


async def test_a_section_put_whole_and_entries_put_by_themselves_are_read(runtime, config_manager):
    await config_manager()
    await Config.put("telemetry.x", {"rate": 1.0, "headers": {"a": "1"}})
    await Config.put("telemetry.x.headers.b", "2")
    found = await otpylib_config.read_section("telemetry.x", ["rate", "headers", "headers.b"])
    assert found == {"rate": 1.0, "headers": {"a": "1", "b": "2"}}


async def _told(config_manager, subscribe, times=3):
    source = MemorySource({"telemetry": {"x": {"rate": 1.0}}})
    await config_manager(source)
    told = []

    async def body():
        for _ in range(times):
            await subscribe(told)
        await outside(Config.put("telemetry.x.rate", 2.0))
        while True:
            try:
                told.append(await process.receive(timeout=0.05))
            except TimeoutError:
                return told

    return await in_process(body, name="listener")


async def test_defect_a_subscriber_that_subscribes_again_is_told_again(runtime, config_manager):
    async def subscribe(told):
        async def callback(pid, path, old, new):
            told.append(path)

        await Config.subscribe("telemetry.x.*", callback, process.self())

    told = await _told(config_manager, subscribe)
    assert len(told) == 3, repaired("the module-level callback and the constant identifier in config_watch")


async def test_ours_is_told_once_however_often_it_subscribes(runtime, config_manager):
    told = await _told(config_manager, lambda _told: otpylib_config.subscribe("listener", "telemetry.x"))
    assert told == [(otpylib_config.NOTICE, "telemetry.x.rate")]


async def test_defect_reload_does_nothing(runtime, config_manager):
    source = MemorySource({"telemetry": {"x": {"rate": 1.0}}})
    await config_manager(source, reload_interval=600)
    source.values = {"telemetry": {"x": {"rate": 2.0}}}
    await Config.reload()
    await asyncio.sleep(0.02)
    assert await Config.get("telemetry.x.rate") == 1.0, repaired("the advice to use a short reload_interval")


async def test_defect_a_restarted_manager_has_forgotten_its_subscribers(runtime, config_manager):
    control = await config_manager({"telemetry": {"x": {"rate": 1.0}}})

    async def body():
        await otpylib_config.subscribe("listener", "telemetry.x")
        await control.crash()
        await outside(Config.put("telemetry.x.rate", 2.0))
        try:
            return await process.receive(timeout=0.05)
        except TimeoutError:
            return None

    found = await in_process(body, name="listener")
    assert found is None, repaired("watching for another config manager in server.py")


async def test_defect_a_put_of_what_is_held_already_is_not_told(runtime, config_manager):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}})
    told = []

    async def callback(pid, path, old, new):
        told.append(path)

    await Config.subscribe("telemetry.x.*", callback, "listener")
    await Config.put("telemetry.x.rate", 1.0)
    assert told == [], repaired("hear_of_equal_puts")
    await Config.put("telemetry.x.rate", 2.0)
    assert told == ["telemetry.x.rate"]


async def test_a_put_of_what_is_held_already_is_heard_of_and_stays_put_where_it_is_ours(
    runtime, config_manager
):
    await config_manager({"telemetry": {"x": {"rate": 1.0}}, "app": {"limit": 1}})
    heard = []

    def ours(path, value, is_new):
        heard.append((path, value, is_new))
        return not is_new and path.startswith("telemetry.x.")

    otp.hear_of_equal_puts(ours)
    try:
        for path, value in (("telemetry.x.rate", 1.0), ("telemetry.x.rate", 2.0), ("app.limit", 1)):
            await Config.put(path, value)
        assert heard == [
            ("telemetry.x.rate", 1.0, False),
            ("telemetry.x.rate", 2.0, True),
            ("app.limit", 1, False),
        ]
        manager = otpylib_config.manager()
        assert otp.config_puts(manager, "telemetry.x") == {"rate": None}
        assert otp.config_puts(manager, "app") == {}
        await Config.put("telemetry.x", {"rate": 3.0, "headers": {"a": "1"}, "other": None})
        await Config.put("telemetry.x.headers.b", "2")
        told = {"rate": 3.0, "headers": {"a": "1", "b": "2"}}
        assert otp.config_puts(manager, "telemetry.x") == told
        await Config.put("telemetry.x.rate", 4.0)
        assert otp.config_puts(manager, "telemetry.x") == {**told, "rate": None}
    finally:
        otp.hear_no_more(ours)
    heard.clear()
    await Config.put("app.limit", 1)
    assert heard == []
