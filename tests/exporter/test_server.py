"""The exporter's process: messages of every kind, start arguments of every kind."""

import asyncio
import time
import types

import pytest
from otpylib import atom, gen_server, process
from otpylib.runtime.atoms import DOWN

from otpylib_telemetry import ExporterSettings, exporter_child_spec, exporter_module, otp, start_exporter
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.exporter.base import Exporter
from otpylib_telemetry.exporter.collected import Collected
from tests.support.absurd import Malicious, MaliciousDict, MaliciousMapping, MaliciousStr
from tests.support.chassis import (
    NAME,
    QUICK,
    SECTION,
    Venom,
    books,
    call,
    cast,
    crash,
    delivered,
    emit,
    mailbox_empty,
    make_exporter,
    runner,
    start,
    stats,
    up,
)
from tests.support.waiting import eventually


class Spiteful(dict):
    def keys(self):
        raise RuntimeError("no keys")

    def __iter__(self):
        raise RuntimeError("no items")

    def items(self):
        raise RuntimeError("no items")

    def __bool__(self):
        raise RuntimeError("neither true nor false")


class Spelled(str):
    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("cannot be compared")

    __hash__ = str.__hash__


def repr_of_type(value):
    return type(value).__name__


ABSURD = [
    None,
    0,
    "telemetry",
    b"telemetry",
    (),
    ("telemetry",),
    ("telemetry", "name"),
    ("telemetry", 1, {}, {}),
    ("telemetry", "name", {}, {}, {}),
    ("config_changed",),
    ("config_changed", 1, 2, 3),
    ("config_changed", "telemetry.other.key", 1, 2),
    ("config_changed", "telemetry.x", 1, 2),
    ("config_changed", Spelled("telemetry.x"), 1, 2),
    (Spelled("telemetry"), "n", {}, {}),
    ("flush_batch", 1),
    ["get_stats"],
    {"get_stats": 1},
    object(),
    (Venom(), 1, 2),
    (lambda: None,),
    types.SimpleNamespace(x=1),
    ValueError("an exception"),
    float("nan"),
]


@pytest.mark.parametrize("message", ABSURD, ids=lambda message: type(message).__name__)
async def test_unknown_casts_are_counted_and_ignored(runtime, message):
    module, _ = make_exporter()
    pid = await start(module)
    await process.send(NAME, gen_server.core._CastMessage(payload=message))
    await mailbox_empty()
    assert process.is_alive(pid)
    assert stats()["unknown_messages"] == 1
    assert books()["accepted"] == 0


@pytest.mark.parametrize("message", ABSURD, ids=lambda message: type(message).__name__)
async def test_unknown_infos_are_counted_and_ignored(runtime, message):
    if type(message) is tuple and len(message) == 2:
        message = (*message, "otpylib compares the first of two itself")
    module, _ = make_exporter()
    pid = await start(module)
    await process.send(NAME, message)
    await mailbox_empty()
    assert process.is_alive(pid)
    assert stats()["unknown_messages"] == 1


@pytest.mark.parametrize("message", ABSURD, ids=lambda message: type(message).__name__)
async def test_unknown_calls_are_answered_and_counted(runtime, message):
    module, _ = make_exporter()
    pid = await start(module)
    assert await call(message) == ("error", "unknown request")
    assert process.is_alive(pid)
    assert stats()["unknown_messages"] == 1


async def test_a_message_that_cannot_be_compared_crashes_the_server_for_real(runtime):
    module, _ = make_exporter()
    pid = await start(module)
    await crash()
    assert not process.is_alive(pid)


async def test_late_replies_and_down_messages_are_ignored(runtime):
    module, _ = make_exporter()
    await start(module)
    await process.send(NAME, ("call_4_abc", "slow-reply"))
    await process.send(NAME, (DOWN, "#Ref<1>", process.whereis(NAME), "gone"))
    await mailbox_empty()
    assert stats()["unknown_messages"] == 2


