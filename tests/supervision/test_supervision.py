"""Supervision trees: ours, which restart whatever dies, and what otpylib's own does with the bare form."""

import asyncio
import itertools
import random
import re
from collections import deque

import pytest
from otpylib import process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime.atoms import DOWN, KILLED, SHUTDOWN

import otpylib_telemetry
import otpylib_telemetry_otel
import otpylib_telemetry_prometheus
from otpylib_telemetry import Collected, Exporter, exporter_child_spec
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.supervision import specs as specs_module
from otpylib_telemetry.supervision import suite
from otpylib_telemetry.supervision.supervisor import FIRST_PAUSE, FREE_RESTARTS, LONGEST_PAUSE, WINDOW, _pause
from otpylib_telemetry_otel import service
from tests.support.chassis import (
    NAME,
    QUICK,
    Venom,
    books,
    call,
    cast,
    crash,
    delivered,
    emit,
    hang,
    make_exporter,
    up,
)
from tests.support.runtime import MemorySource, in_process
from tests.support.waiting import eventually


async def _nothing(self, *args):
    """Do nothing."""


def tree(*specs, **options):
    """An application's own supervisor, of otpylib's kind."""

    async def init(self, arg):
        return (list(specs), supervisor.options(**{"max_restarts": 100, "max_seconds": 1, **options}))

    return OTPModule(
        "Application", (), {"init": init, "terminate": _nothing}, behavior=SUPERVISOR, version="1.0.0"
    )


def several(count):
    made = [make_exporter(f"x{n}_exporter", f"telemetry.x{n}") for n in range(count)]
    return [module for module, _ in made], [backend for _, backend in made]


async def start_wrapped(*modules):
    specs = [exporter_child_spec(module, QUICK) for module in modules]
    pid = await in_process(tree(*specs).start_link, None, "application")
    for module in modules:
        await up(module.registered_name)
    return pid


class Installed:
    """An entry point."""

    def __init__(self, module):
        self.module = module

    def load(self):
        if isinstance(self.module, Exception):
            raise self.module
        return self.module


def install(monkeypatch, **modules):
    found = {section: Installed(module) for section, module in modules.items()}
    monkeypatch.setattr(suite, "registered_exporters", lambda: found)


@pytest.mark.parametrize(
    ("name", "thing", "message"),
    [
        (
            "x0",
            Exporter,
            "Exporter is registered as 'x0' and is no exporter's process; register what exporter_",
        ),
        ("x1", "module", "reads the section telemetry.x0; register it as 'x0'"),
    ],
)
async def test_what_is_registered_wrongly_is_refused_and_says_what_would_be_right(
    runtime, monkeypatch, caplog, name, thing, message
):
    (module,), _ = several(1)
    install(monkeypatch, **{name: module if thing == "module" else thing})
    with pytest.raises(ValueError, match=re.escape(message)):
        otpylib_telemetry.child_spec({name: {}})
    await otpylib_telemetry.start_link()
    [line] = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert message in line
    assert line.startswith(f"The exporter for section telemetry.{name} cannot be used: ")


async def start_suite(monkeypatch, modules):
    sections = {f"x{n}": module for n, module in enumerate(modules)}
    install(monkeypatch, **sections)
    return await otpylib_telemetry.start_link(dict.fromkeys(sections, QUICK))


def alive(names):
    return all(process.whereis(name) is not None for name in names)


async def all_up(names):
    """All of them run, each exactly once."""
    await eventually(lambda: alive(names))
    for name in names:
        await up(name)


async def kill(name):
    await process.exit(process.whereis(name), KILLED)


async def shut_down(name):
    await process.exit(process.whereis(name), SHUTDOWN)


async def blow(name):
    await process.send(name, (Venom(), 1))


WAYS = [blow, kill, shut_down]


