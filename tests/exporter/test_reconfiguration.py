"""Changes while it runs, through a real otpylib-config on real files, by ``Config.put``, and by cast."""

import asyncio

import pytest
from otpylib import process
from otpylib_config import Config

from otpylib_telemetry import TomlSource, exporter_child_spec, start_exporter
from otpylib_telemetry.bus import table
from otpylib_telemetry.config.toml_source import known_sources
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.changes import own_changes, parts, with_part
from tests.config.reading import prometheus
from tests.supervision.test_supervision import tree
from tests.support.chassis import (
    NAME,
    books,
    call,
    cast,
    collect_events,
    crash,
    delivered,
    emit,
    hang,
    mailbox_empty,
    make_exporter,
    runner,
    stats,
    up,
)
from tests.support.runtime import MemorySource, in_process
from tests.support.waiting import eventually

BASE = {"event_patterns": ["shop.*"], "flush_interval": 0.02, "shutdown_timeout": 1.0}


class ConfigFile:
    """A TOML file under a real otpylib-config."""

    def __init__(self, path):
        self.path = path
        self.values = dict(BASE)

    def write(self, **changes):
        self.values.update(changes)
        self.values = {key: value for key, value in self.values.items() if value is not None}
        lines = [f"{key} = {_toml(value)}" for key, value in self.values.items()]
        fresh = self.path.with_suffix(".new")
        fresh.write_text("\n".join(["[telemetry.x]", *lines, ""]))
        fresh.replace(self.path)


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(entry)}' for key, entry in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value)


@pytest.fixture
def config_file(tmp_path):
    return ConfigFile(tmp_path / "config.toml")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.TICK", 0.05)


async def in_force(**expected):
    """Wait until the exporter itself works under these settings."""

    def reached():
        settings = runner().exporter.settings
        return all(getattr(settings, key) == value for key, value in expected.items())

    await eventually(reached, message=f"{expected} is in force")


async def start(module, config_manager, *sources, argument=None, **options):
    control = await config_manager(*sources, **options)
    await start_exporter(module, argument)
    await up()
    return control


async def test_an_edit_of_the_file_is_in_force_at_the_next_reload(runtime, config_manager, config_file):
    config_file.write(rate=0.5)
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    await in_force(rate=0.5)
    config_file.write(rate=0.25)
    await in_force(rate=0.25)
    config_file.write(endpoint="two")
    await in_force(endpoint="two")
    emit(5)
    await delivered(backend, 5)
    assert set(backend.endpoints) == {"two"}


async def test_a_plain_file_source_of_otpylib_config_works_as_well(runtime, config_manager, config_file):
    config_file.write(rate=0.5)
    module, _ = make_exporter()
    await start(module, config_manager, config_file.path)
    await in_force(rate=0.5)
    config_file.write(rate=0.25)
    await in_force(rate=0.25)


async def test_a_put_is_in_force_at_once(runtime, config_manager):
    module, _ = make_exporter()
    await start(module, config_manager, {"telemetry": {"x": BASE}}, reload_interval=600)
    await Config.put("telemetry.x.rate", 0.125)
    await in_force(rate=0.125)
    answer = await call(("get_config",))
    assert (answer["config"]["rate"], answer["origins"]["rate"]) == (0.125, "put")


async def test_a_cast_is_in_force_at_once(runtime):
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    await cast(("config_changed", "telemetry.x.rate", 1.0, 0.125))
    await in_force(rate=0.125)
    assert backend.calls == ["open", ("apply", frozenset({"rate"}))]


async def test_a_whole_table_by_cast_is_several_changes(runtime):
    module, _backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"rate": 0.5, "batch_size": 7}))
    await in_force(rate=0.5, batch_size=7)


async def test_an_entry_of_a_table_is_changed_by_itself(runtime, config_manager):
    module, _ = make_exporter()
    source = {"telemetry": {"x": BASE}}
    await start(module, config_manager, source)
    await cast(("config_changed", "telemetry.x.headers.a", None, "1"))
    await in_force(headers={"a": "1"})
    await cast(("config_changed", "telemetry.x.headers.b", None, "2"))
    await in_force(headers={"a": "1", "b": "2"})
    await cast(("config_changed", "telemetry.x.headers.a", "1", None))
    await in_force(headers={"b": "2"})
    await Config.put("telemetry.x.headers.c", "3")
    await in_force(headers={"c": "3"})


