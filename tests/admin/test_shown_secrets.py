"""What leaves through the API has no secrets: by default, by every exporter's own rules, names included."""

import asyncio
import json
import tarfile

import pytest
from otpylib import gen_server

from otpylib_telemetry import attach, execute, otp, span
from otpylib_telemetry.admin.actors import incidents
from otpylib_telemetry.admin.events import QUEUE_LIMIT
from otpylib_telemetry.command.main import main
from otpylib_telemetry.scrubbing.events import strictest
from otpylib_telemetry.scrubbing.plan import ScrubPlan
from otpylib_telemetry_otel import start_otel_exporter
from otpylib_telemetry_prometheus import start_prometheus_exporter
from tests.support.actors import server
from tests.support.chassis import runner, up
from tests.support.secrets import BARE, HARMLESS, KEYS, MARK, texts
from tests.support.waiting import eventually

PROM, OTEL = "prometheus_exporter", "otel_exporter"


@pytest.fixture(autouse=True)
def no_incidents_are_left():
    yield
    for remembered in (incidents.last, incidents.crashes, incidents.restarts):
        remembered.clear()


async def received(client, path):
    """Return the bytes of an answer."""
    async with client.session() as session, session.get(client.base + path) as answer:
        assert answer.status == 200
        return await answer.read()


async def bundled(tmp_path):
    """Return the bytes of all parts of the archive that the command makes."""
    path = tmp_path / "help.tar.gz"
    arguments = ["bundle", "--socket", str(tmp_path / "admin.sock"), "--output", str(path)]
    assert await asyncio.to_thread(main, arguments) == 0
    with tarfile.open(path) as archive:
        return b"".join(archive.extractfile(each).read() for each in archive)


def secrets_in(received):
    said = received.decode()
    return [(each, said[max(0, said.find(each) - 150) :][:200]) for each in (MARK, *BARE) if each in said]


def plant(text, key):
    metadata = {"text": text, "deep": {"password": MARK, "list": [text]}, "bytes": text.encode(), key: MARK}
    metadata |= {text: text, "links": [{"trace_id": "1" * 32, "attributes": {key: MARK, "t": text}}]}
    with span(f"shop.{text}", metadata):
        execute(f"shop.at.{text}", {"count": 1, text: 1}, metadata)
    with pytest.raises(ValueError), span("shop.failing", {"n": 1}):  # noqa: PT011 - its text is a secret
        raise ValueError(text)
    execute(
        "shop.told.success", {}, {"trace_id": text, "span_id": text, "parent_span_id": text, "error": text}
    )
    execute("otpylib.process.crashed", {}, {"server": text, "stack": f"in a call\n{text}", key: MARK})
    execute(f"otpylib.supervisor.{text}", {}, {"child": text})


@pytest.mark.parametrize("scrub", ["all", "off"])
async def test_no_planted_secret_is_in_any_byte_that_is_received(client, tmp_path, http_receiver, scrub):
    await start_prometheus_exporter({"port": 0, "labels": "all", "automatic_metrics": True, "scrub": scrub})
    await start_otel_exporter(
        {
            "endpoint": http_receiver.endpoint,
            "protocol": "http/protobuf",
            "metrics_labels": "all",
            "scrub": scrub,
        }
    )
    for name in (PROM, OTEL):
        await up(name)
    corpus = [*texts(), *BARE]
    for text in corpus:
        await otp.start_server(server("Till"), None, f"till.{text}", link=False)
        await attach(f"of.{text}", f"bank.{text}", print)
    await client.get("/traces")
    tapped = b""
    async with client.session() as session, session.get(f"{client.base}/events") as answer:
        await answer.content.readline()
        for number, text in enumerate(corpus):
            plant(text, KEYS[number % len(KEYS)])
            await asyncio.sleep(0)
        for key in KEYS:
            execute("shop.keys", {}, {key: MARK})
        execute("shop.end")
        while b"shop.end" not in tapped:
            tapped += await asyncio.wait_for(answer.content.readline(), 60)
    assert b"event: dropped" not in tapped, f"more than {QUEUE_LIMIT}"
    shown = {path: await received(client, path) for path in ("/traces?limit=100", "/actors")}
    shown["/events"] = tapped
    status = await received(client, "/status")
    if scrub == "all":
        # Else names of metrics are as the exporter tells them, spelled: they look like nothing.
        metrics = await received(client, "/metrics-by-size?limit=200")
        shown |= {"/status": status, "bundle": await bundled(tmp_path), "/metrics-by-size": metrics}
    assert {path: found for path, each in shown.items() if (found := secrets_in(each))} == {}
    # They were all there.
    assert tapped.count(b'"event_name":"shop.at.') == len(corpus)
    assert tapped.count(b'.success"') >= 2 * len(corpus), "how an operation ends is told"
    assert shown["/actors"].count(b'"name":"till.') == len(corpus)
    traces = json.loads(shown["/traces?limit=100"])["traces"]
    assert len([each for each in traces if each["name"].startswith("shop.")]) > 2 * len(corpus)
    found = json.loads(status)["scrubbed"]
    assert found["password"]
    assert found["jwt"]


