"""Looking closer: actors, metrics by size, traces, and what decided the fate of a trace or an event."""

import contextlib
import threading

import pytest
from otpylib import supervisor
from otpylib.module import SUPERVISOR

from otpylib_telemetry import attach, execute, list_handlers, span
from otpylib_telemetry.admin import traces
from otpylib_telemetry.admin.traces import End, put_together
from otpylib_telemetry.exporter.server import exporter_module
from otpylib_telemetry.instrument.otpylib import OtpylibInstrumentor
from otpylib_telemetry.metrics.exporting import MetricsExporter
from otpylib_telemetry_otel import start_otel_exporter
from tests.support.actors import server, supervising
from tests.support.chassis import start, up
from tests.support.crash import crash
from tests.support.runtime import in_process
from tests.support.waiting import eventually


async def tree():
    children = [
        {"id": "till", "module": server("Till"), "args": None, "name": "till"},
        {"id": "stock", "module": server("Stock"), "args": None, "name": "stock"},
    ]
    await in_process(lambda: supervisor.core.start_link(supervising(SUPERVISOR, children), None, "shop_sup"))


def find(actor, name):
    if actor["name"] == name:
        return actor
    return next((found for each in actor["children"] if (found := find(each, name))), None)


async def test_the_supervision_tree_has_mailboxes_restarts_and_crashes(client):
    OtpylibInstrumentor().instrument()
    try:
        await tree()
        found = (await client.get("/actors")).body
        assert found["instrumented"]
        [root] = [each for each in found["roots"] if each["name"] == "shop_sup"]
        assert root["supervisor"]
        assert {each["name"] for each in root["children"]} == {"till", "stock"}
        assert find(root, "till")["module"] == "Till"
        assert find(root, "till")["mailbox"] == 0
        assert find(root, "till")["crashes"] == 0
        await crash("till")

        async def restarted():
            tree = (await client.get("/actors")).body
            [root] = [each for each in tree["roots"] if each["name"] == "shop_sup"]
            till = find(root, "till")
            return till and till["crashes"] == 1 and till["restarts"] == 1 and tree

        found = await eventually(restarted)
        assert [each["event"] for each in found["incidents"]] == [
            "otpylib.process.crashed",
            "otpylib.supervisor.restarted",
        ]
    finally:
        OtpylibInstrumentor().uninstrument()


async def test_without_instrumentation_the_tree_is_told_and_that_crashes_are_not(client):
    await tree()
    found = (await client.get("/actors")).body
    assert not found["instrumented"]
    assert "telemetry_admin" in str(found["roots"])
    [root] = [each for each in found["roots"] if each["name"] == "shop_sup"]
    assert {each["name"] for each in root["children"]} == {"till", "stock"}


@pytest.fixture
async def metrics(runtime):
    class Metrics(MetricsExporter):
        async def export(self, batch):
            return None

    module = exporter_module("ServerM", Metrics, name="m_exporter", section="telemetry.m", module=__name__)
    await start(module, max_series=10)


async def test_the_largest_metrics_come_first_with_the_labels_that_fill_them(client, metrics):
    for number in range(6):
        execute("shop.sale", {"count": 1}, {"customer": f"c{number}", "shop": "north"})
    for number in range(30):
        execute("shop.visit", {"count": 1}, {"visitor": f"v{number}"})
    execute("shop.open", {"count": 1})
    await client.ask("POST", "/flush")
    found = (await client.get("/metrics-by-size?limit=3")).body
    sale = next(each for each in found["largest"] if each["metric"] == "shop_sale_total")
    assert (sale["series"], sale["labels"], sale["limit"]) == (6, {"customer": 6, "shop": 1}, 10)
    visit = next(
        each for each in (await client.get("/metrics-by-size")).body["largest"] if "visit" in each["metric"]
    )
    assert visit["folded"].keys() == {"visitor"}
    assert found["largest"][0]["series"] >= found["largest"][1]["series"]
    assert found["metrics"] >= 3


def recorders():
    return [each for each in list_handlers() if each.handler_id == "telemetry.admin.traces"]


async def test_traces_are_recorded_only_while_somebody_asks(client, monkeypatch):
    with span("shop.unseen"):
        pass
    assert not recorders()
    assert (await client.get("/traces")).body["traces"] == []
    assert recorders()
    with span("shop.order", {"api_key": "geheim"}), pytest.raises(ZeroDivisionError), span("shop.pay"):
        raise ZeroDivisionError
    [trace] = (await client.get("/traces")).body["traces"]
    assert trace["name"] == "shop.order"
    assert trace["error"]
    order, pay = trace["spans"]
    assert (order["name"], pay["name"], pay["error"]) == ("shop.order", "shop.pay", "ZeroDivisionError")
    assert pay["parent_span_id"] == order["span_id"]
    assert order["metadata"] == {"api_key": "<redacted>"}
    assert order["work_ms"] <= order["duration_ms"]
    monkeypatch.setattr(traces, "LINGER", 0.01)
    await client.get("/traces")
    await eventually(lambda: not recorders())
    assert not traces.recorder.ends