async def test_several_changes_of_one_reload_are_applied_once(runtime, config_manager, config_file):
    config_file.write()
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    applied = collect_events("telemetry.config.applied")
    config_file.write(rate=0.5, api_key="k", endpoint="two", batch_size=7)
    await in_force(rate=0.5, api_key="k", endpoint="two", batch_size=7)
    await eventually(lambda: applied)
    await asyncio.sleep(0.15)
    assert [call_ for call_ in backend.calls if call_[0] == "apply"] == [
        ("apply", frozenset({"rate", "api_key", "endpoint"}))
    ]
    assert backend.calls.count("open") == 2
    assert [event[1:] for event in applied] == [
        (
            {"generation": (await call(("get_config",)))["generation"]},
            {
                "exporter": NAME,
                "section": "telemetry.x",
                "keys": ["api_key", "batch_size", "endpoint", "rate"],
            },
        )
    ]


async def test_several_puts_in_a_row_are_applied_once(runtime, config_manager):
    module, backend = make_exporter()
    await start(module, config_manager, {"telemetry": {"x": BASE}}, reload_interval=600)
    await Config.put("telemetry.x.endpoint", "two")
    await Config.put("telemetry.x.api_key", "k")
    await Config.put("telemetry.x.rate", 0.5)
    await in_force(endpoint="two", api_key="k", rate=0.5)
    await asyncio.sleep(0.1)
    assert backend.calls.count("open") == 2
    assert [call_ for call_ in backend.calls if call_[0] == "apply"] == [
        ("apply", frozenset({"rate", "api_key", "endpoint"}))
    ]


async def test_several_casts_that_wait_together_are_applied_once(runtime):
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    applied = collect_events("telemetry.config.applied")
    for number in range(10):
        await cast(("config_changed", "telemetry.x.rate", 1.0, 0.5 + number))
    await in_force(rate=9.5)
    await eventually(lambda: applied)
    assert len(applied) == 1
    assert [call_ for call_ in backend.calls if call_[0] == "apply"] == [("apply", frozenset({"rate"}))]


async def test_what_is_read_at_the_start_is_no_change(runtime, config_manager, config_file):
    applied = collect_events("telemetry.config.applied")
    config_file.write(rate=0.5, endpoint="two")
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    await asyncio.sleep(0.1)
    assert applied == []
    assert backend.calls == ["open"]
    assert backend.exporters[-1].settings.endpoint == "two"


async def test_keys_common_to_all_exporters_do_not_bother_the_exporter(runtime):
    module, backend = make_exporter()
    await start_exporter(module, {**BASE, "flush_interval": 60})
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"batch_size": 3, "queue_limit": 5}))
    await in_force(batch_size=3, queue_limit=5)
    assert backend.calls == ["open"]
    emit(3)
    await delivered(backend, 3)
    assert stats()["queue_limit"] == 5


async def test_other_patterns_take_effect(runtime):
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    await cast(("config_changed", "telemetry.x.event_patterns", ["shop.*"], ["other.*"]))
    await in_force(event_patterns=("other.*",))
    emit(3)
    emit(2, name="other.event")
    await delivered(backend, 2)


async def test_a_bad_value_is_refused_once_and_the_last_good_one_stays(
    runtime, config_manager, config_file, caplog
):
    config_file.write(rate=0.5)
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    rejected = collect_events("telemetry.config.rejected")
    config_file.write(rate="fast", batch_size=7)
    await in_force(rate=0.5, batch_size=7)
    await eventually(lambda: rejected)
    config_file.write(batch_size=8)
    await in_force(rate=0.5, batch_size=8)
    await asyncio.sleep(0.1)
    assert [(event[2]["exporter"], event[2]["key"]) for event in rejected] == [(NAME, "telemetry.x.rate")]
    assert caplog.text.count("telemetry.x.rate") == 1
    problems = (await call(("get_config",)))["problems"]
    assert len(problems) == 1
    assert "telemetry.x.rate" in problems[0]
    config_file.write(rate=0.75)
    await in_force(rate=0.75)
    assert (await call(("get_config",)))["problems"] == []
    assert backend.calls.count("open") == 1