async def test_an_event_by_cast_is_taken_as_if_it_had_been_emitted(runtime):
    module, backend = make_exporter()
    await start(module)
    await cast(("telemetry", "shop.sale", {"n": 1}, {"who": "me"}))
    await cast(("telemetry", "other.event", {"n": 2}, {}))
    await delivered(backend, 1)
    assert backend.delivered[0][:3] == ("shop.sale", {"n": 1}, {"who": "me"})


class Quitting(dict):
    def keys(self):
        raise SystemExit("absurd")

    __iter__ = __bool__ = items = keys


@pytest.mark.parametrize(
    "details", [None, 5, "text", [("n", 1)], Spiteful(a=1), Quitting(a=1), object(), {1: 2}], ids=repr_of_type
)
async def test_an_event_by_cast_may_carry_anything(runtime, details):
    module, backend = make_exporter()
    await start(module)
    await process.send(
        NAME, gen_server.core._CastMessage(payload=("telemetry", "shop.sale", details, details))
    )
    await delivered(backend, 1)
    assert type(backend.delivered[0].metadata) is dict


async def test_get_stats_has_the_ledger_and_what_a_person_asks_for(runtime):
    module, _ = make_exporter(stats=lambda self: {"port": 9464})
    await start(module)
    answer = await call(("get_stats",))
    ledger = {
        "accepted",
        "exported",
        "rejected",
        "rejected_for",
        "sampled_out",
        "dropped",
        "queued",
        "in_flight",
    }
    sender = {
        *("breaker", "breaker_failures", "breaker_transitions"),
        *("batches", "export_failures", "lanes", "sent"),
    }
    queue = {"queue_depth", "queue_limit", "held", "wakeups"}
    person = {
        "name",
        "section",
        "state",
        "reason",
        "uptime",
        "lives",
        "unknown_messages",
        "config_generation",
        "config_problems",
    }
    summary = {"events_processed", "events_failed", "events_exported"}
    expected = ledger | summary | sender | queue | person | {"port"}
    assert set(answer) == expected
    assert (answer["state"], answer["reason"], answer["breaker"]) == ("running", None, "closed")
    assert answer["uptime"] >= 0


async def test_get_config_shows_values_origins_and_no_secrets(runtime, monkeypatch):
    monkeypatch.setenv("TELEMETRY_X_RATE", "0.5")
    module, _ = make_exporter()
    await start(module, api_key="hunter2")
    answer = await call(("get_config",))
    assert set(answer) == {"section", "generation", "config", "wished", "origins", "problems", "files"}
    assert answer["config"]["rate"] == 0.5
    assert answer["origins"]["rate"] == "environment TELEMETRY_X_RATE"
    assert answer["origins"]["batch_size"] == "argument"
    assert answer["origins"]["queue_limit"] == "default"
    assert "hunter2" not in repr(answer)
    assert "hunter2" not in repr(await call(("get_stats",)))


async def test_calls_an_exporter_knows_see_every_event_emitted_before(runtime):
    seen = []
    module, _ = make_exporter(
        collect=lambda self, events, offset: seen.extend(events) or _exported(len(events)),
        answer=lambda self, request: len(seen) if request == ("how_many",) else _unknown(),
    )
    await start(module, flush_interval=60, batch_size=10_000)
    emit(350)
    assert await call(("how_many",)) == 350
    assert await call(("how_few",)) == ("error", "unknown request")
    assert stats()["unknown_messages"] == 1


def _exported(count):
    return Collected(exported=count)


def _unknown():
    raise LookupError("no such request")


async def test_an_answer_that_raises_is_an_error_reply(runtime):
    def answer(self, request):
        raise ZeroDivisionError("oops")

    module, _ = make_exporter(answer=answer)
    pid = await start(module)
    assert await call(("whatever",)) == ("error", "ZeroDivisionError: oops")
    assert process.is_alive(pid)


async def test_noticing_that_raises_does_not_cost_the_process(runtime):
    def noticed(self, path, old, new):
        raise ZeroDivisionError("oops")

    module, _ = make_exporter(noticed=noticed)
    pid = await start(module)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 2.0))
    await mailbox_empty()
    assert (await call(("get_config",)))["config"]["rate"] == 2.0
    assert process.is_alive(pid)


