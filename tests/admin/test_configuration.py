"""Changes from outside, as processes with a section are asked for them."""

import getpass

import pytest

from tests.support import configurable

#: Over a socket the user at its other end is known, whatever the request says.
ADA = f"{getpass.getuser()} (as Ada)"


@pytest.fixture
async def one(runtime, monkeypatch):
    return await configurable.start(monkeypatch, "one")


@pytest.fixture
async def two(runtime, monkeypatch):
    return await configurable.start(monkeypatch, "two")


def tried(valid=True, problems=(), probe=None, **changes):
    told = {key: {"old": old, "new": new} for key, (old, new) in changes.items()}
    effects = [f"{key} begins anew" for key in changes]
    return {"valid": valid, "problems": list(problems), "changes": told, "effects": effects, "probe": probe}


def applied(generation=7, outcome="applied", **changes):
    told = {key: {"old": old, "new": new} for key, (old, new) in changes.items()}
    return {
        "outcome": outcome,
        "generation": generation,
        "changes": told,
        "problems": [],
        "overrode": dict.fromkeys(changes, "file a.toml"),
        "reverts_at": None,
    }


def asked(process, tag):
    return [message for message in process.asked if message[0] == tag]


async def test_a_change_is_tried_with_everybody_and_then_made(client, one, two):
    for process in (one, two):
        process.answers |= {"try_config": tried(a=(1, 2)), "apply_config": applied(a=(1, 2))}
    two.answers["apply_config"]["generation"] = 8
    two.answers["apply_config"]["reverts_at"] = 1234.5
    body = {"one.a": 2, "telemetry.two.a": 2, "two.table.entry": None}
    answer = await client.ask("PATCH", "/config?for=600", body, X_Telemetry_By="Ada")
    assert answer.status == 200
    assert answer.body == {
        "outcome": "applied",
        "generation": 8,
        "changes": {"one.a": {"old": 1, "new": 2}, "two.a": {"old": 1, "new": 2}},
        "problems": [],
        "effects": [],
        "probes": {},
        "overrode": {"one.a": "file a.toml", "two.a": "file a.toml"},
        "reverts_at": 1234.5,
    }
    about = {"origin": "api", "by": ADA, "for": 600.0}
    assert asked(one, "try_config") == [("try_config", {"a": 2})]
    assert asked(one, "apply_config") == [("apply_config", {"a": 2}, about)]
    assert asked(two, "apply_config") == [("apply_config", {"a": 2, "table.entry": None}, about)]


async def test_who_asks_over_the_socket_is_the_user_at_its_other_end(client, one):
    one.answers |= {"try_config": tried(a=(1, 2)), "apply_config": applied(a=(1, 2))}
    await client.ask("PATCH", "/config", {"one.a": 2})
    [(_, _, about)] = asked(one, "apply_config")
    assert about == {"origin": "api", "by": getpass.getuser(), "for": None}


async def test_what_one_refuses_nobody_does(client, one, two):
    one.answers |= {"try_config": tried(a=(1, 2)), "apply_config": applied(a=(1, 2))}
    two.answers |= {
        "try_config": tried(valid=False, problems=["telemetry.two.a is refused: expected a number"])
    }
    answer = await client.ask("PATCH", "/config", {"one.a": 2, "two.a": "x"})
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["detail"] == "telemetry.two.a is refused: expected a number"
    assert not asked(one, "apply_config")


@pytest.mark.parametrize("can_go_back", [True, False])
@pytest.mark.parametrize("failing", ["rejected", "silent"])
async def test_where_one_fails_those_before_it_are_taken_back(client, one, two, failing, can_go_back):
    refused = {**applied(outcome="rejected"), "problems": ["telemetry.two.a is refused: too late"]}
    one.answers |= {
        "try_config": tried(a=(1, 2)),
        "apply_config": applied(a=(1, 2)),
        "take_back": applied() if can_go_back else ("error", "not kept"),
    }
    two.answers |= {
        "try_config": tried(a=(1, 2)),
        "apply_config": refused if failing == "rejected" else ("error", "it does not work"),
    }
    answer = await client.ask("PATCH", "/config", {"one.a": 2, "two.a": 3}, X_Telemetry_By="Ada")
    assert (answer.status, answer.body["where"]) == (409, "body: two")
    assert ("too late" if failing == "rejected" else "does not work") in answer.body["detail"]
    assert ("taken back" if can_go_back else "one stay changed") in answer.body["expected"]
    assert asked(one, "take_back") == [("take_back", 7, ADA)]


