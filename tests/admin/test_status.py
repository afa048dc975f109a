"""Status, health, readiness, configuration, flush and drain."""

import pytest
from otpylib import gen_server

from otpylib_telemetry import ExportError, attach, start_exporter
from tests.support.chassis import crash, emit, make_exporter, runner, start, up
from tests.support.waiting import eventually


async def test_status_tells_of_exporters_services_and_handlers(backend, client):
    await attach("mine", "shop.*", lambda *_event: None)
    emit(3)
    await client.ask("POST", "/flush")
    found = (await client.get("/status")).body
    [exporter] = found["exporters"]
    assert (exporter["name"], exporter["section"], exporter["state"]) == (
        "x_exporter",
        "telemetry.x",
        "running",
    )
    assert exporter["ready"]
    assert exporter["ledger"]["accepted"] == exporter["ledger"]["exported"] == 3
    assert exporter["breaker"]["state"] == "closed"
    assert exporter["stats"]["lives"] == 1
    assert [each["name"] for each in found["services"]] == ["telemetry_admin"]
    assert {"mine", "x_exporter"} <= {each["handler_id"] for each in found["handlers"]}


async def test_readiness_covers_every_exporter(backend, client):
    assert (await client.get("/readyz")).status == 200
    other, other_backend = make_exporter("y_exporter", "telemetry.y")
    await start(other, failure_threshold=1, retry_attempts=0)
    other_backend.always = ExportError("gone fishing", retryable=True)
    emit(1)
    await eventually(lambda: runner("y_exporter").state.breaker.state == "open")
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert answer.body["exporters"]["x_exporter"] is None
    assert answer.body["exporters"]["y_exporter"] == "its circuit breaker is open: gone fishing"
    assert (await client.get("/healthz")).status == 200


async def test_an_exporter_that_has_crashed_is_not_ready(backend, client):
    await crash()
    answer = await client.get("/readyz")
    assert (answer.status, answer.body["exporters"]) == (503, {"x_exporter": "its process has ended"})


async def test_one_that_cannot_open_is_not_ready_and_says_why(runtime, client):
    module, backend = make_exporter()
    backend.opening.append(OSError("no route"))
    await start_degraded(module)
    answer = await client.get("/readyz")
    assert answer.status == 503
    assert "it is degraded" in answer.body["exporters"]["x_exporter"]
    assert "no route" in answer.body["exporters"]["x_exporter"]


async def start_degraded(module):
    await start_exporter(module, {"event_patterns": ["shop.*"]})
    await up(state="degraded")


async def test_config_tells_values_origins_and_no_secret(backend, client, monkeypatch):
    answer = await client.get("/config")
    section = answer.body["sections"]["x"]
    assert (section["name"], section["section"]) == ("x_exporter", "telemetry.x")
    assert section["keys"]["batch_size"] == {
        "value": 10,
        "origin": "argument",
        "wished": None,
        "pending": False,
    }
    assert section["keys"]["rate"]["origin"] == "default"
    assert section["keys"]["api_key"]["value"] == "<redacted>"
    assert "sesame" not in str(answer.body)
    assert answer.body["sections"]["admin"]["keys"]["enabled"]["value"] is True


async def test_config_tells_a_wish_that_is_not_in_force(backend, client):
    backend.opening.append(OSError("no route"))
    await gen_server.cast("x_exporter", ("config_changed", "telemetry.x.endpoint", "one", "two"))
    await up(state="degraded")
    found = (await client.get("/config")).body["sections"]["x"]["keys"]["endpoint"]
    assert (found["value"], found["wished"], found["pending"]) == ("one", "two", True)


async def test_flush_says_what_is_left(backend, client):
    emit(5)
    answer = await client.ask("POST", "/flush?timeout=30")
    assert answer.body["complete"]
    assert answer.body["exporters"]["x_exporter"]["left"] == 0
    assert len(backend.delivered) == 5
    backend.always = ExportError("gone", retryable=True)
    emit(2)
    answer = await client.ask("POST", "/flush?timeout=0.05&exporter=x")
    assert not answer.body["complete"]
    assert answer.body["exporters"]["x_exporter"]["left"] == 2


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("timeout=soon", "query: timeout"),
        ("timeout=-1", "query: timeout"),
        ("timeout=nan", "query: timeout"),
        ("timeout=1&timeout=2", "query"),
        ("tiemout=1", "query: tiemout"),
        ("exporter=%ff", "query"),
    ],
)
async def test_a_wrong_query_is_refused_in_words(client, query, where):
    answer = await client.ask("POST", f"/flush?{query}")
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["where"] == where
    assert answer.body["detail"]
    assert answer.body["expected"]


async def test_an_exporter_that_nobody_knows_and_a_path_that_is_none(backend, client):
    answer = await client.ask("POST", "/flush?exporter=otel_exporter")
    assert (answer.status, answer.body["expected"]) == (404, "x_exporter")
    assert (await client.get("/nothing/of/the/sort")).status == 404
    answer = await client.ask("DELETE", "/status")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert (await client.ask("HEAD", "/status")).status == 200


async def test_drain_ends_the_exporter_s_work(backend, client):
    emit(2)
    answer = await client.ask("POST", "/drain?timeout=30")
    assert answer.body["complete"]
    assert len(backend.delivered) == 2
    assert (await client.get("/readyz")).body["exporters"] == {"x_exporter": "it is drained: it was drained"}


async def test_the_document_describes_every_route(client):
    document = (await client.get("/openapi.json")).body
    assert document["openapi"] == "3.1.0"
    assert {"/status", "/healthz", "/readyz", "/config", "/flush", "/events"} <= document["paths"].keys()
    references = set()

    def walk(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                references.add(value["$ref"])
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(document)
    assert references
    assert {each.removeprefix("#/components/schemas/") for each in references} <= document["components"][
        "schemas"
    ].keys()
