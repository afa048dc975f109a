"""What is taken out, what stays, and what becomes of what is taken out."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.scrubbing.names import secret_name
from otpylib_telemetry.scrubbing.plan import ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import Scrubber, scrubber_in
from otpylib_telemetry.scrubbing.values import RULES, SHORTEST, is_card, may_hold
from tests.support.secrets import BARE, HARMLESS, HARMLESS_KEYS, KEYS, MARK, texts


def made(**plan):
    return Scrubber(ScrubPlan(**plan), Counter())


@pytest.mark.parametrize("key", KEYS)
def test_what_is_under_a_key_that_names_a_secret_is_masked(key):
    scrubber = made()
    assert scrubber.attributes({"a": 1, key: "x"}) == {"a": 1, key: "<redacted>"}
    assert sum(scrubber.counts.values()) == 1


@pytest.mark.parametrize("key", HARMLESS_KEYS)
def test_what_is_under_another_key_stays(key):
    table = {key: "x"}
    assert made().attributes(table) is table
    assert secret_name(key) is None


@pytest.mark.parametrize("text", [*texts()])
def test_a_text_that_holds_a_secret_is_sent_without_it(text):
    scrubber = made()
    clean = scrubber.text(text)
    assert MARK not in clean
    assert "<redacted>" in clean
    assert scrubber.text(clean) == clean, "scrubbed again, it stays as it is"
    assert MARK not in str(scrubber.value({"a": [text, {"b": text}]}))
    assert MARK.encode() not in scrubber.value(text.encode())


@pytest.mark.parametrize("text", BARE)
def test_what_looks_like_a_number_of_a_card_or_a_key_is_masked(text):
    assert made().text(text) == "<redacted>"
    assert made().text(f"paid with {text}.") == "paid with <redacted>."


def test_a_card_may_be_a_number():
    assert made().attributes({"n": 4111111111111111}) == {"n": "<redacted>"}
    for number in (4111111111111112, 1_700_000_000_000_000_000, 10**18, -5, True, 2.5):
        table = {"n": number}
        assert made().attributes(table) is table


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text):
    table = {"text": text, "list": (text, text)}
    assert made().attributes(table) is table
    assert made().text(text) is text


def test_flags_and_counts_under_such_keys_are_no_secrets():
    table = {"password": True, "token": None, "cookie": "", "max_tokens": 512, "gen_ai.usage.input_tokens": 7}
    assert made().attributes(table) == table
    assert made().attributes({"tokens": "abc", "passcode": 1234}) == {
        "tokens": "<redacted>",
        "passcode": "<redacted>",
    }


def test_a_key_may_be_a_secret_itself():
    assert made().attributes({"Bearer abc.def123": 1}) == {"Bearer <redacted>": 1}


def test_what_is_nested_is_scrubbed_by_its_own_keys():
    assert made().value({"user": {"password": "x", "ids": ({"token": "y"}, 3)}}) == {
        "user": {"password": "<redacted>", "ids": ({"token": "<redacted>"}, 3)}
    }


def test_a_hash_is_the_same_for_the_same_secret_and_tells_nothing_without_its_key():
    one, other = made(action="hash"), made(action="hash", salt="pepper")
    secret = {"password": "x"}
    first = one.attributes(secret)["password"]
    assert (
        first
        == one.attributes({"password": "x"})["password"]
        != one.attributes({"password": "y"})["password"]
    )
    assert first != other.attributes({"password": "x"})["password"]
    assert other.attributes({"password": "x"}) == made(action="hash", salt="pepper").attributes(
        {"password": "x"}
    )
    assert first.startswith("<hmac:")
    assert one.text(f"password={first}") == f"password={first}"


def test_dropped_attributes_are_not_there_and_texts_that_are_none_are_masked():
    scrubber = made(action="drop")
    assert scrubber.attributes({"password": "x", "note": "password=abc", "a": 1}) == {"a": 1}
    assert scrubber.text("password=abc") == "password=<redacted>"
    assert scrubber.labels((("a", "1"), ("token", "x"))) == (("a", "1"),)


def test_own_rules_have_their_own_actions_and_some_keys_are_kept():
    scrubber = made(
        keys=(("*email*", "hash"), ("note", "drop"), ("Nick", None)),
        values=((r"EMP-(\d+)", None), ("hunter2", "drop")),
        keep=("public_token",),
    )
    found = scrubber.attributes(
        {
            "user.EMAIL": "a@b",
            "note": "n",
            "nick": "x",
            "t": "see EMP-12",
            "h": "hunter2",
            "public_token": "t",
        }
    )
    assert found.pop("user.EMAIL").startswith("<hmac:")
    assert found == {"nick": "<redacted>", "t": "see EMP-<redacted>", "public_token": "t"}
    assert scrubber.counts == {
        "scrub_keys[0]": 1,
        "scrub_keys[1]": 1,
        "scrub_keys[2]": 1,
        "scrub_values[0]": 1,
        "scrub_values[1]": 1,
    }


def test_scopes():
    table = {"password": "x", "text": "password=abc", "mine": "y"}
    assert made(scope="keys").attributes(table) == {**table, "password": "<redacted>"}
    assert made(scope="own", keys=(("mine", None),)).attributes(table) == {**table, "mine": "<redacted>"}
    assert scrubber_in({}, ScrubPlan(scope="off")) is None


def test_counts_go_on_where_a_plan_is_changed():
    memory = {}
    scrubber_in(memory, ScrubPlan()).attributes({"password": "x"})
    changed = scrubber_in(memory, ScrubPlan(action="hash"))
    changed.attributes({"password": "x"})
    assert changed.counts == {"password": 2}
    assert scrubber_in(memory, ScrubPlan(action="hash")) is changed


def test_where_two_values_must_not_become_one_they_are_hashed():
    apart = made(keys=(("mine", "drop"),)).apart
    found = {apart.attributes({"password": text})["password"] for text in "ab"}
    assert len(found) == 2
    assert apart.attributes({"mine": "x"})["mine"].startswith("<hmac:")


@given(st.text(max_size=60))
def test_what_is_held_for_harmless_at_a_glance_is_harmless(text):
    if len(text) >= SHORTEST and not may_hold(text):
        assert not any(rule.pattern.search(text) and rule.name != "card" for rule in RULES)


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists)
)
def test_nothing_raises_and_what_is_the_same_stays_the_same_object(value):
    table = {"a": tuple(value) if isinstance(value, list) else value}
    found = made().attributes(table)
    assert found is table or found != table


@given(st.from_regex(r"4[0-9]{14}", fullmatch=True))
def test_one_of_ten_numbers_has_the_check_digit_of_a_card(start):
    assert sum(is_card(f"{start}{digit}") for digit in range(10)) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("a" * 200_000, "0" * 200_000, "=" * 100_000, "a=" * 50_000, "://" * 50_000, "eyJ" * 50_000),
        *(
            "-----BEGIN " * 20_000,
            "'\\" * 50_000,
            "password='" + "x\\" * 50_000,
            "1 " * 50_000,
            "1-" * 50_000,
        ),
        *(
            "Bearer " * 20_000,
            "Cookie:" * 20_000,
            "sk-" * 50_000,
            "password=" * 20_000,
            "password: " * 20_000,
        ),
        *(
            "://" + "@" * 100_000,
            "-----BEGIN PRIVATE KEY-----" * 5_000,
            "password='" * 20_000,
            "eyJ" + "a" * 100_000,
        ),
        *("Bearer " + "a" * 100_000, "\"'" * 50_000 + "=", "a-" * 50_000 + ":", "A" * 100_000 + "="),
    ],
    ids=lambda text: text[:12],
)
def test_the_time_is_in_proportion_to_the_length(text):
    began = time.thread_time()
    made().text(text)
    assert time.thread_time() - began < 10