async def test_what_somebody_else_changed_is_not_taken_back(client, backend, two):
    await client.ask("PATCH", "/config", {"x.batch_size": 55}, X_Telemetry_By="Bob")
    two.answers |= {"try_config": tried(a=(1, 2)), "apply_config": ("error", "it does not work")}

    async def keys():
        found = (await client.get("/config")).body["sections"]["x"]["keys"]
        return {key: found[key]["value"] for key in ("batch_size", "rate")}

    before = await keys()
    assert before["batch_size"] == 55
    for rate in (before["rate"], 0.5):
        answer = await client.ask("PATCH", "/config", {"x.rate": rate, "two.a": 2}, X_Telemetry_By="Ada")
        assert (answer.status, answer.body["where"]) == (409, "body: two")
        assert await keys() == before


async def test_a_rollback_that_one_refuses_says_who_went_back(client, one, two):
    one.answers["rollback"] = applied(a=(1, 2))
    two.answers["rollback"] = {**applied(outcome="rejected"), "problems": ["telemetry.two.a is refused"]}
    answer = await client.ask("POST", "/rollback/3")
    assert (answer.status, answer.body["detail"]) == (409, "telemetry.two.a is refused")
    assert "back are one" in answer.body["expected"]


async def test_a_dry_run_does_nothing(client, one, two):
    one.answers |= {"try_config": tried(a=(1, 2), probe={"ok": False, "reason": "connection refused"})}
    two.answers |= {"try_config": tried(b=(3, float("inf")))}
    answer = await client.ask("PATCH", "/config?dry_run=1", {"one.a": 2, "two.b": 4})
    assert answer.status == 200
    assert answer.body["outcome"] == "would_apply"
    assert answer.body["changes"] == {"one.a": {"old": 1, "new": 2}, "two.b": {"old": 3, "new": "inf"}}
    assert answer.body["effects"] == ["one: a begins anew", "two: b begins anew"]
    assert answer.body["probes"] == {"one": {"ok": False, "reason": "connection refused"}}
    two.answers |= {"try_config": tried(valid=False, problems=["no"])}
    answer = await client.ask("PATCH", "/config?dry_run", {"one.a": 2, "two.b": 4})
    assert (answer.status, answer.body["outcome"], answer.body["problems"]) == (200, "would_reject", ["no"])
    assert not asked(one, "apply_config")
    assert not asked(two, "apply_config")


@pytest.mark.parametrize(
    ("outcome", "status"), [("applied", 200), ("pending", 202), ("superseded", 202), ("rejected", 422)]
)
async def test_the_status_says_the_outcome(client, one, outcome, status):
    one.answers |= {"try_config": tried(a=(1, 2)), "apply_config": applied(outcome=outcome, a=(1, 2))}
    assert (await client.ask("PATCH", "/config", {"one.a": 2})).status == status


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 422, "body"),
        ({"nothing.a": 1}, 422, "body: nothing.a"),
        ({"one": {"a": 1}}, 422, "body: one"),
        ({"one.": 1}, 422, "body: one."),
        ({f"one.{n}": 1 for n in range(101)}, 422, "body"),
        ([], 422, "body"),
        (b"{", 400, "body"),
        (b"", 400, "body"),
        (b'{"one.a": 1' + b" " * 1_100_000 + b"}", 413, "body"),
    ],
)
async def test_a_wrong_body_is_refused_in_words(client, one, body, status, where):
    answer = await client.ask("PATCH", "/config", body)
    assert (answer.status, answer.body["where"]) == (status, where)
    assert answer.body["expected"]
    assert not asked(one, "try_config")