@pytest.mark.parametrize("form", ["wrapped", "suite"])
async def test_any_number_crash_in_any_order_at_once_and_are_the_ones_restarted(
    runtime, monkeypatch, form, capsys
):
    modules, backends = several(3)
    if form == "wrapped":
        await start_wrapped(*modules)
    else:
        await start_suite(monkeypatch, modules)
    names = [module.registered_name for module in modules]
    await all_up(names)
    dice = random.Random(5)
    emitted = 0
    lives = dict.fromkeys(names, 1)
    for _ in range(4):
        victims = dice.sample(names, dice.randrange(1, 4))
        before = {name: process.whereis(name) for name in names}
        emit(7, first=emitted)
        emitted += 7
        for victim in victims:
            lives[victim] += 1
            await dice.choice(WAYS)(victim)
        emit(7, first=emitted)
        emitted += 7
        await eventually(lambda b=before, v=victims: all(process.whereis(n) not in {b[n], None} for n in v))
        # A successor that is killed before it has reported itself counts as one that did not start.
        await eventually(lambda: {name: registry.find(name).lives for name in names} == lives)
        await all_up(victims)
        assert {name for name in names if process.whereis(name) == before[name]} == set(names) - set(victims)
    await all_up(names)
    assert {name: registry.find(name).lives for name in names} == lives
    for name, backend in zip(names, backends, strict=True):
        await delivered(backend, emitted, name)
        assert sorted(backend.numbers) == list(range(emitted))
        await eventually(lambda b=backend: b.open_now == 1)


async def test_a_supervised_exporter_killed_again_and_again_misses_nothing(runtime, capsys):
    module, backend = make_exporter()
    await start_wrapped(module)
    counter = itertools.count()
    for _ in range(FREE_RESTARTS + 2):
        await eventually(lambda: alive([NAME]))
        emit(3, first=next(counter) * 3)
        await kill(NAME)
        emit(3, first=next(counter) * 3)
        books()
    await all_up([NAME])
    total = next(counter) * 3
    await delivered(backend, total)
    assert sorted(backend.numbers) == list(range(total))
    assert NAME in table.current.table.handlers


async def test_open_spans_of_a_killed_exporter_are_not_given_up(runtime):
    given_up = []
    module, _ = make_exporter(
        give_up_held=lambda self, offset: given_up.append(1) or otpylib_telemetry.Collected()
    )
    await start_wrapped(module)
    old = process.whereis(NAME)
    await kill(NAME)
    await eventually(lambda: process.whereis(NAME) not in {old, None})
    await all_up([NAME])
    assert given_up == []


