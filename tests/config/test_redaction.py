"""What a secret looks like in other people's texts, and what is left of it there."""

import time

import pytest
from pydantic import SecretStr

from otpylib_telemetry.config.live import MESSAGE, LiveConfig
from otpylib_telemetry.config.redaction import (
    hide_in_url,
    hide_in_value,
    scrubbed,
    scrubber,
    secret_texts,
    without_secrets,
)
from otpylib_telemetry_otel.settings.model import OtelSettings
from otpylib_telemetry_prometheus.endpoint.access import Login


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        (None, set()),
        (True, set()),
        ("abc", set()),
        ("abcd", {"abcd"}),
        (9464, {"9464"}),
        (b"token", {"token"}),
        (SecretStr("hunter2"), {"hunter2"}),
        ({"key": "value", "n": 1}, {"value"}),
        (["first", ("second",)], {"first", "second"}),
        ({"username": "someone", "password": SecretStr("hunter2")}, {"hunter2"}),
        (Login("someone", SecretStr("hunter2")), {"hunter2"}),
        ("Host.internal:4317", {"Host.internal:4317", "host.internal"}),
        ("http://h:1/path", {"http://h:1/path"}),
        (
            "https://user:pass@Host.internal:4317/v1",
            {
                "https://user:pass@Host.internal:4317/v1",
                "user:pass@Host.internal:4317",
                "Host.internal:4317",
                "host.internal",
                "user",
                "pass",
            },
        ),
        ("http://[broken", {"http://[broken"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_secret_is_looked_for_in_these_texts(value, texts):
    assert {text for text in secret_texts(value) if len(text) >= 4} == texts
    assert all(len(text) >= 4 for text in secret_texts(value))


def test_the_longest_text_is_replaced_as_a_whole_in_any_case():
    scrub = scrubber(secret_texts("http://Host.internal:4317"))
    assert scrub("to HTTP://HOST.internal:4317/v1, host.internal") == "to <redacted>/v1, <redacted>"


def test_without_secrets_nothing_is_replaced():
    assert scrubber([])("as it was") == "as it was"


def test_what_looks_like_a_pattern_is_a_text():
    assert scrubber(["a.*(b"])("xa.*(b aXXb") == "x<redacted> aXXb"


def test_only_string_values_of_plain_data_are_scrubbed():
    data = {"secret": "a secret", "n": 1, "list": ["secret", None], "pair": ("secret", 2.0)}
    assert scrubbed(data, scrubber(["secret"])) == {
        "secret": "a <redacted>",
        "n": 1,
        "list": ["<redacted>", None],
        "pair": ("<redacted>", 2.0),
    }


@pytest.mark.parametrize(
    "part",
    ["x", "token", "api", "api-", "a:", "://", "://a@base64/", "a@", "@base64/", " ", "token ", "token='",
     'token="', "bearer ", "bearer '", "?", "?#", "? ", "_", "'", "=", "token=", "pass"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "'", "://", "@ ", "=", "\u20ac"])
def test_no_text_however_odd_takes_long(part, end):
    """A search that is quadratic takes minutes for these."""
    long = part * (200_000 // len(part)) + end
    for read in (hide_in_url, hide_in_value, without_secrets):
        began = time.process_time()
        read(long)
        assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to http://me:a/b@h/x and amqp://you:c@i", "to http://<redacted>@h/x and amqp://<redacted>@i"),
        ("http://h/job@base64/aGk", "http://h/job@base64/aGk"),
        ("x://a:b@h/y://c:d@i", "x://<redacted>@i"),
        ("{'dbPassword': 'a b', 'n': 1}", "{'dbPassword': <redacted>, 'n': 1}"),
        ("private key: x, my_token_of_today = y", "private key: <redacted>, my_token_of_today = <redacted>"),
        ("tokentoken_api-key=1;author=2", "tokentoken_api-key=<redacted>;author=2"),
    ],
)
def test_what_is_written_like_a_secret_is_hidden(text, shown):
    assert without_secrets(text) == shown


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("http://user:pa ss@host:4318", "http://<redacted>@host:4318"),
        (" https://us er:p@ss wo/rd@host/x?key=a", " https://<redacted>@host/x?<redacted>"),
        ("http://user:pa\nss@host", "http://<redacted>@host"),
        ("http://host:4318/a b", "http://host:4318/a b"),
        ("http://host/metrics/job@base64/x y", "http://host/metrics/job@base64/x y"),
        ("a b@c", "a b@c"),
    ],
)
def test_a_blank_does_not_end_the_password_of_a_value(value, told):
    assert hide_in_value(value) == told


def test_a_refused_address_tells_no_password_even_with_a_blank_in_it():
    live = LiveConfig(OtelSettings, "telemetry.otel", {}, {})
    live.change({"endpoint": "http://user:pa ss@host:4318"}, MESSAGE)
    told = str([problem.message for problem in live.new_problems()]) + str(
        [entry.as_dict() for entry in live.entered.history.entries()]
    )
    assert "without blanks" in told
    assert "pa ss" not in told
    assert "user:" not in told
