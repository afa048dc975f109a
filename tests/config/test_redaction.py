"""What a secret looks like in other people's texts, and what is left of it there."""

import pytest
from pydantic import SecretStr

from otpylib_telemetry.config.redaction import scrubbed, scrubber, secret_texts
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