async def test_nothing_is_missed_while_a_restart_is_put_off(runtime, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.supervision.supervisor.FREE_RESTARTS", 0)
    monkeypatch.setattr("otpylib_telemetry.supervision.supervisor.FIRST_PAUSE", 1.0)
    given_up = []
    module, backend = make_exporter(give_up_held=lambda self, offset: given_up.append(1) or Collected())
    await start_wrapped(module)
    emit(5)
    await kill(NAME)
    await eventually(lambda: process.whereis(NAME) is None)
    emit(5, first=5)
    await all_up([NAME])
    await delivered(backend, 10)
    assert backend.numbers == list(range(10))
    assert given_up == []


def test_restarts_are_free_at_first_and_spaced_when_they_come_thick_and_fast():
    restarts = deque()
    pauses = [_pause(restarts, now=0.01 * n) for n in range(FREE_RESTARTS + 8)]
    assert pauses[:FREE_RESTARTS] == [0.0] * FREE_RESTARTS
    assert pauses[FREE_RESTARTS : FREE_RESTARTS + 3] == [FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LONGEST_PAUSE
    assert _pause(restarts, now=WINDOW + 10) == 0.0


async def test_an_exporter_that_crashes_without_end_does_not_take_the_tree_with_it(runtime, capsys):
    modules, _ = several(2)
    pid = await start_wrapped(*modules)
    for _ in range(8):
        await eventually(lambda: alive(["x0_exporter"]))
        await blow("x0_exporter")
    await all_up(["x0_exporter", "x1_exporter"])
    assert process.is_alive(pid)


@pytest.mark.parametrize("form", ["wrapped", "suite"])
async def test_a_supervisor_above_stops_everything_in_order_and_leaves_no_orphan(runtime, monkeypatch, form):
    modules, backends = several(2)
    if form == "wrapped":
        pid = await start_wrapped(*modules)
    else:
        install(monkeypatch, x0=modules[0], x1=modules[1])
        spec = otpylib_telemetry.child_spec({"x0": QUICK, "x1": QUICK})
        pid = await in_process(tree(spec).start_link, None, "application")
        await all_up(["x0_exporter", "x1_exporter"])
    emit(15)
    before = len(runtime.processes())
    assert before > 3
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: runtime.processes() == [])
    for backend in backends:
        assert sorted(backend.numbers) == list(range(15))
        assert backend.open_now == 0
    assert not table.current.table.handlers


@pytest.mark.parametrize("reason", [SHUTDOWN, KILLED, "any reason"])
async def test_a_supervisor_told_to_end_stops_its_exporters_first(runtime, reason):
    module, backend = make_exporter()
    await start_wrapped(module)
    emit(15)
    await process.exit(f"{NAME}_sup", reason)
    await eventually(lambda: process.whereis(NAME) is None and backend.open_now == 0)
    await eventually(lambda: process.whereis(f"{NAME}_sup") is None)
    assert len(backend.delivered) == 15
    assert books()["exported"] == 15


async def test_stopping_waits_for_the_work_of_one_that_has_just_crashed(runtime, capsys):
    module, backend = make_exporter()
    await start_wrapped(module)
    emit(5)
    await blow(NAME)
    await process.exit(f"{NAME}_sup", SHUTDOWN)
    await eventually(lambda: process.whereis(f"{NAME}_sup") is None)
    assert len(backend.delivered) == 5
    assert books()["exported"] == 5
    assert process.whereis(NAME) is None


async def test_a_hanging_backend_does_not_hold_up_the_end_of_the_tree(runtime):
    module, backend = make_exporter()
    backend.always = hang()
    spec = exporter_child_spec(module, {**QUICK, "shutdown_timeout": 0.2})
    pid = await in_process(tree(spec).start_link, None, "application")
    await up()
    emit(5)
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: runtime.processes() == [], timeout=60)
    assert books()["queued"] == 5


async def test_a_supervisor_survives_any_message(runtime):
    module, _ = make_exporter()
    await start_wrapped(module)
    sup = process.whereis(f"{NAME}_sup")
    for message in [
        None,
        (),
        ("a", "b"),
        (Venom(), 1, 2),
        (DOWN, 1, 2, 3),
        ("telemetry_restart", []),
        b"x",
    ]:
        await process.send(sup, message)
    await crash()
    await all_up([NAME])
    assert process.whereis(f"{NAME}_sup") == sup


async def test_two_supervisors_of_one_name_do_not_fight(runtime, caplog):
    module, _ = make_exporter()
    await start_wrapped(module)
    pid = process.whereis(NAME)
    other = await specs_module.ExporterSupervisor.start_link((module, QUICK), "other_sup")
    await eventually(lambda: "a process of that name is running" in caplog.text)
    await asyncio.sleep(0.05)
    assert process.whereis(NAME) == pid
    assert registry.find(NAME).lives == 1
    assert caplog.text.count("a process of that name is running") == 1
    await process.exit(other, SHUTDOWN)


async def test_the_suite_starts_what_is_set_and_nothing_else(runtime, monkeypatch, caplog):
    modules, backends = several(4)
    install(
        monkeypatch, **{f"x{n}": module for n, module in enumerate(modules)}, bad=ImportError("no such thing")
    )
    monkeypatch.setenv("TELEMETRY_X1_BATCH_SIZE", "7")
    await otpylib_telemetry.start_link({"x0": QUICK, "x3": {**QUICK, "enabled": False}})
    emit(5)
    assert process.whereis("telemetry_manager") is not None
    assert alive(["x0_exporter", "x1_exporter"])
    assert not alive(["x2_exporter"])
    assert not alive(["x3_exporter"])
    await delivered(backends[0], 5, "x0_exporter")
    assert caplog.text.count("no such thing") == 1