async def test_a_bad_value_by_cast_is_refused_each_time_and_never_comes_into_force_later(runtime):
    module, _ = make_exporter()
    await start_exporter(module, {**BASE, "rate": 0.5})
    await up()
    rejected = collect_events("telemetry.config.rejected")
    for _ in range(2):
        await cast(("config_changed", "telemetry.x.rate", 0.5, "fast"))
        await mailbox_empty()
    await cast(("config_changed", "telemetry.x.batch_size", 100, 7))
    await in_force(rate=0.5, batch_size=7)
    assert len(rejected) == 2
    assert (await call(("get_config",)))["problems"] == []


async def test_an_unknown_key_is_a_warning_with_the_nearest_one(runtime, config_manager, config_file, caplog):
    config_file.write()
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    rejected = collect_events("telemetry.config.rejected")
    config_file.write(btch_size=5, rate=0.5)
    await in_force(rate=0.5, batch_size=100)
    await eventually(lambda: "did you mean telemetry.x.batch_size?" in caplog.text)
    await asyncio.sleep(0.1)
    assert caplog.text.count("btch_size") == 1
    assert rejected == []


async def test_a_change_survives_a_restart_of_the_exporter(runtime, config_manager, config_file, capsys):
    config_file.write(rate=0.5)
    module, backend = make_exporter()
    await config_manager(TomlSource(config_file.path))
    spec = exporter_child_spec(module, {"endpoint": "argument"})
    await in_process(tree(spec).start_link, None, "application")
    await up()
    await cast(("config_changed", "telemetry.x.endpoint", "argument", "cast"))
    await Config.put("telemetry.x.batch_size", 7)
    await in_force(endpoint="cast", rate=0.5, batch_size=7)
    old = process.whereis(NAME)
    await crash()
    await eventually(lambda: process.whereis(NAME) not in {old, None})
    await up()
    await in_force(endpoint="cast", rate=0.5, batch_size=7)
    assert backend.exporters[-1].settings.endpoint == "cast"
    config_file.write(rate=0.25)
    await in_force(endpoint="cast", rate=0.25, batch_size=7)


async def test_after_restarts_a_change_is_still_applied_once(runtime, config_manager, config_file, capsys):
    config_file.write()
    module, backend = make_exporter()
    await config_manager(TomlSource(config_file.path))
    await in_process(tree(exporter_child_spec(module)).start_link, None, "application")
    await up()
    for _ in range(3):
        old = process.whereis(NAME)
        await crash()
        await eventually(lambda o=old: process.whereis(NAME) not in {o, None})
        await up()
    applied = collect_events("telemetry.config.applied")
    backend.calls.clear()
    config_file.write(rate=0.25)
    await in_force(rate=0.25)
    await asyncio.sleep(0.1)
    assert backend.calls == [("apply", frozenset({"rate"}))]
    assert len(applied) == 1


async def test_the_config_manager_may_crash(runtime, config_manager, config_file, capsys):
    config_file.write(rate=0.5)
    module, backend = make_exporter()
    control = await start(module, config_manager, TomlSource(config_file.path))
    await in_force(rate=0.5)
    for rate in (0.25, 0.125):
        await control.crash()
        await eventually(lambda: runner() is not None)
        config_file.write(rate=rate)
        await in_force(rate=rate)
    await asyncio.sleep(0.1)
    backend.calls.clear()
    config_file.write(rate=0.75)
    await in_force(rate=0.75)
    await asyncio.sleep(0.1)
    assert backend.calls == [("apply", frozenset({"rate"}))]


async def test_the_config_manager_may_come_later_and_go(runtime, config_manager, config_file, caplog):
    module, _ = make_exporter()
    await start_exporter(module, {**BASE, "endpoint": "argument"})
    await up()
    applied = collect_events("telemetry.config.applied")
    config_file.write(rate=0.5, endpoint="file")
    control = await config_manager(TomlSource(config_file.path))
    await in_force(rate=0.5, endpoint="argument")
    await eventually(lambda: [event[2]["keys"] for event in applied] == [["rate"]])
    await control.stop()
    await asyncio.sleep(0.1)
    await in_force(rate=0.5, endpoint="argument")
    config_file.write(rate=0.25)
    await config_manager(TomlSource(config_file.path))
    await in_force(rate=0.25, endpoint="argument")


