"""Changes of a real exporter over HTTP: made, tried, told of, taken back."""

import getpass

from tests.support.waiting import eventually

ADA = f"{getpass.getuser()} (as Ada)"


async def value(client, key="rate"):
    found = (await client.get("/config")).body["sections"]["x"]["keys"][key]
    return found["value"], found["origin"]


async def test_a_change_is_in_force_with_its_origin_and_in_the_history(client, backend):
    answer = await client.ask("PATCH", "/config", {"x.rate": 0.25}, X_Telemetry_By="Ada")
    assert (answer.status, answer.body["outcome"]) == (200, "applied")
    assert answer.body["changes"] == {"x.rate": {"old": 1.0, "new": 0.25}}
    assert await value(client) == (0.25, f"api by {ADA}")
    [entry] = (await client.get("/history")).body["entries"]
    assert (entry["origin"], entry["by"], entry["outcome"]) == ("api", ADA, "applied")
    assert entry["generation"] == answer.body["generation"]


async def test_what_is_refused_is_told_and_remembered_and_changes_nothing(client, backend):
    answer = await client.ask("PATCH", "/config", {"x.rate": -1, "x.batch_size": 5})
    assert answer.status == 422
    assert "telemetry.x.rate" in answer.body["detail"]
    assert (await value(client))[0] == 1.0
    assert (await value(client, "batch_size"))[0] == 10
    [entry] = (await client.get("/history")).body["entries"]
    assert entry["outcome"] == "rejected"


async def test_sections_are_changed_together_or_not_at_all(client, backend, tmp_path):
    answer = await client.ask("PATCH", "/config", {"x.rate": 0.5, "admin.port": 70_000})
    assert answer.status == 422
    assert (await value(client))[0] == 1.0
    answer = await client.ask("PATCH", "/config", {"x.rate": 0.5, "admin.port": 0})
    assert answer.status == 200
    assert (await value(client))[0] == 0.5
    status = (await client.get("/status")).body
    [service] = [each for each in status["services"] if each["name"] == "telemetry_admin"]
    assert service["stats"]["port"]


async def test_a_dry_run_says_and_does_nothing(client, backend):
    answer = await client.ask("PATCH", "/config?dry_run=1", {"x.rate": 0.5})
    assert (answer.status, answer.body["outcome"]) == (200, "would_apply")
    assert answer.body["changes"] == {"x.rate": {"old": 1.0, "new": 0.5}}
    assert (await value(client))[0] == 1.0
    answer = await client.ask("PATCH", "/config?dry_run=1", {"x.rate": -1})
    assert (answer.status, answer.body["outcome"]) == (200, "would_reject")
    assert (await client.get("/history")).body["entries"] == []


async def test_a_service_that_nothing_wanted_so_far_is_started_by_a_change(client, backend):
    """At night nobody edits a file to have event loops that stand told of."""
    changes = {"poller.measurements": [], "poller.interval": 60, "x.rate": 0.5}
    answer = await client.ask("PATCH", "/config?dry_run=1", changes)
    assert (answer.status, answer.body["outcome"]) == (200, "would_apply")
    assert answer.body["changes"]["poller.interval"] == {"old": 10.0, "new": 60.0}
    assert "poller: telemetry_poller does not run so far, and is started" in answer.body["effects"]
    answer = await client.ask("PATCH", "/config", {"instrument.enabled": "maybe"})
    assert (answer.status, "expected true or false" in answer.body["detail"]) == (422, True)
    answer = await client.ask("PATCH", "/config", {"x.rate": -1, "poller.interval": 60})
    assert answer.status == 422
    services = [each["name"] for each in (await client.get("/status")).body["services"]]
    assert services == ["telemetry_admin"]

    answer = await client.ask("PATCH", "/config", changes, X_Telemetry_By="Ada")
    assert (answer.status, answer.body["outcome"]) == (200, "applied")
    found = (await client.get("/config")).body["sections"]["poller"]["keys"]["interval"]
    assert (found["value"], found["origin"]) == (60.0, f"api by {ADA}")
    assert (await value(client))[0] == 0.5
    [state] = [
        each["state"]
        for each in (await client.get("/status")).body["services"]
        if each["name"] == "telemetry_poller"
    ]
    assert state == "running"


async def test_a_rollback_brings_back_what_was(client, backend):
    first = (await client.ask("PATCH", "/config", {"x.rate": 0.5})).body["generation"]
    await client.ask("PATCH", "/config", {"x.rate": 0.75, "x.batch_size": 20})
    answer = await client.ask("POST", f"/rollback/{first}", X_Telemetry_By="Ada")
    assert answer.status == 200
    assert (await value(client))[0] == 0.5
    assert (await value(client, "batch_size"))[0] == 10
    answer = await client.ask("POST", "/rollback/4711")
    assert (answer.status, answer.body["where"]) == (404, "path: generation")
    assert "4711 is not kept" in answer.body["detail"]


async def test_a_change_for_a_while_takes_itself_back(client, backend):
    answer = await client.ask("PATCH", "/config?for=0.2", {"x.rate": 0.5})
    assert answer.body["reverts_at"]

    async def is_back():
        return (await value(client))[0] == 1.0

    await eventually(is_back)


async def test_a_secret_is_changed_and_shown_nowhere(client, backend):
    answer = await client.ask("PATCH", "/config", {"x.api_key": "geheim-geheim"})
    assert answer.status == 200
    told = [answer, await client.get("/config"), await client.get("/history"), await client.get("/status")]
    assert "geheim" not in str(told)
