"""What is no secret stays, whatever chance makes of it, and costs next to nothing to look at."""

import base64
import datetime as dt
import random
import uuid
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.scrubbing.names import may_name, secret_name
from otpylib_telemetry.scrubbing.plan import ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import Scrubber
from otpylib_telemetry_otel.attributes import are_harmless, note_harmless, sorted_out
from otpylib_telemetry_otel.signals.scrubbing import scrub_span
from otpylib_telemetry_otel.traces.limits import Limit, SpanLimits
from otpylib_telemetry_otel.traces.spans import FinishedSpan, SpanEvent
from tests.support.random_traces import Anything
from tests.support.secrets import KEYS, MARK


def made(**plan):
    return Scrubber(ScrubPlan(**plan), Counter())


def chance(draw):
    """Yield texts that are ids, times and bytes."""
    some = draw.randbytes(draw.randint(1, 60))
    number = draw.getrandbits(128)
    yield some.hex()
    yield base64.b64encode(some).decode()
    yield base64.urlsafe_b64encode(some).decode()
    yield base64.b32encode(some).decode()
    yield some.decode("latin-1")
    yield str(uuid.UUID(int=number))
    yield uuid.UUID(int=number).hex
    yield f"00-{number:032x}-{draw.getrandbits(64):016x}-01"
    yield dt.datetime.fromtimestamp(draw.uniform(0, 2e9), dt.UTC).isoformat()
    yield str(int(draw.uniform(1e9, 2e9) * 10 ** draw.randint(0, 9)))
    yield str(draw.getrandbits(64))
    yield str(draw.uniform(-1e9, 1e9))
    yield f"10.{number % 256}.0.1:{draw.randint(1, 65535)}"


def test_what_chance_makes_stays_as_it_is():
    scrubber, draw = made(), random.Random(7)
    for _ in range(3_000):
        for text in chance(draw):
            assert scrubber.text(text) is text
    anyone = Anything("scrubbing")
    for _ in range(5_000):
        table = anyone.attributes()
        assert scrubber.attributes(table) is table, table


@given(st.binary(min_size=1, max_size=200), st.integers(-(2**63), 2**63 - 1), st.floats())
def test_bytes_and_numbers_stay(some, number, fraction):
    table = {"a": base64.b64encode(some).decode(), "b": some.hex(), "n": fraction, "t": number % 10**14}
    assert made().attributes(table) is table


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        *(("token_count", None), ("tokens_used", None), ("password_length", None), ("token", "token")),
        *(("user.password", "password"), ("userPwd", "password"), ("PWD", "password"), ("xpwd", None)),
        *(("Xpwd9", None), ("#pwd", None), ("api_key_id", None), ("api_key_name", None), ("keys", None)),
        *(("max_token_age", None), ("password2", "password"), ("secret_name", None), ("cookies", "cookie")),
        *(("author", None), ("cvv", "card"), ("smtp.pass", "password"), ("bypass", None), ("jwt", None)),
    ],
)
def test_what_a_key_names(key, rule):
    found = secret_name(key)
    assert (None if found is None else found.rule) == rule


@pytest.mark.parametrize("key", KEYS)
def test_no_name_of_a_secret_is_overlooked_at_a_glance(key):
    assert may_name(key.lower().replace("_", "").replace("-", ""))


def test_equal_keys_and_texts_are_looked_at_once():
    scrubber, asked = made(), []
    holds = scrubber.holds
    scrubber.holds = lambda text: asked.append(text) or holds(text)
    none = frozenset()

    def table(number):
        # Equal, but not the same objects.
        key, value = "route {}".format(""), "/orders{}".format("")
        return {key: value, "id": f"{number:032x}", "n": number, "f": 0.5}

    for number in range(3):
        sorted_out(table(number), none, none)
        note_harmless(table(number), none, scrubber)
    asked.clear()
    for number in range(100):
        assert are_harmless(table(number), none, scrubber)
        assert scrubber.attributes(one := table(number)) is one
    assert asked in ([], ["/orders"]), "a plain span costs a look at its values and no more"


def test_a_table_with_a_secret_is_never_taken_for_harmless():
    scrubber, none = made(), frozenset()
    for value in ("x", "y"):
        for key, told in (("password", value), ("text", f"password={value}abc"), ("n", 4111111111111111)):
            table = {"route": "/orders", key: told}
            sorted_out(table, none, none)
            note_harmless(table, none, scrubber)
            assert not are_harmless(table, none, scrubber)


@pytest.mark.parametrize("length", range(1, 40))
def test_half_a_secret_is_not_left_by_a_limit(length):
    limits = SpanLimits(Limit(None, length), Limit(None, length), Limit(None, length))
    secret = f"ghp_{MARK}abcdefghijklmnopqrstuvwxyz012345"
    span = FinishedSpan("a", 1, 2, 0, None, 1, {"text": secret}, end_ns=2)
    span.events = [SpanEvent("e", 1, {"text": secret})]
    span.incomplete = "ttl"
    scrubber = made()
    assert not span.seal(limits, scrubber)
    scrub_span(span, scrubber, limits)
    assert span.attributes == {"text": "<redacted>"[:length], "otpylib.telemetry.incomplete": "ttl"}
    assert span.events[0].attributes == {"text": "<redacted>"[:length]}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("shop --password hunter2 --port 80", "shop --password <redacted> --port 80"),
        ("shop --password=hunter2", "shop --password=<redacted>"),
        ("mysql -h db --db-password 'a b'", None),
        ("Basic dXNlcjpodW50ZXIy", "Basic <redacted>"),
        ("Basic characterization", None),
        ("bearer internationalization", "bearer internationalization"),
        ("password: must be longer", None),
        ("token = get_token(user)", None),
        ("password = config['password']", None),
        ("paid with 4111 1111 1111 1111 today", "paid with <redacted> today"),
        ("4111 1111-1111 1111", None),
        ("id 41111111111111111111", None),
        ("https://user@example.com/a", None),
        ("ssh://git@github.com/a/b", None),
        ("mongodb://joe:p/w@db/x", "mongodb://<redacted>@db/x"),
        ("http://h:80/a@b", None),
    ],
)
def test_what_becomes_of_texts(text, clean):
    assert made().text(text) == (text if clean is None else clean)


def test_options_of_a_command_line_are_read_word_by_word():
    found = made().value(("shop", "--password", "hunter2", "--port", "80", "--token=abcdef"))
    assert found == ("shop", "--password", "<redacted>", "--port", "80", "--token=<redacted>")