async def test_the_argument_beats_the_first_file_but_not_a_later_change(runtime, config_manager, config_file):
    config_file.write(endpoint="file", rate=0.5)
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path), argument={"endpoint": "argument"})
    await in_force(endpoint="argument", rate=0.5)
    config_file.write(rate=0.25)
    await in_force(endpoint="argument", rate=0.25)
    config_file.write(endpoint="file again")
    await in_force(endpoint="file again")
    await Config.put("telemetry.x.endpoint", "put")
    await in_force(endpoint="put")


async def test_a_section_that_vanishes_is_not_a_wish(runtime, config_manager):
    source = MemorySource({"telemetry": {"x": {**BASE, "rate": 0.5}}})
    module, _ = make_exporter()
    await start(module, config_manager, source)
    source.values = {"other": {"key": 1}}
    await eventually(lambda: _gone("telemetry.x.rate"))
    await asyncio.sleep(0.1)
    await in_force(rate=0.5)
    source.values = {"telemetry": {"x": {**BASE, "rate": 0.25}}}
    await in_force(rate=0.25)


async def test_a_section_that_vanishes_is_said_once_per_time(runtime, config_manager, caplog):
    source = MemorySource({"telemetry": {"x": {**BASE, "rate": 0.5}}})
    module, _ = make_exporter()
    await start(module, config_manager, source)
    for rate in (0.25, 0.125):
        source.values = {"other": {"key": rate}}
        await eventually(lambda: registry.find(NAME).configuration.observed.doubted)
        await asyncio.sleep(0.1)
        source.values = {"telemetry": {"x": {**BASE, "rate": rate}}}
        await in_force(rate=rate)
    assert caplog.text.count("Section telemetry.x has vanished") == 2


@pytest.mark.parametrize("rest", ["[telemetry.x]\n", "[other]\nkey = 1\n"], ids=["table", "no table"])
async def test_the_last_key_deleted_from_a_file_in_order_is_a_wish(
    runtime, config_manager, config_file, caplog, rest
):
    config_file.path.write_text("[telemetry.x]\nrate = 0.5\n")
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    await in_force(rate=0.5)
    config_file.path.write_text("[telemetry.x]\nrate = 0.25\n")
    await in_force(rate=0.25)
    config_file.path.write_text(rest)
    await in_force(rate=1.0)
    assert "vanished" not in caplog.text


async def test_a_file_in_disorder_deletes_nothing(runtime, config_manager, config_file, caplog):
    config_file.path.write_text("[telemetry.x]\nrate = 0.5\n")
    module, _ = make_exporter()
    source = TomlSource(config_file.path)
    await start(module, config_manager, source)
    config_file.path.write_text("[telemetry.x\n")
    await eventually(lambda: source.trouble is not None)
    await asyncio.sleep(0.1)
    await in_force(rate=0.5)
    assert "vanished" not in caplog.text


async def test_an_unknown_key_that_is_put_is_a_warning_with_the_nearest_one(runtime, config_manager, caplog):
    module, _ = make_exporter()
    await start(module, config_manager, {"telemetry": {"x": BASE}}, reload_interval=600)
    await Config.put("telemetry.x.rat", 0.5)
    await eventually(lambda: "did you mean telemetry.x.rate?" in caplog.text)
    await Config.put("telemetry.x.batch_size", 7)
    await in_force(batch_size=7)
    assert caplog.text.count("telemetry.x.rat ") == 1


async def test_a_put_outlives_the_config_manager(runtime, config_manager, config_file, capsys):
    config_file.write(rate=0.5)
    module, _ = make_exporter()
    control = await start(module, config_manager, TomlSource(config_file.path))
    await Config.put("telemetry.x.rate", 0.25)
    await Config.put("telemetry.x.endpoint", "put")
    await in_force(rate=0.25, endpoint="put")
    first = registry.find(NAME).configuration.observed._manager
    await control.crash()
    await eventually(lambda: registry.find(NAME).configuration.observed._manager != first)
    assert await Config.get("telemetry.x.rate") == 0.5
    await in_force(rate=0.25, endpoint="put")
    # A put of something else has the section read a second time.
    await Config.put("telemetry.x.batch_size", 7)
    await in_force(rate=0.25, endpoint="put", batch_size=7)
    config_file.write(rate=0.125)
    await in_force(rate=0.125, endpoint="put")


