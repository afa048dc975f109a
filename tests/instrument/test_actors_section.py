"""``[telemetry.instrument]``: the instrumentation of the actors, switched by configuration."""

import asyncio
import threading
import urllib.request

import pytest
from otpylib import gen_server
from otpylib.runtime.backends.asyncio_backend.process import ProcessMailbox
from otpylib_config import Config

import otpylib_telemetry
import otpylib_telemetry_prometheus
from otpylib_telemetry import TomlSource
from otpylib_telemetry.instrument import actors
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, rules
from otpylib_telemetry.primitives.fork import importing
from tests.supervision.test_supervision import tree
from tests.support.actors import server
from tests.support.chassis import up
from tests.support.runtime import in_process
from tests.support.waiting import eventually

BARE = ProcessMailbox.send


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    OtpylibInstrumentor().uninstrument()
    rules.put_in_force(rules.Rules())


async def test_it_takes_effect_beside_any_exporter_and_is_undone_while_running(
    runtime, config_manager, tmp_path
):
    path = tmp_path / "config.toml"
    path.write_text(
        '[telemetry.instrument]\nenabled = true\nexclude = "noise*"\ncasts = "LINK"\nrecorder = 0\n'
    )
    await config_manager(TomlSource(path))
    spec = otpylib_telemetry_prometheus.child_spec({"port": 0})
    await in_process(tree(spec).start_link)
    await eventually(lambda: ProcessMailbox.send is not BARE)
    assert rules.in_force.rules == rules.Rules(exclude=("noise*",), casts="link", recorder=0)
    await in_process(Config.put, "telemetry.instrument.enabled", False)
    await eventually(lambda: ProcessMailbox.send is BARE)
    await in_process(Config.put, "telemetry.instrument.enabled", True)
    await eventually(lambda: ProcessMailbox.send is not BARE)
    await runtime.shutdown()
    await eventually(lambda: ProcessMailbox.send is BARE)


async def test_the_loop_goes_on_while_another_thread_imports():
    imports, is_done = threading.Event(), threading.Event()

    def import_something_large():
        with importing():
            imports.set()
            is_done.wait(60)

    actors._instrumentation.cache_clear()
    thread = threading.Thread(target=import_something_large)
    thread.start()
    assert imports.wait(60)
    applied = asyncio.create_task(actors.apply(actors.InstrumentSettings(enabled=True)))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not applied.done()
    is_done.set()
    await applied
    assert ProcessMailbox.send is not BARE
    await actors.apply(actors.InstrumentSettings(enabled=False))
    assert ProcessMailbox.send is BARE
    thread.join()


async def test_what_the_application_switched_on_itself_is_left_alone(runtime, config_manager):
    OtpylibInstrumentor().instrument()
    await config_manager({"telemetry": {"instrument": {"recorder": 5}}})
    spec = otpylib_telemetry_prometheus.child_spec({"port": 0})
    await in_process(tree(spec).start_link)
    await eventually(lambda: runtime.whereis("telemetry_instrument") is not None)
    await runtime.shutdown()
    assert ProcessMailbox.send is not BARE


@pytest.mark.parametrize("suite", [False, True])
async def test_the_first_message_after_the_tree_is_up_is_seen(runtime, config_manager, suite):
    """The exporter's child spec, or the whole suite's, returns when the actors are instrumented."""
    await config_manager({"telemetry": {"instrument": {"enabled": True}, "prometheus": {"port": 0}}})
    spec = (otpylib_telemetry if suite else otpylib_telemetry_prometheus).child_spec()
    seen = []

    async def session():
        await tree(spec).start_link()
        await gen_server.start(server("Till"), None, "till")
        await gen_server.call("till", ("pay", 3), timeout=20)
        await Config.put("shop.key", 1)
        await up("prometheus_exporter")
        stats = await gen_server.call("prometheus_exporter", ("get_stats",), timeout=20)
        await gen_server.call("prometheus_exporter", ("flush", 20), timeout=30)
        seen.append(await asyncio.to_thread(page, f"http://127.0.0.1:{stats['port']}/metrics"))

    await in_process(session)
    found = [line for line in seen[0].splitlines() if line.startswith("otpylib_") and "_count{" in line]
    here = [line for line in found if "telemetry" not in line]
    labels = 'message="pay",module="Till",outcome="success",server="till"'
    assert f"otpylib_call_duration_seconds_count{{{labels}}} 1" in here
    # Neither otpylib-config nor telemetry's own processes are among them.
    for name in ("duration", "wait"):
        told = [line for line in here if line.startswith(f"otpylib_handle_{name}_seconds_count")]
        assert told == [f'otpylib_handle_{name}_seconds_count{{kind="call",{labels}}} 1']


def page(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()
