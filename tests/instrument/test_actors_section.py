"""``[telemetry.instrument]``: the instrumentation of the actors, switched by configuration."""

import pytest
from otpylib.runtime.backends.asyncio_backend.process import ProcessMailbox
from otpylib_config import Config

import otpylib_telemetry_prometheus
from otpylib_telemetry import TomlSource
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor, rules
from tests.supervision.test_supervision import tree
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


async def test_what_the_application_switched_on_itself_is_left_alone(runtime, config_manager):
    OtpylibInstrumentor().instrument()
    await config_manager({"telemetry": {"instrument": {"recorder": 5}}})
    spec = otpylib_telemetry_prometheus.child_spec({"port": 0})
    await in_process(tree(spec).start_link)
    await eventually(lambda: runtime.whereis("telemetry_instrument") is not None)
    await runtime.shutdown()
    assert ProcessMailbox.send is not BARE
