"""The service through its life: before the exporter, after a crash, supervised, ended."""

import asyncio

import pytest
from opentelemetry import trace
from otpylib import process, supervisor
from otpylib.module import SUPERVISOR, OTPModule
from otpylib.runtime.atoms import KILLED, SHUTDOWN

from otpylib_telemetry import exporter_module, otp, span, start_exporter
from otpylib_telemetry.tracing import bridge
from otpylib_telemetry_mock.otlp_receiver import HttpStatus
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_otel.api.forwarding import MAX_WAITING, SpanForwarder
from otpylib_telemetry_otel.backend import OtelBackend
from otpylib_telemetry_otel.service import SERVICE, TelemetryService, child_spec, start_telemetry_service
from otpylib_telemetry_otel.traces import api_spans
from tests.support.chassis import cast, collect_events, crash, up
from tests.support.ledger import quiet_stats, stats_of
from tests.support.runtime import in_process
from tests.support.telemetry_service import (
    EXPORTER,
    arrived,
    exporters_view,
    outgoing,
    run,
    settings,
    stats,
    stop,
    tracer,
)
from tests.support.waiting import eventually


async def test_it_may_be_up_before_the_exporter(runtime, http_receiver):
    await start_telemetry_service()
    for number in range(MAX_WAITING + 3):
        with tracer().start_as_current_span(f"early {number}"):
            pass
    assert await exporters_view() == {
        "handed_over": 0,
        "waiting": MAX_WAITING,
        "dropped": {"no_exporter": 3},
    }
    await start_otel_exporter(settings(http_receiver, event_patterns=["shop.*"], batch_size=1000))
    await eventually(lambda: len(http_receiver.spans) == MAX_WAITING)
    assert http_receiver.spans[0].name == "early 0"
    assert (await exporters_view())["handed_over"] == MAX_WAITING
    await stop()


