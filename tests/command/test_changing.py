"""``set``, ``history``, ``rollback``, ``reload`` and ``reset``: what they ask for and make of it."""

import time

import pytest

from otpylib_telemetry.admin.models.changes import (
    Change,
    Changed,
    Configuration,
    History,
    HistoryEntry,
    Probed,
    Reloaded,
    Section,
    Value,
)
from otpylib_telemetry.admin.models.state import BreakerReset
from otpylib_telemetry.command.set import changes_of, parsed
from tests.support.operated import said
from tests.support.standin import standing_in


@pytest.fixture
def api(monkeypatch):
    monkeypatch.delenv("TELEMETRY_ADMIN_TOKEN", raising=False)
    with standing_in({}) as found:
        yield found


def asked(api, *arguments):
    return said(*arguments, "--url", api.url)


PATCH = "PATCH", "/config"
APPLIED = Changed(
    outcome="applied",
    generation=7,
    changes={"otel.sampling_rate": Change(old=1.0, new=0.25)},
    overrode={"otel.sampling_rate": "file /etc/shop/config.toml"},
)


class TestSet:
    def test_a_change_that_is_in_force(self, api):
        api.answers[PATCH] = APPLIED
        found = asked(api, "set", "telemetry.otel.sampling_rate", "0.25")
        assert api.asked == [("PATCH", "/config", {}, {"otel.sampling_rate": 0.25})]
        assert (found.status, found.out.splitlines()) == (
            0,
            [
                "otel.sampling_rate: 1.0 -> 0.25",
                "otel.sampling_rate was from: file /etc/shop/config.toml",
                "in force (generation 7)",
            ],
        )

    def test_for_a_while(self, api):
        api.answers[PATCH] = APPLIED.model_copy(update={"reverts_at": time.time() + 600})
        found = asked(api, "set", "otel.sampling_rate", "1.0", "--for", "10m")
        assert api.asked[0][2] == {"for": "600.0"}
        assert "it takes itself back at " in found.out

    def test_a_dry_run_says_what_would_happen(self, api):
        api.answers[PATCH] = Changed(
            outcome="would_apply",
            changes={"otel.endpoint": Change(old="http://a", new="http://b")},
            effects=["otel: one connection is opened anew"],
            probes={"otel": Probed(ok=False, reason="connection refused")},
        )
        found = asked(api, "set", "otel.endpoint", "http://b", "--dry-run")
        assert api.asked[0][2:] == ({"dry_run": "1"}, {"otel.endpoint": "http://b"})
        assert found.status == 1
        assert found.out.splitlines() == [
            'otel.endpoint: "http://a" -> "http://b"',
            "otel: one connection is opened anew",
            "otel, the new destination: it does not answer: connection refused",
            "dry run: this would be applied",
        ]

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [("applied", 0), ("would_apply", 0), ("pending", 1), ("superseded", 1), ("would_reject", 1)],
    )
    def test_the_exit_status_says_whether_it_is_good(self, api, outcome, status):
        api.answers[PATCH] = Changed(outcome=outcome, changes={})
        assert asked(api, "set", "otel.timeout", "5").status == status
        found = asked(api, "--json", "set", "otel.timeout", "5")
        assert (found.status, found.json["outcome"]) == (status, outcome)

    def test_what_is_refused_is_told_with_everything_that_is_wrong(self, api):
        problem = {
            "status": 422,
            "title": "Unprocessable Entity",
            "detail": "telemetry.otel.sampling_rate (5, an integer) is refused",
            "expected": "a number from 0 to 1",
            "faults": [{"where": "body", "what": "telemetry.otel.timeout is refused"}],
        }
        api.answers[PATCH] = 422, problem
        found = asked(api, "set", "otel.sampling_rate", "5", "otel.timeout", "-1")
        assert (found.status, found.out) == (1, "")
        assert found.err == (
            "otpylib-telemetry set: telemetry.otel.sampling_rate (5, an integer) is refused; expected: a "
            "number from 0 to 1\ntelemetry.otel.timeout is refused\n"
        )

    def test_several_keys_are_one_change_and_may_be_taken_back(self, api):
        api.answers[PATCH] = APPLIED
        asked(api, "set", "otel.endpoint", "http://c:4318", "otel.protocol", "http/protobuf")
        asked(api, "set", "otel.endpoint", "otel.protocol", "--take-back")
        assert [each[3] for each in api.asked] == [
            {"otel.endpoint": "http://c:4318", "otel.protocol": "http/protobuf"},
            {"otel.endpoint": None, "otel.protocol": None},
        ]

    def test_something_is_added_to_a_list(self, api):
        api.answers[PATCH] = APPLIED
        keys = {"drop_labels": Value(value=["error"], origin="default"), "port": Value(value=1, origin="put")}
        section = Section(name="p", section="telemetry.p", generation=1, keys=keys, problems=[])
        api.answers["GET", "/config"] = Configuration(sections={"p": section}, files={})
        asked(api, "set", "p.drop_labels", "customer", "--add")
        asked(api, "set", "p.drop_labels", '["error", "a", "b"]', "--add")
        changes = [body for method, _, _, body in api.asked if method == "PATCH"]
        assert changes == [{"p.drop_labels": ["error", "customer"]}, {"p.drop_labels": ["error", "a", "b"]}]
        found = asked(api, "set", "p.port", "5", "--add")
        assert (found.status, found.err) == (2, "otpylib-telemetry set: --add: p.port is no list\n")
        assert asked(api, "set", "x.y", "5", "--add").status == 2

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["otel.endpoint"], "otel.endpoint has no value"),
            (["endpoint", "http://c"], "expected a key with its section"),
            (["otel.", "1"], "expected a key with its section"),
            (["otel.timeout", "5", "--for", "soon"], "--for: expected a time"),
        ],
    )
    def test_wrong_use(self, api, arguments, message):
        found = asked(api, "set", *arguments)
        assert (found.status, api.asked) == (2, [])
        assert message in found.err

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0.5", 0.5),
            ("5", 5),
            ("true", True),
            ('"5"', "5"),
            ("http://localhost:4317", "http://localhost:4317"),
            ('["a", "b"]', ["a", "b"]),
            ("{ a = 1 }", {"a": 1}),
            ("", ""),
            ("gzip", "gzip"),
            ("2026-01-01", "2026-01-01"),
            ("nan", "nan"),
            ("inf", "inf"),
            ("1\nvalue2 = 2", "1\nvalue2 = 2"),
            ("5 # five", 5),
            ("[" * 2000, "[" * 2000),
        ],
    )
    def test_values_are_those_of_toml_and_texts_otherwise(self, text, value):
        found = parsed(text)
        assert (type(found), found) == (type(value), value)
        assert changes_of(["x.y", text]) == {"x.y": value}


