"""What comes from outside is read in one pass: each of these would take hours if the work grew faster."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.tracing.headers import read_baggage, read_tracestate
from otpylib_telemetry.tracing.propagation import parse_traceparent
from otpylib_telemetry_otel.sampling.head import adjusted_count
from otpylib_telemetry_prometheus.endpoint.access import Login
from otpylib_telemetry_prometheus.exposition import negotiation
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC, OPENMETRICS
from otpylib_telemetry_prometheus.exposition.pieces import Wanted
from otpylib_telemetry_prometheus.exposition.text import after_labels, before_labels
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import declare

#: Forty thousand million steps, where each of so many characters had all the others looked at.
MANY = 200_000

PATTERNS = [
    ",",
    ";",
    '"',
    '",',
    '";',
    '","',
    'a="',
    "\\",
    '"\\',
    '\\"',
    ",;",
    "=",
    "q=0.",
    " ",
    "a;q=1,",
    "é",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("end", ["", '"', ","])
def test_a_header_is_read_in_one_pass(monkeypatch, pattern, end):
    monkeypatch.setattr(negotiation, "_MAX_HEADER", 10 * MANY)
    header = pattern * (MANY // len(pattern)) + end
    assert negotiation.choose(header) is CLASSIC
    assert negotiation.takes_gzip(header) is False


def test_what_follows_a_quoted_string_counts_and_what_is_in_it_does_not():
    assert negotiation.choose('text/plain;a=",application/openmetrics-text,"') is CLASSIC
    assert negotiation.choose('a/b;a=",;\\",\\\\",application/openmetrics-text') is OPENMETRICS
    assert negotiation.choose(";" * 4_000 + ",application/openmetrics-text") is OPENMETRICS
    assert negotiation.choose('a="b",' * 100 + "application/openmetrics-text") is OPENMETRICS


@given(st.lists(st.text(alphabet="ab=; ", max_size=5), max_size=8))
def test_commas_outside_of_quotes_separate_alternatives(parts):
    found = list(negotiation._alternatives(",".join(parts)))
    assert [";".join(alternative) for alternative in found] == (parts or [""])


@pytest.mark.parametrize("text", ["a", " ", "=", "é", "\x00"])
def test_a_login_is_compared_in_one_pass(text):
    login = Login("scraper", SecretStr("secret"))
    assert not login.admits("Basic " + text * MANY)
    assert not login.admits(text * MANY)
    assert not login.admits("Basic " + base64.b64encode(b"scraper:secret" + b"\0" * MANY).decode())
    assert login.admits("  basic   " + base64.b64encode(b"scraper:secret").decode() + " " * MANY)


@pytest.mark.parametrize("text", ["-", "0", "00-", "ab", "\n", "=", ",", ";", " "])
def test_trace_context_is_read_in_one_pass(text):
    known = f"01-{'a' * 32}-{'b' * 16}-01"
    assert parse_traceparent(text * MANY) is None
    # Longer than OpenTelemetry reads.
    assert parse_traceparent(f"{known}-{text * MANY}") is None
    assert parse_traceparent(f"00-{'a' * 32}-{'b' * 16}-01{text * MANY}") is None
    assert read_tracestate(text * MANY) == read_baggage(text * MANY) == ""
    assert adjusted_count(text * MANY, 1) is None


def test_names_in_a_query_are_looked_up():
    only = Wanted([f"name_{number}" for number in range(200_000)]).of_family()
    text = "".join(f"other_{number} 1\n" for number in range(200_000))
    assert only(text) == ""
    assert only("name_7 1\n") == "name_7 1\n"


@given(name=st.text(min_size=1, max_size=6), label=st.sampled_from([(), (("a", 'x{} "\\'),)]))
def test_a_name_in_a_query_finds_its_sample_and_no_other(name, label):
    store = SeriesStore(10)
    declare.gauge(store, name, "").at(label).set(1)
    declare.gauge(store, f"{name}x", "").at(label).set(1)
    for form in (negotiation.CLASSIC_UTF8, negotiation.OPENMETRICS_UTF8):
        whole = b"".join(Exposition().render(form, [store])).decode()
        starts = (before_labels(name), after_labels(name) + " ")
        expected = [line for line in whole.split("\n")[:-1] if line.startswith(starts)]
        page = b"".join(Exposition().render(form, [store], names=[name])).decode()
        assert [line for line in page.split("\n")[:-1] if not line.startswith("#")] == expected