async def test_an_edit_back_while_the_config_manager_is_away_is_a_wish(
    runtime, config_manager, config_file, capsys
):
    config_file.write(rate=0.5)
    module, _ = make_exporter()
    source = TomlSource(config_file.path)
    control = await start(module, config_manager, source)
    config_file.write(rate=0.25)
    await in_force(rate=0.25)
    await control.stop()
    config_file.write(rate=0.5)
    await config_manager(source)
    await in_force(rate=0.5)


async def _gone(path):
    return await Config.get(path) is None


async def test_a_key_that_is_deleted_goes_back_to_what_is_below(runtime, config_manager):
    source = MemorySource({"telemetry": {"x": {**BASE, "rate": 0.5}}})
    module, _ = make_exporter()
    await start(module, config_manager, source)
    source.values = {"telemetry": {"x": {**BASE, "rate": 0.25}}}
    await in_force(rate=0.25)
    source.values = {"telemetry": {"x": BASE}}
    await in_force(rate=1.0)


async def test_off_and_on_again_by_the_file(runtime, config_manager, config_file):
    config_file.write()
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    emit(3)
    config_file.write(enabled=False)
    await up(state="disabled")
    assert len(backend.delivered) == 3
    assert backend.open_now == 0
    emit(3)
    config_file.write(enabled=True)
    await up()
    emit(3, first=10)
    await delivered(backend, 6)
    assert backend.numbers == [0, 1, 2, 10, 11, 12]


async def test_apply_that_fails_is_degraded_and_retried(runtime, caplog):
    module, backend = make_exporter()
    backend.applying.append(OSError("port taken"))
    await start_exporter(module, BASE)
    await up()
    applied = collect_events("telemetry.config.applied")
    await cast(("config_changed", "telemetry.x.rate", 1.0, 0.5))
    await up(state="degraded")
    assert applied == []
    emit(3)
    await delivered(backend, 3)
    await in_force(rate=0.5)
    await up()
    assert len(applied) == 1
    assert "x_exporter is degraded: OSError: port taken. It goes on as it was" in caplog.text


async def test_a_new_instance_that_does_not_open_leaves_the_old_one_at_work(runtime):
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    backend.opening.append(OSError("unknown host"))
    await cast(("config_changed", "telemetry.x.endpoint", "one", "nowhere"))
    await up(state="degraded")
    emit(3)
    await delivered(backend, 3)
    assert set(backend.endpoints) == {"one"}
    await cast(("config_changed", "telemetry.x.endpoint", "nowhere", "one"))
    await up()
    assert backend.open_now == 1


async def test_reconfiguration_does_not_wait_for_an_export_that_hangs(runtime):
    module, backend = make_exporter()
    gate = hang()
    backend.script.append(gate)
    await start_exporter(module, BASE)
    await up()
    emit(3)
    await eventually(lambda: books()["in_flight"] == 3)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 0.5))
    await in_force(rate=0.5)
    gate.set_result(None)
    await delivered(backend, 3)


async def test_events_before_the_first_reading_are_sorted_by_what_is_read(
    runtime, config_manager, monkeypatch
):
    monkeypatch.setenv("TELEMETRY_X_EVENT_PATTERNS", "env.*")
    await config_manager({"telemetry": {"x": {**BASE, "event_patterns": ["file.*"]}}})
    module, backend = make_exporter()
    await start_exporter(module)
    assert stats()["state"] == "starting"
    emit(2, name="env.event")
    emit(3, name="file.event", first=10)
    await up()
    emit(2, name="env.event")
    emit(1, name="file.event", first=20)
    await delivered(backend, 4)
    assert backend.numbers == [10, 11, 12, 20]
    assert books()["accepted"] == 4