async def test_rules_of_every_exporter_count_also_those_that_come_while_it_runs(client, http_receiver):
    await start_prometheus_exporter(
        {"port": 0, "scrub_keys": ["*email*"], "scrub": "off", "scrub_keep": ["*"]}
    )
    await start_otel_exporter(
        {
            "endpoint": http_receiver.endpoint,
            "protocol": "http/protobuf",
            "scrub": "own",
            "scrub_values": ["EMP-[0-9]{6}"],
        }
    )
    for name in (PROM, OTEL):
        await up(name)
    await client.get("/traces")

    async def said():
        metadata = {"email": "ann@example.org", "note": "by EMP-123456, order 7", "token": "geheim"}
        metadata["desk"] = "desk 5"
        before = (await client.get("/status")).body["scrubbed"]
        async with client.events() as stream:
            await stream.next()
            with span("shop.EMP-123456.order", metadata):
                pass
            execute("otpylib.process.crashed", {}, {"server": "cellar", **metadata})
            tapped = [(await stream.next())[1] for _ in range(3)]
        traces = (await client.get("/traces?limit=1")).body["traces"]
        incident = (await client.get("/actors")).body["incidents"][-1]["details"]
        after = (await client.get("/status")).body["scrubbed"]
        told = [*(each["metadata"] for each in tapped), traces[0]["spans"][0]["metadata"], incident]
        assert [each["event_name"] for each in tapped[:2]] == [
            "shop.<redacted>.order.start",
            "shop.<redacted>.order.success",
        ]
        assert traces[0]["name"] == traces[0]["spans"][0]["name"] == "shop.<redacted>.order"
        return told, {rule: count - before.get(rule, 0) for rule, count in after.items()}

    told, counts = await said()
    for each in told:
        assert each["email"] == each["token"] == "<redacted>"
        assert each["note"] == "by <redacted>, order 7"
        assert each["desk"] == "desk 5"
    assert counts["scrub_keys[0]"] >= 5
    assert counts["scrub_values[0]"] >= 8
    value = {"desk [0-9]": "drop"}
    await gen_server.cast(PROM, ("config_changed", "telemetry.prometheus.scrub_values", None, value))
    await eventually(lambda: runner(PROM).exporter.settings.scrub_values == value)
    told, counts = await said()
    assert {each["desk"] for each in told} == {"<redacted>"}
    assert counts["scrub_values[1]"] >= 5


async def test_harmless_names_stay_as_they_are(client):
    await client.get("/traces")
    names = [f"shop.{each}" for each in HARMLESS if each]
    async with client.events() as stream:
        await stream.next()
        for name in names:
            with span(name):
                pass
        tapped = [(await stream.next())[1]["event_name"] for _ in range(2 * len(names))]
    assert tapped == [f"{name}.{end}" for name in names for end in ("start", "success")]
    traces = (await client.get("/traces?limit=100")).body["traces"]
    assert {each["name"] for each in traces} == set(names)


def test_the_strictest_plan_masks_what_any_takes_out_and_keeps_nothing():
    plans = [
        ScrubPlan("off", "hash", (("a", "drop"),), (), ("*",)),
        ScrubPlan("own", "drop", (("a", None), ("b", "hash")), (("c", None),), (), "salt"),
    ]
    assert strictest(plans) == ScrubPlan(keys=(("a", None), ("b", None)), values=(("c", None),))
    assert strictest([]) == ScrubPlan()