WRONG = [
    ({"batch_size": "many"}, "telemetry.x.batch_size"),
    ({"btch_size": 5}, "did you mean telemetry.x.batch_size"),
    ({"enabled": "perhaps", "rate": -1}, "telemetry.x.rate"),
    ("a string", "expected, not str"),
    (5, "expected, not int"),
    ([("batch_size", 5)], "expected, not list"),
]


@pytest.mark.parametrize(("argument", "said"), WRONG)
async def test_a_wrong_start_argument_is_refused_where_it_is_given(runtime, argument, said):
    module, _ = make_exporter()
    with pytest.raises(ValueError, match=r"telemetry\.x") as spec:
        exporter_child_spec(module, argument)
    assert said in str(spec.value)
    with pytest.raises(ValueError, match=r"telemetry\.x") as started:
        await start_exporter(module, argument)
    assert str(started.value) == str(spec.value)
    assert registry.find(NAME) is None


@pytest.mark.parametrize("argument", [*(wrong for wrong, _ in WRONG), Spiteful(a=1), object()])
async def test_one_that_reaches_init_leaves_the_exporter_up_and_idle_with_the_reason(runtime, argument):
    module, backend = make_exporter()
    await otp.start_server(module, argument, NAME, link=False)
    await up(state="idle")
    emit(5)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 2.0))
    answer = await call(("get_stats",))
    assert answer["state"] == "idle"
    assert answer["reason"]
    assert "\n\n" not in answer["reason"]
    assert answer["accepted"] == 0
    assert backend.calls == []
    await call(("drain", 0.5))