@pytest.mark.parametrize(
    "value", ["${HOME}", "a${HOME:-b}", ["x", "${HOME}"], {"x": {"y": "${HOME}"}}, {"${HOME}": 1}]
)
async def test_the_environment_is_not_read_for_whoever_may_ask(client, one, value):
    answer = await client.ask("PATCH", "/config", {"one.a": value})
    assert (answer.status, answer.body["where"], one.asked) == (422, "body: one.a", [])
    assert "environment" in answer.body["detail"]


async def test_what_is_no_placeholder_is_text(client, one):
    one.answers["apply_config"] = applied(a=(1, 2))
    assert (await client.ask("PATCH", "/config", {"one.a": "$$${HOME} $${x} $x"})).status == 200
    assert asked(one, "apply_config")[0][1] == {"a": "$$${HOME} $${x} $x"}


@pytest.mark.parametrize("query", ["for=0", "for=-1", "for=x", "for=1e9", "dry_run=perhaps", "dryrun=1"])
async def test_a_wrong_query_is_refused(client, one, query):
    assert (await client.ask("PATCH", f"/config?{query}", {"one.a": 1})).status == 422
    assert not asked(one, "try_config")


async def test_a_process_that_does_not_answer_changes_nothing(client, one):
    answer = await client.ask("PATCH", "/config", {"one.a": 1})
    assert answer.status == 503
    assert "scripted_one" in answer.body["detail"]


def entry(generation, section="telemetry.one", **more):
    return {
        "generation": generation,
        "time": 1000.0 + generation,
        "section": section,
        "origin": "api",
        "by": "Ada",
        "changes": {"a": {"old": 1, "new": 2}},
        "outcome": "applied",
        "reverts_at": None,
        "reverted": False,
        **more,
    }


async def test_history_is_told_once_and_in_order(client, one, two):
    one.answers["get_history"] = [entry(2), entry(3, "telemetry.two")]
    two.answers["get_history"] = [entry(3, "telemetry.two"), entry(1, "telemetry.two")]
    found = (await client.get("/history")).body["entries"]
    assert [each["generation"] for each in found] == [1, 2, 3]
    assert found[1]["changes"] == {"a": {"old": 1, "new": 2}}
    found = (await client.get("/history?section=two&limit=1")).body["entries"]
    assert [each["generation"] for each in found] == [3]


async def test_a_rollback_asks_everybody(client, one, two):
    one.answers["rollback"] = applied(generation=9, a=(2, 1))
    two.answers["rollback"] = applied(generation=10)
    answer = await client.ask("POST", "/rollback/1", X_Telemetry_By="Ada")
    assert (answer.status, answer.body["generation"]) == (200, 10)
    assert answer.body["changes"] == {"one.a": {"old": 2, "new": 1}}
    assert asked(two, "rollback") == [("rollback", 1, ADA)]


async def test_a_generation_that_nobody_keeps_is_not_found(client, one):
    one.answers["rollback"] = ("error", "generation 3 is not kept: those from 5 to 9 are")
    answer = await client.ask("POST", "/rollback/3")
    assert answer.status == 404
    assert (await client.ask("POST", "/rollback/three")).status == 422
    assert (await client.ask("POST", "/rollback/-1")).status == 422


async def test_a_reload_says_what_changed(client, one, two):
    one.answers["reload"] = {"changed": ["a", "b"]}
    answer = await client.ask("POST", "/reload")
    assert answer.body["changed"] == ["one.a", "one.b"]
    assert "scripted_two" in answer.body["errors"]


async def test_a_reload_says_what_does_not_count(client, one, two):
    one.answers["reload"] = {"changed": [], "errors": {"/a.toml": "/a.toml is empty"}}
    two.answers["reload"] = {"changed": ["b"], "errors": {"telemetry.two.a": "telemetry.two.a is refused"}}
    answer = await client.ask("POST", "/reload")
    assert answer.body == {
        "changed": ["two.b"],
        "errors": {"/a.toml": "/a.toml is empty", "telemetry.two.a": "telemetry.two.a is refused"},
    }