async def test_traces_are_put_together_beside_the_event_loop(client, monkeypatch):
    threads = []
    together = traces.put_together
    monkeypatch.setattr(
        traces, "put_together", lambda *asked: threads.append(threading.get_ident()) or together(*asked)
    )
    assert (await client.get("/traces")).body["traces"] == []
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_what_settings_mark_as_secret_is_in_no_trace_and_in_no_incident(client, backend, monkeypatch):
    await client.get("/traces")
    said = "refused for sesame-sesame"
    with pytest.raises(ValueError, match="refused"), span("shop.order", {"said": said}):
        raise ValueError(said)
    execute("shop.pay.error", {"duration_ms": 1}, {"error": said, "trace_id": "1" * 32, "span_id": "2" * 16})
    execute("otpylib.process.crashed", {"count": 1}, {"server": "till", "reason": said})
    told = str([(await client.get(path)).body for path in ("/traces", "/actors")])
    assert told.count("refused for <redacted>") >= 4
    assert "sesame" not in told


def end(name, begin, until, span_id, parent=None, wait=None, trace="1" * 32):
    measured = {"duration_ms": (until - begin) * 1000, **({} if wait is None else {"wait_ms": wait})}
    return End(name, measured, {"trace_id": trace, "span_id": span_id, "parent_span_id": parent}, until)


def test_waits_are_told_from_work():
    ends = [
        end("db.read.success", 11.0, 12.0, "b", "a", wait=500),
        end("db.read.success", 11.5, 13.0, "c", "a"),
        end("shop.order.success", 10.0, 14.0, "a"),
        end("other.success", 20.0, 21.0, "d", trace="2" * 32),
    ]
    other, trace = put_together(ends, 10)
    assert (other.name, trace.name) == ("other", "shop.order")
    assert trace.duration_ms == 4000
    order, first, second = trace.spans
    assert order.work_ms == 2000
    assert (first.start_ms, first.wait_ms, first.work_ms) == (1000, 500, 1000)
    assert second.wait_ms is None
    assert put_together(ends, 1) == [other]


@pytest.mark.parametrize(
    "odd",
    [
        End("x.success", {}, {}, 1.0),
        End("x.success", {}, {"trace_id": 1, "span_id": "a"}, 1.0),
        End("x.success", {"duration_ms": "long"}, {"trace_id": "t", "span_id": "a"}, 1.0),
        End("x.success", {"duration_ms": float("nan")}, {"trace_id": "t", "span_id": "a"}, 1.0),
        End("x", {"duration_ms": -5}, {"trace_id": "t", "span_id": "a", "parent_span_id": 7}, 1.0),
        End("x", {"duration_ms": True}, {"trace_id": "t", "span_id": "a", "parent_span_id": "a"}, 1.0),
    ],
)
def test_odd_ends_do_no_harm(odd):
    for trace in put_together([odd, odd], 10):
        assert trace.duration_ms >= 0


async def test_an_event_is_explained_by_patterns_states_and_limits(client, backend, metrics):
    await attach("mine", "shop.s*", lambda *_event: None)
    execute("shop.sale", {"count": 1})
    await client.ask("POST", "/flush")
    found = {each["name"]: each for each in (await client.get("/explain/event/shop.sale")).body["explained"]}
    assert found["mine"]["answers"] == ["its pattern 'shop.s*' matches"]
    assert found["x_exporter"]["answers"] == ["its event pattern 'shop.*' matches"]
    assert found["m_exporter"]["answers"] == [
        "its event pattern 'shop.*' matches",
        "its metric shop_sale_total has 1 of 10 series",
    ]
    found = {each["name"]: each for each in (await client.get("/explain/event/bank.sale")).body["explained"]}
    assert not found["x_exporter"]["takes"]
    assert found["x_exporter"]["answers"] == ["none of its event_patterns matches: shop.*"]
    assert "mine" not in found


OTEL = {"exporter": "console", "metrics": False, "logs": False, "event_patterns": ["shop.*"]}


async def explained(client, trace_id):
    [found] = (await client.get(f"/explain/{trace_id}")).body["explained"]
    return found["takes"], " | ".join(found["answers"])


async def test_a_trace_is_explained_by_what_decided(client, capsys):
    await start_otel_exporter({**OTEL, "sampling_rate": 0.0, "sampling_wait": 0.05})
    await up("otel_exporter")
    with span("shop.order") as open_span:
        await client.ask("POST", "/flush")
        takes, said = await explained(client, open_span.context.trace_id)
        assert takes is None
        assert "spans of it are open here" in said
        assert "an error keeps it whole: always_keep_errors" in said
        assert "not among the share that sampling_rate = 0 keeps" in said
    with contextlib.suppress(ZeroDivisionError), span("shop.pay") as failed, span("shop.card"):
        trace_id = failed.context.trace_id
        raise ZeroDivisionError

    async def decided():
        await client.ask("POST", "/flush")
        return (await explained(client, trace_id))[0] is True

    await eventually(decided)
    assert "it was kept, for an error" in (await explained(client, trace_id))[1]
    takes, said = await explained(client, "f" * 32)
    assert takes is None
    assert "nothing is held or remembered of it" in said


async def test_a_trace_that_everything_keeps_and_one_by_its_id_alone(client, backend):
    await start_otel_exporter(OTEL)
    await up("otel_exporter")
    found = (await client.get(f"/explain/{'1' * 32}")).body["explained"]
    [otel] = [each for each in found if each["name"] == "otel_exporter"]
    assert (otel["takes"], otel["answers"]) == (True, ["sampling keeps everything: sampling_rate = 1"])
    assert (await client.get("/explain/no-trace")).status == 422
    assert (await client.get(f"/explain/{'F' * 32}")).status == 422