def entry(number, **more):
    found = {
        "generation": number,
        "time": 1_700_000_000.0,
        "section": "telemetry.otel",
        "origin": "file /etc/config.toml",
        "changes": {"endpoint": Change(old="http://a", new="http://b"), "timeout": Change(old=10, new=5)},
        "outcome": "applied",
    }
    return HistoryEntry(**{**found, **more})


class TestHistory:
    def test_it_says_who_changed_what_and_what_became_of_it(self, api):
        api.answers["GET", "/history"] = History(
            entries=[
                entry(2),
                entry(3, origin="api", by="ann", outcome="pending", reverts_at=time.time() + 60),
                entry(4, origin="api by ann", by="ann", outcome="rejected", reverted=True),
            ]
        )
        found = asked(api, "history")
        lines = [" ".join(line.split()) for line in found.out.splitlines()]
        day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_700_000_000))
        assert found.status == 0
        assert lines[:3] == [
            "N TIME ORIGIN OUTCOME CHANGE",
            f'2 {day} file /etc/config.toml applied otel.endpoint: "http://a" -> "http://b"',
            "otel.timeout: 10 -> 5",
        ]
        assert lines[3].startswith(f"3 {day} api by ann pending otel.endpoint")
        assert lines[5].startswith("takes itself back at ")
        assert lines[6].startswith(f"4 {day} api by ann rejected otel.endpoint")
        assert lines[8] == "taken back since"

    def test_of_one_section_and_the_last(self, api):
        api.answers["GET", "/history"] = History(entries=[])
        found = asked(api, "history", "otel", "--last", "3")
        assert found.out == "nothing was changed since the application started\n"
        assert api.asked[0][2] == {"section": "otel", "limit": "3"}
        assert asked(api, "history", "--json").json == {"entries": []}
        assert asked(api, "history", "--last", "0").status == 2


class TestRollback:
    def test_it_says_what_is_as_before(self, api):
        api.answers["POST", "/rollback/3"] = APPLIED
        found = asked(api, "rollback", "3")
        assert (found.status, found.out.splitlines()[-1]) == (0, "in force (generation 7)")

    def test_to_what_is_not_kept(self, api):
        api.answers["GET", "/openapi.json"] = (
            200,
            {"paths": {"/rollback/{generation}": {"post": {}}}, "info": {"version": "1"}},
        )
        problem = {"status": 404, "title": "Not Found", "detail": "generation 99 is not kept"}
        api.answers["POST", "/rollback/99"] = 404, problem
        found = asked(api, "rollback", "99")
        assert (found.status, found.err) == (1, "otpylib-telemetry rollback: generation 99 is not kept\n")

    @pytest.mark.parametrize("number", ["x", "1.5", ""])
    def test_wrong_use(self, api, number):
        assert asked(api, "rollback", number).status == 2


def test_reload_says_what_changed(api):
    api.answers["POST", "/reload"] = Reloaded(changed=["otel.endpoint", "otel.timeout"])
    assert asked(api, "reload") == (0, "changed: otel.endpoint, otel.timeout\n", "")
    api.answers["POST", "/reload"] = Reloaded(changed=[])
    assert asked(api, "reload").out == "nothing has changed\n"
    api.answers["POST", "/reload"] = Reloaded(changed=[], errors={"otel_exporter": "it is silent"})
    found = asked(api, "reload")
    assert (found.status, found.out.splitlines()[0]) == (1, "otel_exporter: failed: it is silent")
    assert asked(api, "reload", "--json").status == 1


def test_reset_closes_a_breaker(api):
    api.answers["POST", "/breaker/otel/reset"] = BreakerReset(
        exporter="otel_exporter", was="open", state="closed"
    )
    found = asked(api, "reset", "otel")
    assert (found.status, found.out) == (0, "otel_exporter: the circuit breaker was open, and is closed\n")
    assert asked(api, "reset", "otel", "--json").json["was"] == "open"