@pytest.mark.parametrize("enabled", [True, False])
async def test_events_before_the_first_reading_count_only_if_the_file_enables_it(
    runtime, config_manager, monkeypatch, enabled
):
    monkeypatch.setenv("TELEMETRY_X_ENABLED", str(not enabled))
    await config_manager({"telemetry": {"x": {**BASE, "enabled": enabled}}})
    module, backend = make_exporter()
    await start_exporter(module)
    emit(3)
    await up(state="running" if enabled else "disabled")
    if enabled:
        await delivered(backend, 3)
    assert books()["accepted"] == (3 if enabled else 0)


async def test_a_restart_under_a_switched_off_configuration_forgets_nothing(runtime, capsys):
    module, backend = make_exporter()
    backend.always = OSError("down")
    await start_exporter(module, {**BASE, "retry_attempts": 0})
    await up()
    emit(3)
    await eventually(lambda: stats()["export_failures"])
    await cast(("config_changed", "telemetry.x.enabled", True, False))
    await up(state="disabled")
    await crash()
    await start_exporter(module, BASE)
    await up(state="disabled")
    assert books()["queued"] == 3
    backend.always = None
    await cast(("config_changed", "telemetry.x.enabled", False, True))
    await delivered(backend, 3)


async def test_a_config_manager_that_does_not_answer_holds_nothing_up(
    runtime, config_manager, monkeypatch, caplog
):
    monkeypatch.setattr("otpylib_telemetry.exporter.process.FIRST_READ", 0.05)
    source = MemorySource({"telemetry": {"x": BASE}})
    await config_manager(source)

    async def hang_for_ever(section, keys):
        await asyncio.sleep(60)

    monkeypatch.setattr("otpylib_telemetry.config.otpylib_config.read_section", hang_for_ever)
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    emit(3)
    await delivered(backend, 3)
    assert caplog.text.count("could not read section telemetry.x") == 1
    await call(("drain", 0.5))


async def test_the_exporter_is_told_of_changes(runtime, config_manager, config_file):
    told = []
    config_file.write(rate=0.5)
    module, _ = make_exporter(noticed=lambda self, *change: told.append(change))
    await start(module, config_manager, TomlSource(config_file.path))
    config_file.write(rate=0.25)
    await eventually(lambda: told == [("telemetry.x.rate", 0.5, 0.25)])
    await cast(("config_changed", "telemetry.x.rate", 0.25, 0.125))
    await eventually(lambda: told[1:] == [("telemetry.x.rate", 0.25, 0.125)])


async def test_a_secret_is_never_said(runtime, config_manager, config_file, monkeypatch, caplog):
    monkeypatch.setenv("SECRET_ENDPOINT", "hunter2")
    caplog.set_level("DEBUG")
    seen = collect_events("telemetry.*")
    config_file.write(api_key="swordfish", endpoint="${SECRET_ENDPOINT}")
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    config_file.write(api_key="swordfish2")
    await in_force(api_key="swordfish2", endpoint="hunter2")
    config_file.write(rate="swordfish3")
    await eventually(lambda: [event for event in seen if event[0] == "telemetry.config.rejected"])
    everything = repr(
        [await call(("get_config",)), await call(("get_stats",)), seen, runner().exporter.settings]
    )
    assert "hunter2" not in everything + caplog.text
    assert "swordfish2" not in everything + caplog.text


async def test_a_handler_detached_by_hand_comes_back_with_the_next_change(runtime):
    module, backend = make_exporter()
    await start_exporter(module, BASE)
    await up()
    table.remove(NAME)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 0.5))
    await in_force(rate=0.5)
    emit(2)
    await delivered(backend, 2)
    assert registry.find(NAME).lives == 1


@pytest.mark.parametrize("refusing", ["applying", "opening"])
async def test_a_change_that_was_refused_from_outside_and_is_taken_back_leaves_no_trace(
    runtime, config_manager, config_file, refusing, caplog
):
    key, wanted = ("rate", 0.25) if refusing == "applying" else ("endpoint", "two")
    before = {"rate": 0.5, "endpoint": "one"}
    config_file.write(**before)
    module, backend = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    await in_force(**before)
    getattr(backend, refusing).extend([OSError("port taken")] * 1000)
    config_file.write(**{**before, key: wanted})
    await up(state="degraded")
    config_file.write(**before)
    await up(state="running")
    assert runner().lifecycle.health.reason is None
    emit(3)
    await delivered(backend, 3)
    assert set(backend.endpoints) == {"one"}
    assert backend.open_now == 1


