import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry_prometheus.exposition.negotiation import (
    CLASSIC,
    CLASSIC_UTF8,
    OPENMETRICS,
    OPENMETRICS_UTF8,
    choose,
    takes_gzip,
)

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_42_NATIVE_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3_LEGACY_NAMES = PROMETHEUS_3.replace("allow-utf-8", "underscores")
PROMETHEUS_3_CLASSIC_FIRST = (
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_2_42, OPENMETRICS),
        (PROMETHEUS_2_42_NATIVE_HISTOGRAMS, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS_UTF8),
        (PROMETHEUS_3_LEGACY_NAMES, OPENMETRICS),
        (PROMETHEUS_3_CLASSIC_FIRST, CLASSIC_UTF8),
        (BROWSER, CLASSIC),
        ("", CLASSIC),
        ("*/*", CLASSIC),
        ("text/*", CLASSIC),
        ("text/plain", CLASSIC),
        ("text/plain; version=0.0.4; charset=utf-8", CLASSIC),
        ("text/plain;version=0.0.4;escaping=allow-utf-8", CLASSIC_UTF8),
        ("text/plain;version=1.0.0;escaping=dots", CLASSIC),
        ("application/openmetrics-text", OPENMETRICS),
        ('APPLICATION/OpenMetrics-Text ; Version="1.0.0" ; Q=1.000', OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", CLASSIC),
        ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", CLASSIC),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.8", CLASSIC),
        ("application/openmetrics-text;q=0.8,text/plain;q=0.2", OPENMETRICS),
        ("text/plain,application/openmetrics-text", CLASSIC),
        ("application/openmetrics-text;q=0,*/*;q=0.1", CLASSIC),
        ("application/openmetrics-text;q=0", CLASSIC),
        ("application/json", CLASSIC),
    ],
)
def test_the_format_is_the_one_the_scraper_likes_best(accept, expected):
    assert choose(accept) is expected


@pytest.mark.parametrize(
    "accept",
    [
        ",",
        ";",
        ";;q",
        "q=1",
        "application/openmetrics-text;q=high",
        'application/openmetrics-text;version="1.0.0',
        "application/openmetrics-text;version",
        "a/b;q=0.5;q=0.7,/,;=;",
        '"' * 5_000,
        "a," * 50_000,
        'a="' * 40,
    ],
)
def test_a_malformed_header_still_gets_a_page(accept):
    assert choose(accept) in {CLASSIC, OPENMETRICS}
    assert takes_gzip(accept) in {True, False}


@given(st.text(alphabet='abq*/;,="= 01.\\\x00é', max_size=60))
def test_no_header_fails_a_scrape(header):
    choose(header)
    takes_gzip(header)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("x-gzip", True),
        ("GZip;q=0.5", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("*", True),
        ("br, *;q=0.1", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity;q=1, gzip;q=0.5", False),
        ("br, deflate", False),
    ],
)
def test_a_page_is_compressed_for_who_likes_it_no_less(accept_encoding, expected):
    assert takes_gzip(accept_encoding) is expected


def test_what_is_sent_says_its_format():
    assert CLASSIC.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert CLASSIC_UTF8.content_type == "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
    assert OPENMETRICS.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert OPENMETRICS_UTF8.content_type == OPENMETRICS.content_type + "; escaping=allow-utf-8"
