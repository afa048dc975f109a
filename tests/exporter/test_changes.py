"""Changes of a running exporter: where they come from, which one counts, and how they are taken back."""

import asyncio
import json
import os
import signal

import otpylib_config
import pytest
from otpylib import process
from otpylib_config import Config
from otpylib_config.atoms import RELOAD_TICK

from otpylib_telemetry import TomlSource, exporter_child_spec, exporter_module, start_exporter
from otpylib_telemetry.config import history
from otpylib_telemetry.config import sighup as sighup_
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.probe import Probe
from tests.supervision.test_supervision import tree
from tests.support.chassis import QUICK, SECTION, call, cast, crash, emit, hang, make_exporter, runner, up
from tests.support.runtime import MemorySource, in_process
from tests.support.waiting import eventually

START = {**QUICK, "endpoint": "one", "rate": 1.0}


class File:
    def __init__(self, path):
        self.path = path

    def write(self, **settings):
        text = "[telemetry.x]\n" + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in settings.items()
        )
        whole = self.path.with_suffix(".new")
        whole.write_text(text, encoding="utf-8")
        whole.replace(self.path)


@pytest.fixture
def file(tmp_path):
    return File(tmp_path / "config.toml")


async def config():
    return await call(("get_config",))


async def origin(key="rate"):
    return (await config())["origins"][key]


async def in_force(**expected):
    def reached():
        settings = runner().configuration.in_force
        return all(getattr(settings, key) == value for key, value in expected.items())

    await eventually(reached, message=f"{expected} is in force")


async def apply(changes, **about):
    return await call(("apply_config", changes, {"origin": "api", **about}))


async def started(config_manager, file, argument=None, **written):
    """Start with a file that otpylib-config itself does not look at again."""
    file.write(**{**QUICK, **written})
    await config_manager(TomlSource(file.path), reload_interval=600)
    module, backend = make_exporter()
    await start_exporter(module, argument)
    await up()
    return backend


# --- where a value comes from


async def test_each_layer_says_where_a_value_comes_from(runtime, config_manager, file, monkeypatch):
    monkeypatch.setenv("TELEMETRY_X_RETRY_ATTEMPTS", "2")
    await started(config_manager, file, {"batch_size": 7}, rate=0.5)
    answer = (await config())["origins"]
    assert answer["rate"] == f"file {file.path}"
    assert answer["batch_size"] == "argument"
    assert answer["retry_attempts"] == "environment TELEMETRY_X_RETRY_ATTEMPTS"
    assert answer["endpoint"] == "default"
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25)
    assert await origin() == "put"
    await cast(("config_changed", "telemetry.x.rate", 0.25, 0.125))
    assert await origin() == "message"
    await apply({"rate": 0.75}, by="ada")
    assert await origin() == "api by ada"
    await apply({"rate": 0.5})
    assert await origin() == "api"


async def test_what_was_put_before_the_exporter_was_there_was_put(runtime, config_manager, file):
    file.write(**QUICK, rate=0.5)
    await config_manager(TomlSource(file.path), MemorySource({"telemetry": {"x": {"retry_attempts": 1}}}))
    await Config.put("telemetry.x.endpoint", "two")
    module, _ = make_exporter()
    await start_exporter(module, None)
    await up()
    found = (await config())["origins"]
    assert (found["endpoint"], found["rate"]) == ("put", f"file {file.path}")
    assert found["retry_attempts"] == "config"


# --- the later one counts

ACTS = ["file", "put", "message", "api"]


async def act(kind, file, value, number):
    if kind == "file":
        file.write(**QUICK, rate=value)
    elif kind == "put":
        await Config.put("telemetry.x.rate", value)
    elif kind == "message":
        await cast(("config_changed", "telemetry.x.rate", None, value))
    else:
        await apply({"rate": value}, by="ada")
    await in_force(rate=value)


WORDS = {"put": "set by Config.put", "message": "set by a message", "api": "set through the API by ada"}


@pytest.mark.parametrize("first", ACTS)
@pytest.mark.parametrize("second", ACTS)
async def test_whichever_comes_later_counts_and_says_what_it_overrode(
    runtime, config_manager, file, caplog, first, second
):
    caplog.set_level("INFO")
    await started(config_manager, file, rate=0.5)
    await act(first, file, 0.25, 1)
    caplog.clear()
    await act(second, file, 0.125, 2)
    names = {"file": f"file {file.path}", "put": "put", "message": "message", "api": "api by ada"}
    words = {"file": f"from {file.path}", **WORDS}
    assert await origin() == names[second]
    told = [record for record in caplog.records if "overrides" in record.getMessage()]
    if first == second:
        assert not told
        return
    (record,) = told
    assert record.getMessage() == (
        f"telemetry.x.rate is 0.125 now, {words[second]}; that overrides 0.25, {words[first]}."
    )
    assert record.levelname == "WARNING"


async def test_a_secret_is_not_told_when_it_is_overridden(runtime, config_manager, file, caplog):
    caplog.set_level("INFO")
    await started(config_manager, file, api_key="sesame")
    await Config.put("telemetry.x.api_key", "open")
    await in_force(api_key="open")
    answer = await apply({"api_key": "closed-now"}, by="eve\nforged line")
    assert answer["overrode"] == {"api_key": "put"}
    text = caplog.text + repr(await call(("get_history",))) + repr(answer) + repr(await config())
    assert "that overrides the one set by Config.put." in text
    assert not any(secret in text for secret in ("sesame", "closed-now"))
    assert "\nforged" not in text