async def test_a_wrong_argument_that_reaches_init_is_said_once_per_name(runtime, caplog):
    module, _ = make_exporter()
    for _ in range(3):
        await otp.start_server(module, {"btch_size": 5}, NAME, link=False)
        await up(state="idle")
        await crash()
    said = [record.getMessage() for record in caplog.records if "btch_size" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith(f"{NAME} is idle: ")
    assert "did you mean telemetry.x.batch_size" in said[0]


async def test_a_secret_in_a_wrong_argument_is_shown_nowhere(runtime, caplog):
    module, _ = make_exporter()
    wrong = {"api_key": ["hunter2"]}
    with pytest.raises(ValueError, match="api_key") as refused:
        exporter_child_spec(module, wrong)
    assert "hunter2" not in str(refused.value)
    await otp.start_server(module, wrong, NAME, link=False)
    await up(state="idle")
    assert "hunter2" not in repr(await call(("get_stats",))) + caplog.text


async def test_a_process_registered_under_an_atom_works_for_that_text(runtime):
    module, backend = make_exporter()
    name = atom.ensure("atomic_exporter")
    await otp.start_server(module, QUICK, name, link=False)
    await up("atomic_exporter")
    emit(3)
    await delivered(backend, 3, "atomic_exporter")


async def test_another_exporter_under_a_used_name_does_not_inherit_the_configuration(runtime):
    module, _ = make_exporter()
    await start(module)
    await cast(("config_changed", "telemetry.x.rate", 1.0, 2.0))
    await mailbox_empty()
    await crash()

    class Plain(Exporter[ExporterSettings]):
        async def export(self, batch):
            """Take it."""

    other = exporter_module("Plain", Plain, name=NAME, section="telemetry.plain", module=__name__)
    await start_exporter(other, QUICK)
    await up()
    answer = await call(("get_config",))
    assert answer["section"] == "telemetry.plain"
    assert "rate" not in answer["config"]


async def test_init_does_not_wait_for_open_nor_for_the_backend(runtime):
    module, backend = make_exporter()
    backend.opening.append(asyncio.get_running_loop().create_future())
    await start_exporter(module, QUICK)
    assert stats()["state"] == "starting"
    await call(("drain", 0.1))


async def test_an_idle_exporter_wakes_up_once_a_second_at_most(runtime):
    module, _ = make_exporter()
    await start(module, flush_interval=60)
    server = runner()
    ticks = 0
    original = server.tick

    def count():
        nonlocal ticks
        ticks += 1
        original()

    server.tick = count
    began = time.monotonic()
    await asyncio.sleep(0.3)
    assert ticks <= 1 + (time.monotonic() - began)


async def test_flush_answers_while_the_mailbox_goes_on(runtime):
    module, backend = make_exporter()
    gate = asyncio.get_running_loop().create_future()
    backend.script.append(gate)
    await start(module, flush_interval=60)
    emit(3)
    flushing = asyncio.ensure_future(call(("flush", 60.0)))
    await eventually(lambda: books()["in_flight"] == 3)
    await mailbox_empty()
    assert not flushing.done()
    gate.set_result(None)
    assert await flushing == {"exported": 3, "left": 0, "reason": None}


# gen_server.cast prints what it is given, so that these must at least be printable.
class Absurd(Malicious):
    def __repr__(self):
        return "absurd"


class AbsurdStr(MaliciousStr):
    __slots__ = ()
    __repr__ = Absurd.__repr__


class _EvilPath(str):
    __slots__ = ()

    def startswith(self, *_args):
        raise RuntimeError("absurd")

    __getitem__ = startswith


@pytest.mark.parametrize(
    ("path", "new"),
    [
        (lambda: _EvilPath(f"{SECTION}.rate"), lambda: 5),
        (lambda: AbsurdStr(f"{SECTION}.rate"), lambda: 5),
        (Absurd, lambda: 5),
        (lambda: Absurd(SystemExit), lambda: 5),
        (lambda: SECTION, MaliciousMapping),
        (lambda: SECTION, lambda: MaliciousDict(a=1)),
        (lambda: SECTION, lambda: Absurd(SystemExit)),
        (lambda: SECTION, lambda: {5: 1}),
        (lambda: f"{SECTION}.headers", MaliciousMapping),
        (lambda: f"{SECTION}.headers", lambda: MaliciousDict(a=1)),
        (lambda: f"{SECTION}.headers", lambda: {"a": AbsurdStr("x")}),
        (lambda: f"{SECTION}.headers.a", Absurd),
        (lambda: f"{SECTION}.rate", Absurd),
        (lambda: f"{SECTION}.rate", lambda: Absurd(SystemExit)),
        (lambda: f"{SECTION}.endpoint", lambda: AbsurdStr("x")),
    ],
)
async def test_no_change_by_cast_costs_the_process_whatever_it_is_made_of(runtime, path, new, caplog):
    module, _ = make_exporter()
    pid = await start(module)
    await cast(("config_changed", path(), None, new()))
    await mailbox_empty()
    assert otp.whereis(NAME) == pid
    await cast(("config_changed", f"{SECTION}.rate", None, 7))
    await eventually(lambda: runner().configuration.settings.rate == 7)
    assert otp.whereis(NAME) == pid
    assert (await call(("get_config",)))["config"]["rate"] == 7


async def test_a_call_to_an_exporter_that_is_starting_is_answered_once_it_is_up(runtime, config_manager):
    module, _ = make_exporter(answer=_answer_ping)
    await config_manager({"telemetry": {"x": {"rate": 5.0}}})
    await start_exporter(module, QUICK)
    assert await call(("ping",)) == ("pong", 5.0)
    assert stats()["unknown_messages"] == 0


def _answer_ping(self, request):
    if request == ("ping",):
        return ("pong", self.settings.rate)
    raise LookupError(request)


@pytest.mark.parametrize(
    ("settings", "overrides", "said"),
    [
        ({"enabled": False}, {}, "x_exporter is disabled: enabled is false"),
        ({}, {"idle_reason": lambda self: "no endpoint is set"}, "x_exporter is idle: no endpoint is set"),
    ],
)
async def test_a_call_only_the_exporter_knows_says_why_there_is_none(runtime, settings, overrides, said):
    module, _ = make_exporter(answer=_answer_ping, **overrides)
    await start_exporter(module, {**QUICK, **settings})
    assert await call(("ping",)) == ("error", said)
    assert stats()["unknown_messages"] == 0
    await call(("drain", 1.0))
    assert await call(("ping",)) == ("error", "x_exporter is drained: it was drained")