# --- one thing that cannot be had


def in_part(**overrides):
    """An exporter that takes everything over in place but an endpoint that is taken."""

    async def apply(self, settings, changed):
        await asyncio.sleep(0)
        if settings.endpoint == "taken" and "endpoint" in changed:
            raise OSError("that address is taken")
        self.settings = settings
        return True

    return make_exporter(apply=apply, **overrides)


async def held_back(**expected):
    """Wait until these are in force while others are held back, and return the answer to get_config."""

    async def answered():
        answer = await call(("get_config",))
        config = answer["config"]
        return answer if all(config[key] == value for key, value in expected.items()) else None

    while (answer := await answered()) is None:
        await asyncio.sleep(0.01)
    return answer


@pytest.mark.parametrize("together", [True, False])
async def test_what_cannot_be_had_holds_up_nothing_else(
    runtime, config_manager, config_file, caplog, together
):
    caplog.set_level("INFO")
    config_file.write(rate=0.5, endpoint="one", headers={"a": "1"})
    module, _ = in_part()
    await start(module, config_manager, TomlSource(config_file.path))
    applied = collect_events("telemetry.config.applied")
    if not together:
        config_file.write(endpoint="taken")
        await up(state="degraded")
    config_file.write(endpoint="taken", rate=0.25, headers={"a": "2"}, batch_size=7)
    await in_force(rate=0.25, headers={"a": "2"}, endpoint="one")
    await up(state="degraded")
    answer = await held_back(rate=0.25, endpoint="one", batch_size=7)
    assert answer["wished"] == {"endpoint": "taken"}
    assert answer["origins"]["endpoint"] == f"file {config_file.path}"
    assert "that address is taken" in stats()["reason"]
    assert "It goes on as it was, without the new endpoint; tried again in" in caplog.text
    (event,) = applied
    assert event[2]["keys"] == ["batch_size", "headers", "rate"]
    config_file.write(endpoint="two")
    await in_force(endpoint="two")
    await up()
    assert (await call(("get_config",)))["wished"] == {}
    assert [event[2]["keys"] for event in applied] == [["batch_size", "headers", "rate"], ["endpoint"]]


async def test_several_things_that_cannot_be_had_hold_up_nothing_else_either(runtime):
    async def apply(self, settings, changed):
        if settings.endpoint == "taken" and "endpoint" in changed:
            raise OSError("that address is taken")
        if settings.api_key == "lost" and "api_key" in changed:
            raise LookupError("no such key")
        self.settings = settings
        return True

    module, _ = make_exporter(apply=apply)
    await start_exporter(module, {**BASE, "api_key": "sesame"})
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "taken", "api_key": "lost", "rate": 0.5}))
    await in_force(rate=0.5, endpoint="one", api_key="sesame")
    answer = await held_back(rate=0.5)
    assert answer["wished"] == {"endpoint": "taken", "api_key": "<redacted>"}
    assert (answer["config"]["endpoint"], answer["config"]["api_key"]) == ("one", "<redacted>")
    assert (answer["origins"]["api_key"], answer["origins"]["rate"]) == ("argument", "message")
    await cast(("config_changed", "telemetry.x.api_key", "lost", "found"))
    await in_force(api_key="found", endpoint="one")


async def test_what_needs_another_exporter_comes_into_force_beside_one_that_does_not_open(runtime):
    async def open_(self):
        if self.settings.endpoint == "nowhere":
            raise OSError("unknown host")

    module, backend = make_exporter(open=open_)
    await start_exporter(module, BASE)
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "nowhere", "headers": {"a": "1"}}))
    await in_force(endpoint="one", headers={"a": "1"})
    await up(state="degraded")
    emit(3)
    await delivered(backend, 3)
    assert set(backend.endpoints) == {"one"}
    await cast(("config_changed", "telemetry.x.endpoint", "nowhere", "two"))
    await in_force(endpoint="two", headers={"a": "1"})