async def test_a_key_that_is_deleted_from_the_file_is_not_there_whatever_was_put(
    runtime, config_manager, file
):
    await started(config_manager, file, rate=0.5, endpoint="two")
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25)
    file.write(**QUICK, endpoint="two")
    os.utime(file.path, (1e9, 1e9))
    await in_force(rate=1.0)
    assert await origin() == "default"


async def test_a_put_that_is_taken_back_leaves_what_came_later(runtime, config_manager, file):
    await started(config_manager, file, rate=0.5)
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25)
    await Config.put("telemetry.x.rate", None)
    await in_force(rate=0.5)
    assert await origin() == f"file {file.path}"
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25)
    await apply({"rate": 0.75}, by="ada")
    await Config.put("telemetry.x.rate", None)
    await Config.put("telemetry.x.batch_size", 9)
    await in_force(batch_size=9)
    assert (await config())["config"]["rate"] == 0.75


# --- transactions


async def test_a_change_that_is_refused_in_part_is_refused_as_a_whole(runtime):
    module, _ = make_exporter()
    await start_exporter(module, START)
    await up()
    answer = await apply({"rate": 0.5, "batch_size": True}, by="ada")
    assert (answer["outcome"], answer["changes"], answer["reverts_at"]) == ("rejected", {}, None)
    (problem,) = answer["problems"]
    assert problem.startswith(
        "telemetry.x.batch_size (true, a boolean) set through the API by ada is refused"
    )
    assert (await config())["config"]["rate"] == 1.0
    entry = (await call(("get_history",)))[-1]
    assert (entry["outcome"], entry["by"], entry["generation"]) == ("rejected", "ada", answer["generation"])
    assert entry["changes"]["rate"] == {"old": 1.0, "new": 0.5}
    answer = await apply({"raet": 0.5})
    assert "did you mean telemetry.x.rate?" in answer["problems"][0]
    assert answer["outcome"] == "rejected"


async def test_a_change_is_answered_and_remembered(runtime, monkeypatch):
    monkeypatch.setattr(history.HISTORY, "wall_clock", lambda: 1234.5)
    module, _ = make_exporter()
    await start_exporter(module, START)
    await up()
    before = (await config())["generation"]
    answer = await apply({"rate": 0.5, "batch_size": 20}, by="ada")
    assert answer == {
        "outcome": "applied",
        "generation": before + 1,
        "changes": {"rate": {"old": 1.0, "new": 0.5}, "batch_size": {"old": 10, "new": 20}},
        "problems": [],
        "overrode": {"rate": "argument", "batch_size": "argument"},
        "reverts_at": None,
    }
    assert (await call(("get_history",)))[-1] == {
        "generation": before + 1,
        "time": 1234.5,
        "section": "telemetry.x",
        "origin": "api",
        "by": "ada",
        "changes": answer["changes"],
        "outcome": "applied",
        "reverts_at": None,
        "reverted": False,
    }
    assert (await apply({"rate": None}))["changes"] == {"rate": {"old": 0.5, "new": 1.0}}
    assert await origin() == "argument"


async def test_what_cannot_be_had_is_pending_until_it_can_or_another_takes_its_place(runtime):
    taken = {"taken"}

    async def change(self, settings, changed):
        if settings.endpoint in taken:
            raise OSError("that address is taken")
        self.settings = settings
        return True

    module, _ = make_exporter(apply=change)
    await start_exporter(module, START)
    await up()
    answer = await apply({"endpoint": "taken", "rate": 0.5})
    assert answer["outcome"] == "pending"
    assert (await config())["wished"] == {"endpoint": "taken"}
    await apply({"endpoint": "two"})
    first, second = (await call(("get_history",)))[-2:]
    assert (first["outcome"], second["outcome"]) == ("superseded", "applied")
    taken.clear()
    await apply({"endpoint": "taken"})
    await up()
    assert [entry["outcome"] for entry in await call(("get_history",))][-1] == "applied"


@pytest.mark.parametrize(
    "repeat", [{"endpoint": "wrong"}, {"rate": 1.0, "endpoint": "wrong"}, {"rate": 0.5, "endpoint": "wrong"}]
)
async def test_what_is_pending_stays_so_however_often_it_is_wished(runtime, repeat):
    proofs = Proofs()
    await start_exporter(proofs.module, START)
    await up()
    first = await apply({"endpoint": "wrong"})
    assert (first["outcome"], len(first["problems"])) == ("pending", 1)
    tried = await call(("try_config", repeat))
    assert (tried["valid"], tried["probe"]["ok"]) == (True, False)
    assert tried["effects"][0] == f"wished already, and not in force yet (endpoint): {first['problems'][0]}"
    again = await apply(repeat)
    assert (again["outcome"], again["problems"]) == ("pending", first["problems"])
    assert set(again["changes"]) == {key for key in repeat if repeat[key] == 0.5}
    assert (await config())["wished"] == {"endpoint": "wrong"}
    # What has nothing to do with it is in force.
    settings = runner().configuration.in_force
    assert (await apply({"rate": settings.rate}))["outcome"] == "applied"
    tried = await call(("try_config", {"rate": settings.rate}))
    assert (tried["changes"], tried["effects"], tried["probe"]) == ({}, [], None)
    # Going back to it again is going back to what works.
    for _ in range(2):
        assert (await call(("rollback", 1, None)))["outcome"] == "applied"
    proofs.good.add("wrong")
    for _ in range(2):
        assert (await apply({"endpoint": "wrong"}))["outcome"] == "applied"
    tried = await call(("try_config", {"endpoint": "wrong"}))
    assert (tried["changes"], tried["effects"], tried["probe"]) == ({}, [], None)