async def test_it_says_once_that_no_exporter_comes(runtime, caplog, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry_otel.installation._PATIENCE", 0.0)
    await start_telemetry_service({"exporters": ["nobody"]})
    await eventually(lambda: caplog.records)
    await asyncio.sleep(0.6)
    (told,) = [record.getMessage() for record in caplog.records]
    assert "no exporter is up under the name nobody" in told
    await stop()


async def test_uninstalled_and_installed_again(receiver):
    with tracer().start_as_current_span("first"):
        pass
    across = tracer().start_span("across")
    await stop()
    across.end()
    with tracer().start_as_current_span("meanwhile") as made:
        assert not made.is_recording()
    with span("shop.meanwhile"):
        assert outgoing() is None
    await start_telemetry_service()
    with tracer().start_as_current_span("again"):
        pass
    await arrived(receiver, "first", "shop.meanwhile", "again")
    assert {each.name for each in receiver.spans} == {"first", "shop.meanwhile", "again"}
    assert api_spans._open == {}
    assert (await stats())["provider"] == "otpylib-telemetry"


async def test_a_tracer_from_before_the_service_works_with_it(runtime, http_receiver):
    script = """
        early = trace.get_tracer("early")
        await start_otel_exporter(settings)
        with early.start_as_current_span("too early"): pass
        await start_telemetry_service()
        with early.start_as_current_span("in time"): pass
        await flush()
    """
    run(script, http_receiver)
    assert [each.name for each in http_receiver.spans] == ["in time"]


async def test_a_crash_of_the_service_costs_no_span(receiver):
    open_through_it = tracer().start_span("open")
    await crash(SERVICE)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await start_telemetry_service()
    open_through_it.end()
    with tracer().start_as_current_span("after"):
        pass
    await arrived(receiver, "open", "meanwhile", "after")
    await asyncio.sleep(1.1)
    with tracer().start_as_current_span("later"):
        pass
    await arrived(receiver, "later")


async def test_a_crash_costs_neither_what_waits_nor_the_counts(runtime, http_receiver):
    await start_telemetry_service()
    with tracer().start_as_current_span("before"):
        pass
    await crash(SERVICE)
    await start_telemetry_service()
    with tracer().start_as_current_span("after"):
        pass
    assert (await exporters_view())["waiting"] == 2
    await start_otel_exporter(settings(http_receiver))
    await arrived(http_receiver, "before", "after")
    assert [each.name for each in http_receiver.spans] == ["before", "after"]
    await crash(SERVICE)
    await start_telemetry_service()
    assert (await exporters_view())["handed_over"] == 2
    await stop()


async def test_what_reaches_a_former_life_too_late_goes_to_its_successor(runtime):
    loop = asyncio.get_running_loop()
    former, successor = SpanForwarder(["nobody", "other"], loop), SpanForwarder(["nobody"], loop)
    successor.take_over(former)
    former.give("span")
    assert successor.targets[0].waiting == 1
    # The successor does not serve the other one: what comes for it still has a place, and is counted later.
    assert [target.waiting for target in former.targets] == [0, 1]
    former.give_up()
    assert former.targets[1].dropped == {"no_exporter": 1}


async def test_a_crash_that_nobody_makes_good_takes_it_down(receiver):
    await crash(SERVICE)
    assert bridge.installed is not None
    await eventually(lambda: bridge.installed is None)
    with tracer().start_as_current_span("too late") as made:
        assert not made.is_recording()


async def test_a_crash_of_the_exporter_costs_no_span(receiver):
    with tracer().start_as_current_span("before"):
        pass
    await crash(EXPORTER)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await start_otel_exporter(settings(receiver))
    with tracer().start_as_current_span("after"):
        pass
    await arrived(receiver, "before", "meanwhile", "after")


async def test_a_change_of_endpoint_and_of_sampling_holds_for_the_api(receiver, grpc_receiver):
    with tracer().start_as_current_span("first"):
        pass
    await arrived(receiver, "first")
    in_force = collect_events("telemetry.config.applied")
    changes = {"endpoint": grpc_receiver.endpoint, "protocol": "grpc"}
    await cast(("config_changed", "telemetry.otel", None, changes), EXPORTER)
    await eventually(lambda: len(in_force) == 1)
    with tracer().start_as_current_span("second"):
        pass
    await arrived(grpc_receiver, "second")
    await cast(("config_changed", "telemetry.otel.sampling_rate", 1.0, 0.0), EXPORTER)
    await eventually(lambda: len(in_force) == 2)
    with tracer().start_as_current_span("third"):
        pass
    await eventually(lambda: stats_with(sampled_out=1))


async def stats_with(**expected):
    found = await stats_of(EXPORTER)
    return all(found[key] == value for key, value in expected.items()) and found["state"] == "running"


async def test_an_exporter_that_is_switched_off_gets_nothing_and_says_so(receiver):
    await cast(("config_changed", "telemetry.otel.enabled", True, False), EXPORTER)
    await up(EXPORTER, "disabled")
    with tracer().start_as_current_span("off"):
        pass
    assert (await exporters_view())["dropped"] == {"exporter_off": 1}
    await cast(("config_changed", "telemetry.otel.enabled", False, True), EXPORTER)
    await up(EXPORTER)
    with tracer().start_as_current_span("on"):
        pass
    await arrived(receiver, "on")
    assert (await exporters_view())["handed_over"] == 1


async def test_a_dead_receiver_holds_nobody_up_and_costs_nothing(receiver):
    receiver.script(HttpStatus(503), HttpStatus(503))
    for number in range(10):
        with tracer().start_as_current_span(f"pay {number}"):
            pass
    await eventually(lambda: len(receiver.spans) == 10, timeout=60)
    assert (await quiet_stats(EXPORTER))["exported"] == 10


async def test_several_exporters_have_each_their_own(receiver, grpc_receiver):
    name = "second_exporter"
    second = exporter_module("Second", OtelBackend, name=name, section="telemetry.second", module=__name__)
    await start_exporter(second, {"endpoint": grpc_receiver.endpoint, "flush_interval": 0.02})
    await up(name)
    await stop()
    await start_telemetry_service({"exporters": [EXPORTER, name]})
    with span("shop.checkout"), tracer().start_as_current_span("pay") as made:
        made.set_attribute("amount", 3)
    for each in (receiver, grpc_receiver):
        found = await arrived(each, "shop.checkout", "pay")
        assert found["pay"].attributes == {"amount": 3}
        assert found["pay"].parent_span_id == found["shop.checkout"].span_id


async def test_flushing_the_provider_from_a_thread_flushes_the_exporter(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver, flush_interval=3600.0))
    await up(EXPORTER)
    await start_telemetry_service()
    provider = trace.get_tracer_provider()
    with tracer().start_as_current_span("pay"):
        pass
    assert await asyncio.to_thread(provider.force_flush, 5000)
    assert [each.name for each in http_receiver.spans] == ["pay"]
    with tracer().start_as_current_span("pay again"):
        pass
    # On the loop it cannot be waited for: it is begun.
    assert not provider.force_flush(5000)
    await arrived(http_receiver, "pay", "pay again")
    await stop()
    assert provider.force_flush(5000)