async def test_the_suite_starts_what_configuration_enables_later(runtime, monkeypatch, config_manager):
    monkeypatch.setattr(suite, "_LOOK_INTERVAL", 0.05)
    modules, _ = several(2)
    install(monkeypatch, x0=modules[0], x1=modules[1])
    await otpylib_telemetry.start_link()
    assert not alive(["x0_exporter"])
    source = MemorySource({"telemetry": {"x0": {"batch_size": 5}}})
    await config_manager(source)
    await all_up(["x0_exporter"])
    assert not alive(["x1_exporter"])
    source.values = {"telemetry": {"x0": {"batch_size": 5}, "x1": {"batch_size": 6}}}
    await all_up(["x1_exporter"])


async def test_the_suite_is_up_with_its_exporters_when_start_returns(runtime, monkeypatch, config_manager):
    modules, backends = several(1)
    install(monkeypatch, x0=modules[0])
    await config_manager({"telemetry": {"x0": {"flush_interval": 0.02, "event_patterns": ["shop.*"]}}})
    await otpylib_telemetry.start_link()
    emit(5)
    await delivered(backends[0], 5, "x0_exporter")


async def test_the_suite_refuses_a_section_nobody_registered_and_wrong_settings(monkeypatch):
    modules, _ = several(1)
    install(monkeypatch, x0=modules[0])
    with pytest.raises(ValueError, match="no exporter is registered for 'otle'; there is x0"):
        otpylib_telemetry.child_spec({"otle": {}})
    with pytest.raises(ValueError, match=r"'instrumnt'; there is x0; did you mean 'instrument'\? A further"):
        otpylib_telemetry.child_spec({"instrumnt": {}})
    for wrong in (3, 0, "otel", [], [("otel", {})]):
        with pytest.raises(
            ValueError, match=f"settings: a table of sections was expected, not {type(wrong).__name__}"
        ):
            otpylib_telemetry.child_spec(wrong)
    with pytest.raises(ValueError, match=r"telemetry\.x0\.batch_size"):
        otpylib_telemetry.child_spec({"x0": {"batch_size": 0}})


@pytest.mark.parametrize("wrong", [3, None, "otel", object(), dict])
async def test_what_is_no_exporter_is_refused_where_it_is_given_and_said(runtime, wrong, caplog):
    for name in (None, "audit"):
        with pytest.raises(
            TypeError, match="module: expected the GenServer class of an exporter or a service"
        ):
            otpylib_telemetry.exporter_child_spec(wrong, name=name)
        with pytest.raises(TypeError, match="module: expected"):
            await otpylib_telemetry.start_exporter(wrong, name=name)
    assert caplog.text.count("module: expected") == 4
    with pytest.raises(ValueError, match="TelemetryPoller is a service"):
        otpylib_telemetry.exporter_child_spec(otpylib_telemetry.TelemetryPoller, name="other")


async def test_the_suite_can_be_started_once(runtime, monkeypatch):
    install(monkeypatch)
    await otpylib_telemetry.start_link()
    with pytest.raises(RuntimeError, match="telemetry_sup cannot start"):
        await otpylib_telemetry.start_link()
    assert alive(["telemetry_sup", "telemetry_manager"])


async def test_starting_inside_a_process_links_and_ends_with_it(runtime, monkeypatch, capsys):
    install(monkeypatch)

    async def application():
        await otpylib_telemetry.start_link()
        raise OSError("the application crashed")

    pid = await process.spawn(application, mailbox=True)
    await eventually(lambda: not process.is_alive(pid))
    await eventually(lambda: runtime.processes() == [])
    assert not alive(["telemetry_sup"])


def bare(module):
    name = module.registered_name
    # Whoever is nobody's child any more exports what it has, however busy the machine is.
    return supervisor.child_spec(id=name, module=module, args={**QUICK, "shutdown_timeout": 30}, name=name)


async def watched_by(supervisor_pid, pid, runtime):
    """The supervisor's reference is made a moment after the process is up. A crash before is not heard of."""
    await eventually(lambda: supervisor_pid in runtime._processes[pid].monitored_by.values())