async def test_a_rollback_to_what_cannot_be_had_is_pending_also_the_second_time(runtime):
    proofs = Proofs()
    proofs.good.add("two")
    await start_exporter(proofs.module, START)
    await up()
    await apply({"endpoint": "two"})
    await apply({"endpoint": "one"})
    proofs.good.remove("two")
    generation = (await call(("get_history",)))[-2]["generation"]
    for _ in range(2):
        answer = await call(("rollback", generation, None))
        assert (answer["outcome"], len(answer["problems"])) == ("pending", 1)


async def test_what_it_began_with_is_not_in_force_while_it_does_not_work(runtime):
    module, backend = make_exporter()
    backend.opening.extend([OSError("one is taken")] * 1000)
    await start_exporter(module, START)
    await up(state="degraded")
    answer = await apply({"endpoint": "one"})
    assert (answer["outcome"], answer["changes"]) == ("pending", {})
    assert "one is taken" in answer["problems"][0]
    assert (await apply({"batch_size": runner().configuration.settings.batch_size}))["outcome"] == "applied"
    assert "one is taken" in (await call(("try_config", {"endpoint": "one"})))["effects"][0]
    backend.opening.clear()
    await up()
    assert (await apply({"endpoint": "one"}))["outcome"] == "applied"


async def test_a_change_with_which_nothing_comes_up_is_pending_until_something_does(runtime):
    module, _ = make_exporter()
    taken = {"one", "two"}

    class Taken(module.exporter_type):
        async def open(self):
            if self.settings.endpoint in taken:
                raise OSError(f"{self.settings.endpoint} is taken")
            await super().open()

    module = exporter_module("Taken", Taken, name=module.registered_name, section=SECTION, module=__name__)
    await start_exporter(module, START)
    await up(state="degraded")
    answer = await apply({"endpoint": "two"})
    assert (answer["outcome"], answer["changes"]) == ("pending", {"endpoint": {"old": "one", "new": "two"}})
    assert ["two is taken" in text for text in answer["problems"]] == [True]
    # What needs nothing open is in force.
    answer = await apply({"batch_size": 33})
    assert (answer["outcome"], answer["problems"]) == ("applied", [])
    assert [entry["outcome"] for entry in await call(("get_history",))][-2:] == ["pending", "applied"]
    # One more that fails, and one that does not.
    answer = await apply({"rate": 0.5})
    assert answer["outcome"] == "pending"
    taken.clear()
    await up()
    assert {entry["outcome"] for entry in await call(("get_history",))} == {"applied"}
    assert (await apply({"endpoint": "three"}))["outcome"] == "applied"


async def test_a_change_before_the_first_attempt_has_ended_waits_as_well(runtime):
    module, backend = make_exporter()
    backend.opening.append(hold := hang())
    backend.opening.extend([OSError("taken")] * 2)
    await start_exporter(module, START)
    await eventually(lambda: backend.calls == ["open"])
    asking = asyncio.ensure_future(apply({"endpoint": "two"}))
    await asyncio.sleep(0)
    hold.set_exception(OSError("taken"))
    assert (await asking)["outcome"] == "pending"
    await up()
    assert [entry["outcome"] for entry in await call(("get_history",))][-1] == "applied"


async def test_a_change_that_another_came_before_is_answered_as_superseded(runtime):
    module, backend = make_exporter()
    await start_exporter(module, START)
    await up()
    backend.applying.append(hold := hang())
    first = asyncio.ensure_future(apply({"endpoint": "two"}))
    await eventually(lambda: not backend.applying)
    second = asyncio.ensure_future(apply({"endpoint": "three"}))
    await eventually(lambda: runner().configuration.settings.endpoint == "three")
    hold.set_result(None)
    assert [(await each)["outcome"] for each in (first, second)] == ["superseded", "applied"]


class Proofs:
    """Which destinations prove themselves, and which ever got something."""

    def __init__(self):
        self.good = {"one"}
        self.taken = set()
        self.tried = []
        module, self.backend = make_exporter()
        proofs = self

        class Proving(module.exporter_type):
            inseparable = (frozenset({"endpoint", "headers"}),)

            @classmethod
            async def prove(cls, settings, instead_of):
                if instead_of is not None and instead_of.enabled and instead_of.endpoint == settings.endpoint:
                    return
                proofs.tried.append(settings.endpoint)
                if settings.endpoint not in proofs.good:
                    raise ConnectionError(f"{settings.endpoint} takes nothing")

            async def open(self):
                if self.settings.endpoint in proofs.taken:
                    raise OSError(f"{self.settings.endpoint} is taken")
                await super().open()

        self.module = exporter_module(
            "Proving", Proving, name=module.registered_name, section=SECTION, module=__name__
        )

    async def arrives_at(self, endpoint):
        before = len(self.backend.endpoints)
        emit(3)
        await eventually(lambda: len(self.backend.endpoints) >= before + 3)
        assert set(self.backend.endpoints[before:]) == {endpoint}


async def crash_and_come_back(proofs, state):
    lives = registry.find(proofs.module.registered_name).lives
    await crash()
    await eventually(lambda: registry.find(proofs.module.registered_name).lives == lives + 1)
    await up(state=state)


