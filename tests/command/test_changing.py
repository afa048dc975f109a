"""``set``, ``history``, ``rollback``, ``reload`` and ``reset``: what they ask for and make of it."""

import pytest

from otpylib_telemetry.admin.models.changes import (
    Change,
    Changed,
    Reloaded,
)
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
    @pytest.mark.parametrize(
        ("outcome", "status"),
        [("applied", 0), ("would_apply", 0), ("pending", 1), ("superseded", 1), ("would_reject", 1)],
    )
    def test_the_exit_status_says_whether_it_is_good(self, api, outcome, status):
        api.answers[PATCH] = Changed(outcome=outcome, changes={})
        assert asked(api, "set", "otel.timeout", "5").status == status
        found = asked(api, "--json", "set", "otel.timeout", "5")
        assert (found.status, found.json["outcome"]) == (status, outcome)

    @pytest.mark.parametrize("problems", [[], ["otel: connection refused"]])
    def test_what_takes_its_time_is_not_called_wrong(self, api, problems):
        change = {"otel.endpoint": Change(old="a", new="b")}
        api.answers[PATCH] = Changed(outcome="pending", changes=change, problems=problems)
        assert ("it is still being tried" in asked(api, "set", "otel.endpoint", "b").out) == (not problems)

    @pytest.mark.parametrize(
        ("found", "words"),
        [
            (Changed(outcome="applied", changes={}), "in force"),
            (Changed(outcome="would_apply", changes={}), "in force"),
            (Changed(outcome="pending", changes={}, problems=["otel: refused"]), "wished already"),
            (Changed(outcome="would_apply", changes={}, effects=["otel: not yet"]), "wished already"),
        ],
    )
    def test_what_is_wished_already_is_not_called_in_force(self, api, found, words):
        api.answers[PATCH] = found
        out = asked(api, "set", "otel.timeout", "5").out
        assert out.splitlines()[0] == f"nothing differs from what is {words}"

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


def test_a_process_that_is_silent_is_told_of(api):
    api.answers["POST", "/reload"] = Reloaded(changed=[], errors={"otel_exporter": "it is silent"})
    found = asked(api, "reload")
    assert (found.status, found.out.splitlines()[0]) == (1, "otel_exporter: failed: it is silent")
    assert asked(api, "reload", "--json").status == 1


def test_a_file_that_cannot_be_read_and_a_value_that_is_refused_are_told_of(api):
    errors = {"/etc/a.toml": "/etc/a.toml does not exist", "telemetry.x.y": "telemetry.x.y (3) is refused"}
    api.answers["POST", "/reload"] = Reloaded(changed=[], errors=errors)
    found = asked(api, "reload")
    assert found.status == 1
    assert found.out.splitlines() == [f"failed: {text}" for text in errors.values()]
    api.answers["POST", "/reload"] = Reloaded(changed=["x.z"], errors=errors)
    assert asked(api, "reload").out.splitlines()[2:] == ["changed: x.z"]
    api.answers["POST", "/reload"] = Reloaded(changed=[])
    assert asked(api, "reload").out.splitlines() == ["nothing has changed"]


@pytest.mark.parametrize("number", ["x", "1.5", "", "0", "-1"])
def test_a_number_that_is_of_no_change(api, number):
    assert asked(api, "rollback", "--", number).status == 2
    assert asked(api, "history", "--last", "0").status == 2
    assert api.asked == []