async def test_bare_a_single_child_is_restarted_after_a_crash(runtime, capsys):
    module, backend = make_exporter()
    pid = await in_process(tree(bare(module)).start_link, None, "application")
    await up()
    for round_ in range(3):
        old = process.whereis(NAME)
        await watched_by(pid, old, runtime)
        emit(5, first=round_ * 5)
        await blow(NAME)
        await eventually(lambda o=old: process.whereis(NAME) not in {o, None})
    await delivered(backend, 15)
    assert sorted(backend.numbers) == list(range(15))


async def test_bare_a_killed_child_is_not_restarted_and_exports_what_it_had(runtime):
    module, backend = make_exporter()
    await in_process(tree(bare(module)).start_link, None, "application")
    await up()
    emit(5)
    await kill(NAME)
    await eventually(lambda: backend.open_now == 0)
    assert len(backend.delivered) == 5
    assert process.whereis(NAME) is None


async def test_bare_two_children_the_second_crash_restarts_the_wrong_one(runtime, monkeypatch, capsys):
    """otpylib's supervisor mixes up monitor references; what is lost is the process, not its events."""
    monkeypatch.setattr("otpylib_telemetry.exporter.shutdown.SUCCESSION", 0.05)
    modules, backends = several(3)
    pid = await in_process(tree(*map(bare, modules)).start_link, None, "application")
    names = [module.registered_name for module in modules]
    await all_up(names)
    first, last = names[0], names[-1]
    old = process.whereis(first)
    await watched_by(pid, old, runtime)
    await blow(first)
    await eventually(lambda: process.whereis(first) not in {old, None})
    await all_up(names)
    middle = process.whereis(first)
    # The second of two references that are the same.
    await watched_by(pid, middle, runtime)
    emit(5)
    await blow(last)
    await eventually(lambda: process.whereis(first) not in {middle, None})
    assert process.whereis(last) is None, "otpylib is repaired: the warning about the bare form can go"
    await eventually(lambda: not process.is_alive(middle), message="the duplicate has ended")
    await eventually(lambda: backends[-1].open_now == 0)
    assert len(backends[-1].delivered) == 5
    await delivered(backends[0], 5, first)


async def test_bare_a_wrong_argument_leaves_the_tree_standing(runtime):
    module, _ = make_exporter()
    spec = supervisor.child_spec(id=NAME, module=module, args={"batch_size": "many"}, name=NAME)
    await in_process(tree(spec).start_link, None, "application")
    await up(state="idle")
    assert "batch_size" in (await call(("get_stats",)))["reason"]
    await cast(("flush_batch",))
    await call(("drain", 0.1))


# --- what is refused is said before it is raised


REFUSED = {
    "exporter": lambda: otpylib_telemetry_otel.child_spec({"endpont": "http://localhost:4317"}),
    "instance": lambda: otpylib_telemetry_otel.child_spec({"endpont": "x"}, name="audit"),
    "name": lambda: otpylib_telemetry_otel.child_spec(name="no name"),
    "no table": lambda: otpylib_telemetry_prometheus.child_spec(["port"]),
    "suite": lambda: otpylib_telemetry.child_spec({"otel": {"endpont": "x"}}),
    "suite, kind": lambda: otpylib_telemetry.child_spec({"audit": {"kind": "otle"}}),
    "service": lambda: service.child_spec({"endpont": "x"}),
    "service without exporter": lambda: service.child_spec({"endpoint": "x"}, with_exporter=False),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_is_refused_is_in_the_log_before_it_is_raised(refused, caplog):
    with pytest.raises(ValueError, match=r".") as raised:
        REFUSED[refused]()
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("ERROR", str(raised.value))


async def test_a_wrong_argument_in_the_init_of_a_supervisor_is_told(runtime, caplog):
    class Wrong(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
        async def init(self, _):
            return [otpylib_telemetry_otel.child_spec({"endpont": "x"})], supervisor.options()

        async def terminate(self, _reason, _state):
            pass

    async def application():
        await supervisor.start_link(Wrong, name="wrong_sup")

    await process.spawn(application)
    said = "telemetry.otel.endpont from the start argument is not a known key"
    await eventually(lambda: said in caplog.text)