async def test_a_crash_does_not_open_what_has_not_proved_itself(runtime):
    proofs = Proofs()
    await in_process(tree(exporter_child_spec(proofs.module, START)).start_link, None, "application")
    await up()
    await proofs.arrives_at("one")
    answer = await apply({"endpoint": "wrong", "rate": 0.5})
    assert (answer["outcome"], answer["problems"]) == ("pending", ["ConnectionError: wrong takes nothing"])
    for _ in range(2):
        await crash_and_come_back(proofs, "degraded")
        found = await config()
        assert (found["config"]["endpoint"], found["wished"]) == ("one", {"endpoint": "wrong"})
        assert found["config"]["rate"] == 0.5
        assert (await call(("get_history",)))[-1]["outcome"] == "pending"
        await proofs.arrives_at("one")
    proofs.good.add("wrong")
    await up()
    assert (await call(("get_history",)))[-1]["outcome"] == "applied"
    await proofs.arrives_at("wrong")
    # What has proved itself needs no proof after a crash, and what was taken back is not tried.
    proofs.tried.clear()
    await crash_and_come_back(proofs, "running")
    assert proofs.tried == []
    await proofs.arrives_at("wrong")


async def test_what_was_open_before_a_crash_may_be_gone_when_the_new_one_proves_itself(runtime):
    proofs = Proofs()
    await in_process(tree(exporter_child_spec(proofs.module, START)).start_link, None, "application")
    await up()
    await apply({"endpoint": "two"})
    proofs.backend.opening.extend([OSError("its certificate is gone")] * 2)
    await crash_and_come_back(proofs, "degraded")
    assert (await call(("get_history",)))[-1]["outcome"] == "pending"
    proofs.backend.opening.clear()
    proofs.backend.opening.extend([OSError("its certificate is gone")])
    proofs.good.add("two")
    await up()
    assert (await call(("get_history",)))[-1]["outcome"] == "applied"
    await proofs.arrives_at("two")


async def test_a_crash_does_not_close_what_is_open_for_what_cannot_be_opened(runtime):
    proofs = Proofs()
    proofs.good.add("two")
    proofs.taken.add("two")
    await in_process(tree(exporter_child_spec(proofs.module, START)).start_link, None, "application")
    await up()
    assert (await apply({"endpoint": "two"}))["outcome"] == "pending"
    await crash_and_come_back(proofs, "degraded")
    await proofs.arrives_at("one")
    proofs.taken.clear()
    await up()
    assert (await call(("get_history",)))[-1]["outcome"] == "applied"
    await proofs.arrives_at("two")


async def test_a_start_with_another_argument_opens_what_it_says(runtime):
    proofs = Proofs()
    pid = await start_exporter(proofs.module, START)
    await up()
    await process.exit(pid, "kill")
    await eventually(lambda: runner() is None)
    proofs.tried.clear()
    await start_exporter(proofs.module, {**START, "endpoint": "other"})
    await up()
    assert proofs.tried == []
    await proofs.arrives_at("other")


@pytest.mark.parametrize("by", ["file", "api", "message"])
@pytest.mark.parametrize("first", ["file", "put"])
async def test_a_put_of_what_is_held_already_is_the_later_act(runtime, config_manager, file, by, first):
    await started(config_manager, file, **({"rate": 0.5} if first == "file" else {}))
    if first == "put":
        await Config.put("telemetry.x.rate", 0.5)
        await in_force(rate=0.5)
    if by == "file":
        file.write(**QUICK, rate=0.25)
    elif by == "api":
        await apply({"rate": 0.25}, by="ada")
    else:
        await cast(("config_changed", "telemetry.x.rate", 0.5, 0.25))
    await in_force(rate=0.25)
    await Config.put("telemetry.x.rate", 0.5)
    assert (await config())["config"]["rate"] == 0.5
    assert await origin() == "put"
    assert (await call(("get_history",)))[-1]["origin"] == "put"
    # It is a put like any other: the next act beats it, and it can be taken back.
    file.write(**QUICK, rate=0.125)
    await in_force(rate=0.125)
    await Config.put("telemetry.x.rate", 0.5)
    await in_force(rate=0.5)
    await Config.put("telemetry.x.rate", None)
    await in_force(rate=0.125)


async def test_a_put_of_what_the_file_says_outlives_the_config_manager(runtime, config_manager, file):
    file.write(**QUICK, rate=0.5)
    control = await config_manager(TomlSource(file.path), reload_interval=600)
    module, _ = make_exporter()
    await start_exporter(module, {"rate": 0.75})
    await up()
    await in_force(rate=0.75)
    await Config.put("telemetry.x.rate", 0.5)
    await in_force(rate=0.5)
    observed = registry.find(module.registered_name).configuration.observed
    first = observed._manager
    await control.crash()
    await eventually(lambda: observed._manager != first)
    for size in (7, 8):
        await Config.put("telemetry.x.batch_size", size)
        await in_force(rate=0.5, batch_size=size)
        assert await origin() == "put"


@pytest.mark.parametrize(("written", "put"), [(1, 1.0), (1.0, 1)])
async def test_a_put_of_equal_worth_and_another_type_is_heard_once(
    runtime, config_manager, file, written, put
):
    await started(config_manager, file, rate=written)
    await Config.put("telemetry.x.rate", put)
    assert await origin() == "put"
    await apply({"rate": 0.25}, by="ada")
    await Config.put("telemetry.x.batch_size", 7)
    await in_force(batch_size=7)
    assert (await config())["config"]["rate"] == 0.25
    assert await origin() == "api by ada"


async def test_a_put_of_an_entry_or_of_a_whole_section_that_is_held_already_counts(
    runtime, config_manager, file
):
    await started(config_manager, file)
    await Config.put("telemetry.x.headers.a", "1")
    await in_force(headers={"a": "1"})
    await apply({"headers": {}, "rate": 0.25})
    await Config.put("telemetry.x.headers.a", "1")
    await in_force(headers={"a": "1"}, rate=0.25)
    await Config.put("telemetry.x", {"rate": 0.5})
    await in_force(rate=0.5)
    await apply({"rate": 0.25})
    await Config.put("telemetry.x", {"rate": 0.5})
    await in_force(rate=0.5)


