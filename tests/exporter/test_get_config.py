"""``get_config`` while a change is on its way: each key has the value the exporter goes by at that moment."""

import asyncio

import pytest

from otpylib_telemetry import exporter_child_spec, start_exporter
from tests.supervision.test_supervision import tree
from tests.support.chassis import QUICK, call, cast, collect_events, crash, emit, make_exporter, runner, up
from tests.support.runtime import in_process
from tests.support.waiting import eventually

START = {**QUICK, "endpoint": "one", "api_key": "sesame", "rate": 1.0}


class Held:
    """Something that takes as long as the test wants it to."""

    def __init__(self):
        self.is_reached = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def wait(self):
        self.is_reached.set()
        await self.may_go_on.wait()


async def shown(*keys):
    answer = await call(("get_config",))
    return {key: answer["config"][key] for key in keys}, answer["wished"], answer["origins"]


def held_in_place(held):
    async def apply(self, settings, changed):
        await held.wait()
        self.settings = settings
        return True

    return make_exporter(apply=apply)


def held_while_opening(held):
    async def open_(self):
        if self.settings.endpoint != "one":
            await held.wait()

    async def apply(self, settings, changed):
        return False

    return make_exporter(apply=apply, open=open_)


@pytest.mark.parametrize("how", [held_in_place, held_while_opening])
async def test_a_change_that_takes_its_time_is_wished_until_it_is_in_force(runtime, how):
    held = Held()
    module, _ = how(held)
    await start_exporter(module, START)
    await up()
    applied = collect_events("telemetry.config.applied")
    change = {"endpoint": "two", "api_key": "new", "batch_size": 7}
    await cast(("config_changed", "telemetry.x", {}, change))
    await held.is_reached.wait()
    config, wished, origins = await shown("endpoint", "rate", "batch_size", "api_key")
    assert config == {"endpoint": "one", "rate": 1.0, "batch_size": 7, "api_key": "<redacted>"}
    assert wished == {"endpoint": "two", "api_key": "<redacted>"}
    assert (origins["endpoint"], origins["api_key"], origins["batch_size"]) == (
        "argument",
        "argument",
        "message",
    )
    assert not applied
    held.may_go_on.set()
    await eventually(lambda: runner().exporter.settings.endpoint == "two")
    await eventually(lambda: len(applied) == 1)
    config, wished, origins = await shown("endpoint", "batch_size")
    assert (config, wished, origins["endpoint"]) == ({"endpoint": "two", "batch_size": 7}, {}, "message")
    assert applied[0][2]["keys"] == ["api_key", "batch_size", "endpoint"]


async def test_what_is_wanted_anew_meanwhile_is_what_is_wished(runtime):
    held = Held()
    module, _ = held_in_place(held)
    await start_exporter(module, START)
    await up()
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await held.is_reached.wait()
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "three", "rate": 0.5, "batch_size": 7}))
    config, wished, _ = await shown("endpoint", "rate", "batch_size")
    assert config == {"endpoint": "one", "rate": 1.0, "batch_size": START["batch_size"]}
    assert wished == {"endpoint": "three", "rate": 0.5, "batch_size": 7}
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "one", "rate": 1.0, "batch_size": 10}))
    assert (await shown())[1] == {}
    held.may_go_on.set()
    await eventually(lambda: runner().exporter.settings.endpoint == "one")


async def test_an_origin_is_that_of_the_value_in_force(runtime):
    async def apply(self, settings, changed):
        if settings.endpoint == "taken":
            raise OSError("that address is taken")
        self.settings = settings
        return True

    module, _ = make_exporter(apply=apply)
    await start_exporter(module, START)
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "taken", "rate": 0.5}))
    await up(state="degraded")
    config, wished, origins = await shown("endpoint", "rate")
    assert (config, wished) == ({"endpoint": "one", "rate": 0.5}, {"endpoint": "taken"})
    assert (origins["endpoint"], origins["rate"]) == ("argument", "message")
    await cast(("config_changed", "telemetry.x.endpoint", "taken", "two"))
    await up()
    await cast(("config_changed", "telemetry.x.endpoint", "two", "taken"))
    await up(state="degraded")
    config, wished, origins = await shown("endpoint")
    assert (config, wished, origins["endpoint"]) == ({"endpoint": "two"}, {"endpoint": "taken"}, "message")


async def test_an_exporter_is_on_until_the_rest_is_exported_and_off_until_it_is_open_again(runtime):
    held = Held()
    closing = Held()

    async def close(self):
        await closing.wait()

    async def open_(self):
        if not self.settings.rate:
            await held.wait()

    module, _ = make_exporter(open=open_, close=close)
    await start_exporter(module, START)
    await up()
    emit(3)
    await cast(("config_changed", "telemetry.x", {}, {"enabled": False, "rate": 0.0}))
    await closing.is_reached.wait()
    config, wished, _ = await shown("enabled")
    assert (config, wished) == ({"enabled": True}, {"enabled": False, "rate": 0.0})
    closing.may_go_on.set()
    await up(state="disabled")
    assert (await shown("enabled", "rate"))[:2] == ({"enabled": False, "rate": 0.0}, {})
    await cast(("config_changed", "telemetry.x.enabled", False, True))
    await held.is_reached.wait()
    assert (await shown("enabled"))[:2] == ({"enabled": False}, {"enabled": True})
    held.may_go_on.set()
    await up()
    assert (await shown("enabled"))[:2] == ({"enabled": True}, {})


async def test_one_that_never_came_up_shows_what_it_tries_to_come_up_with(runtime):
    async def open_(self):
        raise OSError("no such host")

    module, _ = make_exporter(open=open_)
    await start_exporter(module, START)
    await up(state="degraded")
    assert (await shown("endpoint"))[:2] == ({"endpoint": "one"}, {})
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await eventually(lambda: runner().configuration.in_force.endpoint == "two")
    assert (await shown("endpoint"))[:2] == ({"endpoint": "two"}, {})


async def test_what_an_ended_life_went_by_does_not_count_for_the_next(runtime):
    held = Held()
    module, _ = held_in_place(held)
    await in_process(tree(exporter_child_spec(module, START)).start_link, None, "application")
    await up()
    await cast(("config_changed", "telemetry.x.endpoint", "one", "two"))
    await held.is_reached.wait()
    await crash()
    await eventually(lambda: runner().state.lives == 2)
    await up()
    assert (await shown("endpoint"))[:2] == ({"endpoint": "two"}, {})
    held.may_go_on.set()
