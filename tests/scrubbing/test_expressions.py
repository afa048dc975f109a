"""Regular expressions of users: which are taken, and which would block."""

import time
from collections import Counter

import pytest

from otpylib_telemetry.scrubbing.expressions import PIECE, safe_expression
from otpylib_telemetry.scrubbing.plan import ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import Scrubber


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"hunter2", r"EMP-\d{4,6}", r"\b\d{3}-\d{2}-\d{4}\b", r"(?i)internal-[a-z0-9]+", r"[A-Z]{2}\d+"),
        *(r"[\w.+-]+@[\w-]+\.[\w.]+", r"(?:\d[ -]?){13,16}", r"key=([^&\s]+)", r"(?:[a-z]+\.)+example"),
        *(
            r"\bDE\d{2}(?: ?\d{4}){4} ?\d{2}\b",
            r"secret\s*[:=]\s*\S+",
            r"\d+\.\d+\.\d+\.\d+",
            "(?s)<x>.*?</x>",
        ),
    ],
)
def test_ordinary_expressions_are_taken(pattern):
    assert safe_expression(pattern).pattern == pattern


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"(a+)+$", r"(\w+\s?)*$x", r"([a-zA-Z]+)*\d", r"(a|aa)+$", r"(a|a)*b", r"(.*a){12}x", r"(x+x+)+y"),
        *(
            r"^(([a-z])+.)+[A-Z]([a-z])+$",
            r"(\d+)*!",
            r"(?:a?){30}a{30}",
            r"(.+)+=(.+)+;",
            r"\s*\s*\s*\s*\s*x",
        ),
        *(r"(?:[^x]+)*y", r"(\d\d?)*x", r"(?=(a+)+b)c"),
    ],
)
def test_what_would_block_is_refused_quickly(pattern):
    began = time.thread_time()
    with pytest.raises(ValueError, match="expected a regular expression"):
        safe_expression(pattern)
    assert time.thread_time() - began < 10


@pytest.mark.parametrize("pattern", ["(", "a*", "", "x" * 5_000, "a{1,99999999999}", "[", "|"])
def test_what_is_none_or_finds_nothing_everywhere_is_refused(pattern):
    with pytest.raises(ValueError, match="expected a regular expression"):
        safe_expression(pattern)


def test_a_long_text_is_looked_at_piece_by_piece():
    scrubber = Scrubber(ScrubPlan(scope="own", values=((r"EMP-\d+", None),)), Counter())
    text = "word EMP-123 " * PIECE
    assert scrubber.text(text) == "word <redacted> " * PIECE
    assert scrubber.counts == {"scrub_values[0]": PIECE}