@pytest.mark.parametrize("below", ["config", "file", "environment", "default"])
async def test_what_is_put_and_taken_back_uncovers_what_lies_below(
    runtime, config_manager, file, monkeypatch, below
):
    said = {"batch_size": 5, **({"rate": 0.5} if below in {"config", "file"} else {})}
    file.write(**said)
    if below == "environment":
        monkeypatch.setenv("TELEMETRY_X_RATE", "0.5")
    source = TomlSource(file.path) if below == "file" else {"telemetry": {"x": said}}
    await config_manager(source, reload_interval=600)
    module, _ = make_exporter()
    await start_exporter(module, None)
    await up()

    async def uncovered():
        await in_force(rate=1.0 if below == "default" else 0.5, batch_size=5)
        assert (await origin()).split(" ")[0] == below

    await uncovered()
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25)
    await Config.put("telemetry.x.rate", None)
    await uncovered()
    # A section as a whole, which counts like puts of its keys, again and again.
    for _ in range(2):
        await Config.put("telemetry.x", {"rate": 0.125, "batch_size": 7})
        await in_force(rate=0.125, batch_size=7)
        assert await origin() == "put"
        await apply({"rate": 0.75})
    await Config.put("telemetry.x", {"rate": 0.125, "batch_size": 8})
    await in_force(rate=0.125, batch_size=8)
    await Config.put("telemetry.x.rate", 0.25)
    await in_force(rate=0.25, batch_size=8)
    await Config.put("telemetry.x", None)
    await in_force(rate=0.25, batch_size=5)
    await Config.put("telemetry.x.rate", None)
    await uncovered()


async def waits_for_proof(proofs, wished):
    """Nothing is sent, and nothing else is said to be in force."""
    emit(3)
    await up(state="degraded")
    found = await config()
    assert found["wished"] == wished
    assert (await call(("get_history",)))[-1]["outcome"] == "pending"
    assert proofs.backend.endpoints.count(wished["endpoint"]) == 0


async def proves_itself(proofs, endpoint):
    """What has waited arrives."""
    before = len(proofs.backend.endpoints)
    proofs.good.add(endpoint)
    await up()
    assert (await call(("get_history",)))[-1]["outcome"] == "applied"
    assert (await config())["wished"] == {}
    await eventually(lambda: len(proofs.backend.endpoints) >= before + 3)
    assert set(proofs.backend.endpoints[before:]) == {endpoint}


@pytest.mark.parametrize("together", [True, False])
async def test_what_was_changed_while_it_was_off_has_to_prove_itself(runtime, together):
    proofs = Proofs()
    await start_exporter(proofs.module, START)
    await up()
    await apply({"enabled": False})
    if not together:
        assert (await apply({"endpoint": "other"}))["outcome"] == "applied"
        assert proofs.tried == []
    answer = await apply({"enabled": True, **({"endpoint": "other"} if together else {})})
    assert (answer["outcome"], answer["problems"]) == ("pending", ["ConnectionError: other takes nothing"])
    emit(3)
    await up(state="degraded")
    found = await config()
    assert found["wished"]["enabled"] is True
    assert proofs.backend.endpoints.count("other") == 0
    await proves_itself(proofs, "other")


async def test_what_was_off_from_the_start_has_to_prove_itself(runtime):
    proofs = Proofs()
    await start_exporter(proofs.module, {**START, "endpoint": "other", "enabled": False})
    await up(state="disabled")
    assert (await apply({"enabled": True}))["outcome"] == "pending"
    await proves_itself_after(proofs, "other")


async def proves_itself_after(proofs, endpoint):
    emit(3)
    await up(state="degraded")
    assert proofs.backend.endpoints == []
    await proves_itself(proofs, endpoint)


async def test_what_was_idle_has_to_prove_itself_also_over_a_crash(runtime):
    proofs = Proofs()

    class Idle(proofs.module.exporter_type):
        def idle_reason(self):
            return "no endpoint" if self.settings.endpoint == "none" else None

    proofs.module = exporter_module(
        "Idle", Idle, name=proofs.module.registered_name, section=SECTION, module=__name__
    )
    start = {**START, "endpoint": "none"}
    await in_process(tree(exporter_child_spec(proofs.module, start)).start_link, None, "application")
    await up(state="idle")
    assert proofs.tried == []
    assert (await apply({"endpoint": "other"}))["outcome"] == "pending"
    await waits_for_proof(proofs, {"endpoint": "other"})
    await crash_and_come_back(proofs, "degraded")
    await waits_for_proof(proofs, {"endpoint": "other"})
    await proves_itself(proofs, "other")


async def test_what_stood_in_the_way_of_another_wish_is_no_answer(runtime, monkeypatch):
    proofs = Proofs()
    await start_exporter(proofs.module, START)
    await up()
    assert (await apply({"endpoint": "wrong"}))["problems"] == ["ConnectionError: wrong takes nothing"]
    monkeypatch.setattr("otpylib_telemetry.exporter.process.CONFIG_PATIENCE", 0.0)
    hold = hang()

    async def prove(cls, settings, instead_of):
        await hold

    monkeypatch.setattr(proofs.module.exporter_type, "prove", classmethod(prove))
    answer = await apply({"endpoint": "other"})
    assert (answer["outcome"], answer["problems"]) == ("pending", [])
    hold.set_result(None)
    await up()


