"""What supervisors do is told of: restarts, those that fail, giving up, children that come and go."""

import pytest
from otpylib import atom, dynamic_supervisor, gen_server, process, supervisor
from otpylib.module import DYNAMIC_SUPERVISOR, SUPERVISOR
from otpylib.runtime.atoms import ONE_FOR_ALL, ONE_FOR_ONE, REST_FOR_ONE, TEMPORARY

from otpylib_telemetry import span
from otpylib_telemetry.instrument.otpylib.rules import Rules, put_in_force
from tests.support.actors import Heard, server, supervising
from tests.support.runtime import in_process

SUPERVISION = "otpylib.supervisor.*"


async def crashing(message, _state):
    raise ValueError(message)


def workers(*names, **more):
    return [
        {"id": name, "module": server("Worker", on_cast=crashing), "name": name, **more} for name in names
    ]


async def running(heard, kind, children, **options):
    """Start a supervisor in a process of its own; return a way to crash a child and wait for a new one."""
    module = supervisor if kind == SUPERVISOR else dynamic_supervisor
    await in_process(lambda: module.core.start_link(supervising(kind, children, **options), None, "shop"))

    async def crash(name):
        # Its new process is there before the supervisor watches it.
        before = len(heard.of("otpylib.supervisor.restarted", child=name))
        await gen_server.cast(name, "boom")
        await heard.wait_for("otpylib.supervisor.restarted", before + 1, child=name)

    return crash


@pytest.mark.parametrize("kind", [SUPERVISOR, DYNAMIC_SUPERVISOR])
async def test_restarts_are_told_of_with_what_is_left_and_then_giving_up(instrumented, kind):
    heard = Heard("otpylib.*", "asking.*")
    crash = await running(heard, kind, workers("till"), max_restarts=2, max_seconds=600)
    for left in (1, 0):
        with span("asking"):
            await crash("till")
        told = await heard.wait_for("otpylib.supervisor.restarted", 2 - left)
        told = told[-1] if isinstance(told, list) else told
        assert (told["supervisor"], told["child"], told["module"]) == ("shop", "till", "Worker")
        assert (told["reason"], told["strategy"]) == ("ValueError", "one_for_one")
        assert (told["count"], told["restarts"], told["restarts_left"]) == (1, 2 - left, left)
    assert not heard.of("otpylib.supervisor.gave_up")
    await gen_server.cast("till", "boom")
    told = await heard.wait_for("otpylib.supervisor.gave_up")
    assert (told["supervisor"], told["child"], told["reason"]) == ("shop", "till", "ValueError")
    assert (told["count"], told["restarts"], told["restarts_left"]) == (1, 2, 0)
    await heard.wait_for("otpylib.process.exited", server="shop")
    assert len(heard.of("otpylib.supervisor.restarted")) == 2
    assert len(heard.of("otpylib.process.crashed", server="till", reason="ValueError")) == 3


@pytest.mark.parametrize("kind", [SUPERVISOR, DYNAMIC_SUPERVISOR])
@pytest.mark.parametrize(
    ("strategy", "restarted"),
    [(ONE_FOR_ONE, ["b"]), (ONE_FOR_ALL, ["a", "b", "c"]), (REST_FOR_ONE, ["b", "c"])],
)
async def test_every_child_that_is_started_again_is_told_of(instrumented, kind, strategy, restarted):
    heard = Heard(SUPERVISION)
    crash = await running(
        heard, kind, workers("a", "b", "c"), strategy=strategy, max_restarts=9, max_seconds=600
    )
    await crash("b")
    told = await heard.wait_for("otpylib.supervisor.restarted", len(restarted))
    told = told if isinstance(told, list) else [told]
    assert [each["child"] for each in told] == restarted
    assert {each["strategy"] for each in told} == {strategy.name}
    # A static supervisor counts every child, a dynamic one how often the one that ended has done so.
    lefts = [9 - number for number in range(1, len(restarted) + 1)] if kind == SUPERVISOR else [8] * len(told)
    assert [each["restarts_left"] for each in told] == lefts