async def test_shutting_the_provider_down_is_not_ours_to_obey(receiver):
    trace.get_tracer_provider().shutdown()
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(receiver, "pay")


async def test_a_wrong_argument_is_refused_where_it_is_given(runtime):
    for wrong, word in (
        ({"exporter": "x"}, "no setting 'exporter'"),
        ({"exporters": "otel_exporter"}, "list of registered names"),
        ({"exporters": []}, "list of registered names"),
        ({"exporters": [3]}, "list of registered names"),
        ({"metrics": "yes"}, "metrics is true or false, got 'yes'"),
        ({"views": [3]}, "expected one of otpylib_telemetry.meters.views"),
        (["x"], "a table was expected, not list"),
    ):
        with pytest.raises(ValueError, match=word):
            await start_telemetry_service(wrong)
    with pytest.raises(ValueError, match=r"telemetry\.otel\.batch_size"):
        child_spec({"batch_size": "many"})
    with pytest.raises(ValueError, match="where the exporter is started"):
        child_spec({"batch_size": 3}, with_exporter=False)


async def test_a_wrong_argument_that_gets_in_leaves_it_idle_with_the_reason(runtime, caplog):
    await TelemetryService.start_link(init_arg={"exporters": 3}, name=SERVICE)
    found = await stats()
    assert found["state"] == "idle"
    assert "list of registered names" in found["reason"]
    assert "idle" in caplog.text
    assert bridge.installed is None
    await stop()


async def test_unknown_messages_are_counted_and_ignored(receiver):
    assert (await otp.safe_call(SERVICE, ("what",)))[0] == "error"
    await cast(("what",), SERVICE)
    await process.send(SERVICE, "what")
    await eventually(lambda: unknown(3))


async def unknown(count):
    return (await stats())["unknown_messages"] == count


async def _nothing(self, *args):
    """Do nothing."""


async def start_tree(*specs):
    async def init(self, arg):
        return (list(specs), supervisor.options())

    body = {"init": init, "terminate": _nothing}
    application = OTPModule("Application", (), body, behavior=SUPERVISOR, version="1.0.0")
    return await in_process(application.start_link, None, "application")


async def test_one_child_spec_is_the_whole_set_up(runtime, http_receiver):
    pid = await start_tree(child_spec(settings(http_receiver, flush_interval=3600.0)))
    await up(EXPORTER)
    with span("shop.checkout"), tracer().start_as_current_span("pay"):
        pass
    await process.send(pid, SHUTDOWN)
    # What had ended by then is exported.
    await arrived(http_receiver, "shop.checkout", "pay")
    await eventually(lambda: bridge.installed is None)


@pytest.mark.parametrize("reason", [KILLED, SHUTDOWN, None])
async def test_supervised_it_comes_back_whatever_ended_it_and_misses_nothing(
    runtime, http_receiver, reason, capsys
):
    pid = await start_tree(child_spec(settings(http_receiver)))
    await up(EXPORTER)
    before = process.whereis(SERVICE)
    if reason is None:
        await crash(SERVICE)
    else:
        await process.exit(before, reason)
    with tracer().start_as_current_span("meanwhile"):
        pass
    await eventually(lambda: process.whereis(SERVICE) not in {None, before})
    with tracer().start_as_current_span("after"):
        pass
    await arrived(http_receiver, "meanwhile", "after")
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: bridge.installed is None)


async def test_beside_an_exporter_that_is_there_already(runtime, http_receiver):
    await start_otel_exporter(settings(http_receiver))
    pid = await start_tree(child_spec(with_exporter=False))
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(http_receiver, "pay")
    await process.send(pid, SHUTDOWN)
    await eventually(lambda: bridge.installed is None)
    assert process.whereis(EXPORTER) is not None


async def test_bare_under_a_supervisor_of_otpylib(runtime, http_receiver, capsys):
    await start_otel_exporter(settings(http_receiver))
    pid = await start_tree(supervisor.child_spec(id=SERVICE, module=TelemetryService, args={}, name=SERVICE))
    before = process.whereis(SERVICE)
    await crash(SERVICE)
    await eventually(lambda: process.whereis(SERVICE) not in {None, before})
    with tracer().start_as_current_span("pay"):
        pass
    await arrived(http_receiver, "pay")
    await process.send(pid, SHUTDOWN)