async def test_an_idle_exporter_does_not_work_with_changed_settings(runtime, caplog):
    caplog.set_level("INFO")
    module, _ = make_exporter()

    class Idle(module.exporter_type):
        def idle_reason(self):
            return "no endpoint" if self.settings.endpoint == "none" else None

    module = exporter_module("Idle", Idle, name=module.registered_name, section=SECTION, module=__name__)
    await start_exporter(module, START)
    await up()
    await apply({"endpoint": "none"})
    await up(state="idle")
    await eventually(lambda: "x_exporter is idle with changed settings: endpoint." in caplog.text)
    assert "works with changed settings" not in caplog.text


async def test_what_never_came_up_has_to_prove_itself_when_it_is_changed(runtime):
    proofs = Proofs()
    proofs.taken.add("one")
    await start_exporter(proofs.module, START)
    await up(state="degraded")
    assert proofs.tried == []
    assert (await apply({"endpoint": "other"}))["outcome"] == "pending"
    await proves_itself_after(proofs, "other")


async def test_what_an_earlier_life_has_left_is_not_sent_to_what_has_not_proved_itself(runtime):
    proofs = Proofs()
    proofs.taken.add("one")
    pid = await start_exporter(proofs.module, START)
    await up(state="degraded")
    emit(3)
    await process.exit(pid, "kill")
    await eventually(lambda: runner() is None)
    await start_exporter(proofs.module, {**START, "endpoint": "other"})
    await up(state="degraded")
    assert proofs.backend.endpoints == []
    proofs.good.add("other")
    await up()
    await eventually(lambda: proofs.backend.endpoints == ["other"] * 3)


async def test_what_was_off_and_is_on_again_as_it_was_has_to_prove_itself(runtime):
    proofs = Proofs()
    await start_exporter(proofs.module, START)
    await up()
    proofs.good.clear()
    await apply({"enabled": False})
    assert (await call(("try_config", {"enabled": True})))["probe"]["ok"] is False
    answer = await apply({"enabled": True})
    assert (answer["outcome"], answer["problems"]) == ("pending", ["ConnectionError: one takes nothing"])
    await proves_itself_after(proofs, "one")
    # With what it has proved before, nothing is tried again.
    proofs.good.clear()
    assert (await apply({"rate": 0.5}))["outcome"] == "applied"


async def test_a_change_for_a_while_ends_by_itself_also_over_a_crash(runtime, caplog):
    caplog.set_level("INFO")
    module, _ = make_exporter()
    await in_process(tree(exporter_child_spec(module, START)).start_link, None, "application")
    await up()
    now = [100.0]
    runner().configuration._monotonic = lambda: now[0]
    answer = await apply({"rate": 0.5, "batch_size": 20}, by="ada", **{"for": 600})
    assert answer["reverts_at"] == pytest.approx(history.HISTORY.entries()[-1].time + 600)
    assert (await config())["config"]["rate"] == 0.5
    await apply({"batch_size": 30}, by="bob")
    lives = registry.find(module.registered_name).lives
    await crash()
    await eventually(lambda: registry.find(module.registered_name).lives == lives + 1)
    await up()
    assert (await config())["config"]["rate"] == 0.5
    now[0] = 701.0
    await in_force(rate=1.0, batch_size=30)
    entry = next(
        entry for entry in await call(("get_history",)) if entry["generation"] == answer["generation"]
    )
    assert (entry["outcome"], entry["reverted"]) == ("reverted", True)
    assert (await call(("get_history",)))[-1]["origin"] == "revert"
    assert f"again, from the start argument: the time is up of change {entry['generation']}" in caplog.text


async def test_a_short_change_ends_without_anybody_asking(runtime):
    module, _ = make_exporter()
    await start_exporter(module, {**START, "flush_interval": 600})
    await up()
    await apply({"rate": 0.5}, **{"for": 0.05})
    await in_force(rate=1.0)


@pytest.mark.parametrize("seconds", [0, -1, "long", True, float("nan"), float("inf"), 1e9, [1], {}])
async def test_a_while_that_is_none_is_refused(runtime, seconds):
    module, _ = make_exporter()
    await start_exporter(module, START)
    await up()
    kind, text = await apply({"rate": 0.5}, **{"for": seconds})
    assert (kind, "number of seconds above 0" in text) == ("error", True)
    assert (await config())["config"]["rate"] == 1.0


class Hostile(dict):
    def __iter__(self):
        raise SystemExit(3)

    items = keys = __getitem__ = __len__ = __iter__


@pytest.mark.parametrize(
    "message",
    [
        ("apply_config", None, None),
        ("apply_config", [("rate", 1)], {}),
        ("apply_config", {1: 2}, {}),
        ("apply_config", Hostile(a=1), {}),
        ("apply_config", {"rate": 0.5}, "me"),
        ("try_config", "rate"),
        ("rollback", "1", None),
        ("rollback", True, None),
        ("rollback", None, None),
    ],
)
async def test_a_request_that_is_none_is_answered_and_costs_nothing(runtime, message):
    module, _ = make_exporter()
    await start_exporter(module, START)
    await up()
    assert (await call(message))[0] == "error"
    assert runner().state.lives == 1
    assert (await config())["config"]["rate"] == 1.0


# --- dry run