@pytest.mark.parametrize("kind", [SUPERVISOR, DYNAMIC_SUPERVISOR])
async def test_a_restart_that_fails_is_told_of(instrumented, kind):
    """The child stays dead for ever, and otpylib says nothing."""
    heard = Heard("otpylib.*")
    starts = []

    async def init(_argument):
        starts.append(1)
        if len(starts) > 1:
            raise OSError("the disk is full")

    module = server("Worker", on_init=init, on_cast=crashing)
    crash = [{"id": "till", "module": module, "name": "till"}]
    await running(heard, kind, crash, max_restarts=3, max_seconds=600)
    await gen_server.cast("till", "boom")
    told = await heard.wait_for("otpylib.supervisor.restart_failed")
    assert (told["child"], told["reason"], told["restarts_left"]) == ("till", "ValueError", 2)
    assert told["error_type"] == "RuntimeError"
    assert "the disk is full" in told["error"]
    assert not heard.of("otpylib.supervisor.restarted")
    reasons = [each["reason"] for each in heard.of("otpylib.process.crashed", server="till")]
    assert reasons == ["ValueError", "OSError"]
    if kind == DYNAMIC_SUPERVISOR:
        # It ends because of that.
        await heard.wait_for("otpylib.supervisor.gave_up")


async def test_dynamic_children_that_come_and_go_are_told_of(instrumented):
    heard = Heard(SUPERVISION)
    await running(heard, DYNAMIC_SUPERVISOR, workers("fixed"))
    core = dynamic_supervisor.core
    spec = core.child_spec(**workers("extra")[0])
    brief = core.child_spec(**workers("brief", restart=TEMPORARY)[0])
    shop = process.whereis("shop")
    assert (await in_process(core.start_child, shop, spec))[0] == atom.ensure("ok")
    assert (await in_process(core.start_child, shop, spec))[0] == atom.ensure("error")
    assert (await in_process(core.start_child, shop, brief))[0] == atom.ensure("ok")
    await in_process(core.terminate_child, shop, "extra")
    await gen_server.cast("brief", "boom")
    stopped = await heard.wait_for("otpylib.supervisor.child_stopped", 2)
    assert [each["child"] for each in heard.of("otpylib.supervisor.child_started")] == ["extra", "brief"]
    assert [(each["child"], each["reason"]) for each in stopped] == [
        ("extra", "shutdown"),
        ("brief", "ValueError"),
    ]
    assert not heard.of("otpylib.supervisor.restarted")


async def test_a_restart_belongs_to_the_trace_in_which_the_child_has_crashed(instrumented):
    heard = Heard("asking.*", "starting.*", "otpylib.*")

    async def init(_argument):
        with span("starting"):
            pass

    children = workers("till")
    children[0]["module"] = server("Worker", on_cast=crashing, on_init=init)
    crash = await running(heard, SUPERVISOR, children)
    with span("asking"):
        await crash("till")
    asking = heard.one("asking.success")
    started = (await heard.wait_for("starting.success", 2))[-1]
    assert started["trace_id"] == asking["trace_id"]


@pytest.mark.parametrize("rules", [Rules(include=("other",)), Rules(exclude=("till", "Shop", "shop"))])
async def test_no_filter_hides_a_restart(instrumented, rules):
    heard = Heard(SUPERVISION, "starting.*")

    async def init(_argument):
        with span("starting"):
            pass

    children = workers("till")
    children[0]["module"] = server("Worker", on_cast=crashing, on_init=init)
    await running(heard, SUPERVISOR, children)
    put_in_force(rules)
    await gen_server.cast("till", "boom")
    await heard.wait_for("starting.success", 2)
    await heard.wait_for("otpylib.supervisor.restarted", child="till")