async def test_what_belongs_together_comes_into_force_together_or_not_at_all(runtime):
    module, _ = in_part(inseparable=(frozenset({"endpoint", "api_key"}),))
    await start_exporter(module, {**BASE, "api_key": "sesame"})
    await up()
    await cast(("config_changed", "telemetry.x", {}, {"endpoint": "taken", "api_key": "new", "rate": 0.5}))
    await in_force(rate=0.5, endpoint="one", api_key="sesame")
    assert set((await held_back(rate=0.5))["wished"]) == {"endpoint", "api_key"}


def test_parts_do_not_go_without_what_they_need():
    before = prometheus(argument={"push_url": "http://localhost:9091"}).settings
    wanted = prometheus(argument={"push_interval": 5, "push_url": "http://gateway:9091"}).settings
    new = own_changes(before, wanted)
    assert set(parts(new, ())) == {frozenset({"push_interval"}), frozenset({"push_url"})}
    assert list(parts(new, (frozenset({"push_interval", "push_url", "port"}),))) == [new]
    some = with_part(before, wanted, frozenset({"push_interval"}))
    assert (some.push_interval, some.push_url) == (5, "http://localhost:9091")
    nothing = prometheus().settings
    some = with_part(nothing, wanted, frozenset({"push_interval"}))
    assert (some.push_interval, some.push_url) == (5, "http://gateway:9091")


# --- changes without end


async def endless(change, done):
    """Change something every few milliseconds until ``done``; returns how often."""
    for number in range(100_000):
        await change(number)
        await asyncio.sleep(0.003)
        if done():
            return number
    raise AssertionError("it never came into force")


async def test_changes_come_into_force_while_others_come(runtime, config_manager):
    module, _ = make_exporter()
    await start(module, config_manager, {"telemetry": {"x": BASE}}, reload_interval=600)
    applied = collect_events("telemetry.config.applied")
    seen = set()

    def done():
        seen.add(runner().exporter.settings.rate)
        return len(seen) > 3 and len(applied) > 3

    await endless(lambda number: Config.put("telemetry.x.rate", 2.0 + number), done)
    await Config.put("telemetry.x.rate", 1.5)
    await in_force(rate=1.5)


async def test_an_exporter_that_opens_slowly_opens_though_the_settings_change(runtime, config_manager):
    async def open_(self):
        await asyncio.sleep(0.6)

    module, _ = make_exporter(open=open_)
    await start(module, config_manager, {"telemetry": {"x": BASE}}, reload_interval=600)
    seen = set()

    def done():
        seen.add(runner().exporter.settings.endpoint)
        return len(seen) > 2

    await endless(lambda number: Config.put("telemetry.x.endpoint", f"number {number}"), done)


# --- where a change came from


async def test_an_edit_of_the_file_is_no_change_by_message(runtime, config_manager, config_file, caplog):
    config_file.write(rate=0.5)
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path), argument={"rate": 0.75})
    assert (await call(("get_config",)))["origins"]["rate"] == "argument"
    config_file.write(rate=0.25)
    await in_force(rate=0.25)
    assert (await call(("get_config",)))["origins"]["rate"] == f"file {config_file.path}"
    await Config.put("telemetry.x.rate", 0.125)
    await in_force(rate=0.125)
    assert (await call(("get_config",)))["origins"]["rate"] == "put"
    config_file.write(batch_size=True)
    await eventually(lambda: "telemetry.x.batch_size" in caplog.text)
    assert f"telemetry.x.batch_size (true, a boolean) from {config_file.path} is refused" in caplog.text


async def test_get_config_says_which_file_is_in_trouble(runtime, config_manager, config_file):
    config_file.write(rate=0.5)
    module, _ = make_exporter()
    await start(module, config_manager, TomlSource(config_file.path))
    path = str(config_file.path)
    assert (await call(("get_config",)))["files"] == {path: None}
    config_file.path.write_text("[telemetry.x\n")
    await eventually(lambda: known_sources()[0].trouble)
    assert "is not valid TOML" in (await call(("get_config",)))["files"][path]
    config_file.write(rate=0.25)
    await in_force(rate=0.25)
    assert (await call(("get_config",)))["files"] == {path: None}