async def test_a_dry_run_tells_everything_and_changes_nothing(runtime):
    tried = []

    def attempt(seconds):
        tried.append(seconds)
        raise OSError("connection refused by two, which knows sesame")

    module, backend = make_exporter()
    module.exporter_type.probes = classmethod(
        lambda cls, settings: [Probe(f"events to {settings.endpoint}", attempt, connects=True)]
    )
    await start_exporter(module, {**START, "api_key": "sesame"})
    await up()
    before, calls = await config(), list(backend.calls)
    answer = await call(("try_config", {"endpoint": "two", "rate": 0.5}))
    assert (answer["valid"], answer["problems"]) == (True, [])
    assert answer["changes"] == {"endpoint": {"old": "one", "new": "two"}, "rate": {"old": 1.0, "new": 0.5}}
    assert answer["probe"]["ok"] is False
    assert "events to two: connection refused by two" in answer["probe"]["reason"]
    assert "sesame" not in repr(answer)
    assert answer["effects"]
    assert (await call(("try_config", {"batch_size": 20})))["probe"] is None
    answer = await call(("try_config", {"rate": -1}))
    assert (answer["valid"], answer["changes"], answer["probe"]) == (False, {}, None)
    assert "telemetry.x.rate (-1, an integer)" in answer["problems"][0]
    assert await config() == before
    assert backend.calls == calls
    assert len(tried) == 1
    assert await call(("get_history",)) == []


async def test_a_dry_run_tries_the_port_that_an_exporter_waits_for_and_not_the_one_it_has(runtime):
    taken = {"one"}

    def take(place):
        if place in taken:
            raise OSError(f"{place} is taken")

    module, _ = make_exporter()

    class Serving(module.exporter_type):
        @classmethod
        def probes(cls, settings):
            place = settings.endpoint
            return [Probe(f"the port of {place}", lambda _: take(place), connects=True, takes=True)]

        async def open(self):
            take(self.settings.endpoint)
            await super().open()

    module = exporter_module(
        "Serving", Serving, name=module.registered_name, section=SECTION, module=__name__
    )
    await start_exporter(module, START)
    await up(state="degraded")
    taking = {"ok": False, "reason": "the port of one: one is taken"}
    for changes in ({"endpoint": "one"}, {"headers": {"a": "1"}}):
        assert (await call(("try_config", changes)))["probe"] == taking
    assert (await call(("try_config", {"endpoint": "two"})))["probe"]["ok"] is True
    taken.clear()
    await up()
    taken.add("one")
    assert (await call(("try_config", {"headers": {"a": "1"}})))["probe"] is None


# --- rollback


async def test_everything_is_rolled_back_to_what_it_was_after_a_generation(runtime, config_manager, file):
    await started(config_manager, file, {"batch_size": 7}, rate=0.5)
    first = (await config())["generation"]
    await apply({"rate": 0.25, "headers": {"a": "1"}}, by="ada")
    second = (await config())["generation"]
    file.write(**QUICK, rate=0.125, endpoint="two")
    await in_force(rate=0.125, endpoint="two")
    await cast(("config_changed", "telemetry.x.batch_size", 7, 20))
    await in_force(batch_size=20)
    answer = await call(("rollback", second, "bob"))
    assert answer["outcome"] == "applied"
    found = await config()
    assert {key: found["config"][key] for key in ("rate", "endpoint", "batch_size", "headers")} == {
        "rate": 0.25,
        "endpoint": "one",
        "batch_size": 7,
        "headers": {"a": "1"},
    }
    assert (found["origins"]["rate"], found["origins"]["batch_size"]) == ("api by bob", "argument")
    entry = (await call(("get_history",)))[-1]
    assert (entry["origin"], entry["by"]) == ("rollback", "bob")
    await call(("rollback", first, "bob"))
    found = (await config())["config"]
    assert (found["rate"], found["headers"]) == (0.5, {})
    # What was taken back can be had again.
    await call(("rollback", second, "bob"))
    assert (await config())["config"]["rate"] == 0.25


async def test_before_it_began_a_section_had_no_state_to_go_back_to(runtime, config_manager, file):
    await started(config_manager, file, {"batch_size": 7}, rate=0.5)
    await apply({"rate": 0.25, "batch_size": 9})
    answer = await call(("rollback", 1, "bob"))
    assert (answer["outcome"], sorted(answer["changes"])) == ("applied", ["batch_size", "rate"])
    found = (await config())["config"]
    assert {key: found[key] for key in ("rate", "endpoint", "batch_size")} == {
        "rate": 0.5,
        "endpoint": "one",
        "batch_size": 7,
    }


@pytest.mark.parametrize("generation", [0, -1, 10**6])
async def test_a_generation_that_is_not_kept_is_refused(runtime, generation):
    module, _ = make_exporter()
    await start_exporter(module, START)
    await up()
    kind, text = await call(("rollback", generation, None))
    assert (kind, f"generation {generation} is not kept" in text) == ("error", True)


# --- files


async def test_an_edit_counts_within_a_second_or_so(runtime, config_manager, file):
    await started(config_manager, file, rate=0.5)
    file.path.write_text(file.path.read_text().replace("0.5", "0.25"))
    await in_force(rate=0.25)
    file.write(**QUICK, rate=0.125)
    await in_force(rate=0.125)


async def test_a_link_that_points_elsewhere_is_an_edit(runtime, config_manager, tmp_path):
    """As Kubernetes changes a mounted ConfigMap."""
    for name, rate in (("..1", 0.5), ("..2", 0.25)):
        (tmp_path / name).mkdir()
        File(tmp_path / name / "config.toml").write(**QUICK, rate=rate)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "config.toml"
    path.symlink_to("..data/config.toml")
    await config_manager(TomlSource(path), reload_interval=600)
    module, _ = make_exporter()
    await start_exporter(module, None)
    await up()
    await in_force(rate=0.5)
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    await in_force(rate=0.25)
    assert await origin() == f"file {path}"


async def test_a_message_has_the_file_read_now(runtime, config_manager, file, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.config.watching.INTERVAL", 600.0)
    await started(config_manager, file, rate=0.5, endpoint="two")
    assert await call(("reload",)) == {"changed": []}
    # Something is missing and there is no end of the line: whoever asks has finished writing all the same.
    file.path.write_text("[telemetry.x]\nrate = 0.25")
    answer = await call(("reload",))
    assert {"rate", "endpoint"} <= set(answer["changed"])
    found = await config()
    assert (found["config"]["rate"], found["config"]["endpoint"]) == (0.25, "one")


@pytest.mark.parametrize(
    ("damage", "key", "words"),
    [
        (lambda path: path.write_text("[telemetry.x]\nrate = = 1\n"), None, "is not valid TOML: "),
        (lambda path: path.write_text(""), None, "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), None, "is not UTF-8 text"),
        (lambda path: path.unlink(), None, "does not exist"),
        (lambda path: path.write_text("[telemetry.x]\nrate = -3\n"), "telemetry.x.rate", "is refused: "),
        (lambda path: path.write_text('[telemetry.x]\nrate = "${NO_X}"\n'), "telemetry.x.rate", "NO_X"),
    ],
    ids=["no TOML", "empty", "no text", "gone", "refused", "unset variable"],
)
async def test_a_message_to_reload_says_what_does_not_count_and_why(
    runtime, config_manager, file, damage, key, words
):
    await started(config_manager, file, rate=0.5)
    text = file.path.read_text()
    damage(file.path)
    for _ in range(2):
        [(name, why)] = (await call(("reload",)))["errors"].items()
        assert name == (key or str(file.path))
        assert why.startswith(name)
        assert words in why
        assert "in force" in why or "counts as giving its value before" in why
    file.path.write_text(text)
    assert "errors" not in await call(("reload",))
    assert (await config())["config"]["rate"] == 0.5


async def test_a_message_to_reload_names_what_is_not_known_as_the_log_does(
    runtime, config_manager, file, caplog
):
    await started(config_manager, file, rate=0.5)
    with file.path.open("a") as text:
        text.write("ratte = 1\n[telemetry.otle]\nx = 1\n")
    for _ in range(2):
        found = (await call(("reload",)))["errors"]
        assert found == {
            "telemetry.x.ratte": f"telemetry.x.ratte from {file.path} is not a known key; did you mean "
            "telemetry.x.rate? It is ignored.",
            "telemetry.otle": "The section [telemetry.otle] belongs to no exporter; did you mean "
            "telemetry.otel? It is ignored.",
        }
    assert found["telemetry.x.ratte"] in caplog.messages


@pytest.fixture
def sighup(monkeypatch):
    """The handlers of the application's that were called."""
    called = []
    sighup_.restore()
    before = signal.signal(signal.SIGHUP, lambda *_: called.append("application"))
    monkeypatch.setattr("otpylib_telemetry.config.watching.INTERVAL", 600.0)
    yield called
    sighup_.restore()
    signal.signal(signal.SIGHUP, before)


async def test_sighup_has_the_file_read_and_leaves_the_application_its_handler(
    runtime, config_manager, file, sighup
):
    await started(config_manager, file, rate=0.5, endpoint="two")
    file.path.write_text("[telemetry.x]\nrate = 0.25")
    os.kill(os.getpid(), signal.SIGHUP)
    await in_force(rate=0.25, endpoint="one")
    assert sighup == ["application"]
    file.path.write_text("[telemetry.x]\nrate = 0.125")
    os.kill(os.getpid(), signal.SIGHUP)
    await in_force(rate=0.125)


async def test_a_handler_on_the_event_loop_is_called_as_well(runtime, config_manager, file, sighup):
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, heard.set)
    await started(config_manager, file, rate=0.5)
    file.path.write_text("[telemetry.x]\nrate = 0.25\n")
    os.kill(os.getpid(), signal.SIGHUP)
    await heard.wait()
    await in_force(rate=0.25)
    loop.remove_signal_handler(signal.SIGHUP)


async def test_a_handler_that_comes_later_is_left_alone(runtime, config_manager, file, sighup):
    await started(config_manager, file, rate=0.5)
    signal.signal(signal.SIGHUP, lambda *_: sighup.append("later"))
    assert await call(("reload",)) == {"changed": []}
    os.kill(os.getpid(), signal.SIGHUP)
    assert sighup == ["later"]


async def test_without_a_file_the_signal_is_left_alone(runtime, sighup):
    module, _ = make_exporter()
    handler = signal.getsignal(signal.SIGHUP)
    await start_exporter(module, START)
    await up()
    assert signal.getsignal(signal.SIGHUP) is handler


async def test_otpylib_config_may_notice_an_edit_late(runtime, config_manager, file):
    file.write(**QUICK, rate=0.5)
    source = TomlSource(file.path)
    await config_manager(source, reload_interval=600)
    module, _ = make_exporter()
    await start_exporter(module, None)
    await up()
    for rate in (0.25, 0.125):
        file.write(**QUICK, rate=rate)
        await in_force(rate=rate)
    await apply({"rate": 0.75}, by="ada")
    await process.send(otpylib_config.CONFIG_MANAGER, RELOAD_TICK)
    await eventually(lambda: runner().configuration.observed.snapshot["rate"] == 0.125)
    await asyncio.sleep(0)
    assert (await config())["config"]["rate"] == 0.75
