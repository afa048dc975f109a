"""Assertions that are given something else: one clear line, and never an error of some other code's."""

import gzip
import io
import re

import pytest

from otpylib_telemetry_mock import (
    assert_emitted,
    assert_metric,
    assert_span,
    assert_span_tree,
    assert_spans_balanced,
    refute_emitted,
    span_tree,
    wait_for,
)

CLASSIC = '# HELP a It counts.\n# TYPE a counter\na_total{country="de"} 3\nb 1.5\n'
OPENMETRICS = (
    '# TYPE a counter\na_total{country="de"} 3 # {trace_id="1f"} 1.0\n# TYPE b gauge\nb 1.5\n# EOF\n'
)


class Response:
    """What HTTP clients return."""

    status_code = 200
    text = CLASSIC
    content = CLASSIC.encode()


async def _coroutine():
    return []


class Body:
    """What ``urlopen`` returns."""

    def __iter__(self):
        return iter([b"a 1\n"])

    def read(self):
        return b"a 1\n"


class Awaitable:
    def __await__(self):
        yield


#: Nothing that spans, metrics or events could be looked for in.
NO_SOURCE = [
    None,
    3,
    2.5,
    True,
    object(),
    Response(),
    Response,
    {"a": 1},
    Body(),
    [None],
    ["a 1"],
    [b"a"],
    [{}],
    ({"name": "a"},),
    {"a"},
    Awaitable(),
    _coroutine,
    list,
]

ASSERTIONS = [
    lambda source: assert_metric(source, "a"),
    lambda source: assert_span(source, "a"),
    lambda source: assert_span(source, "a", count=0),
    lambda source: assert_span_tree(source, "a"),
    span_tree,
    lambda source: assert_emitted(source, "a"),
    lambda source: refute_emitted(source, "a"),
    assert_spans_balanced,
]


@pytest.mark.parametrize("check", ASSERTIONS, ids=range(len(ASSERTIONS)))
@pytest.mark.parametrize("source", NO_SOURCE, ids=range(len(NO_SOURCE)))
def test_what_is_no_source_is_named_in_one_line(check, source):
    with pytest.raises(TypeError) as refused:
        check(source)
    text = str(refused.value)
    assert "\n" not in text
    assert re.search("looked for in|an event is a dict", text)
    assert "not awaited" in text or not isinstance(source, Awaitable)


@pytest.mark.parametrize("check", ASSERTIONS[1:], ids=range(1, len(ASSERTIONS)))
@pytest.mark.parametrize("source", ["", "a 1\n", b"", b"a 1\n"])
def test_a_page_has_neither_spans_nor_events(check, source):
    with pytest.raises(TypeError, match="looked for in"):
        check(source)


def test_of_a_response_the_text_is_asked_for():
    with pytest.raises(TypeError, match=r"the text of a metrics page \(here: its text\), not in"):
        assert_metric(Response(), "a")
    with pytest.raises(TypeError, match=r"\(here: its read\)"):
        assert_metric(io.BytesIO(b"a 1\n"), "a")


@pytest.mark.parametrize("page", [CLASSIC, OPENMETRICS, CLASSIC.replace("\n", "\n\n")])
def test_a_page_is_read_in_either_format_as_text_or_bytes(page):
    for given in (page, page.encode()):
        assert assert_metric(given, "a_total", 3, {"country": "de"}) == 3
        assert assert_metric(given, "b") == 1.5


@pytest.mark.parametrize(
    ("page", "culprit"),
    [
        ("b 1\na{b 1\n", "line 2 is 'a{b 1'"),
        ("b 1\na{b 1\n# EOF\n", "line 2 is 'a{b 1'"),
        ("b 1\na one\n", "line 2 is 'a one'"),
        ("<html>not found</html>", "line 1 is '<html>not found</html>'"),
        ('{"error": "not found"}', "line 1 is"),
        ("401 Unauthorized: log in first", "line 1 is"),
        ("# TYPE b gauge\nb 1\n# EOF\nc 1\n# EOF\n", "its 5 lines do not go together"),
        ("a 1 \ud800\n", "line 1 is"),
    ],
)
def test_what_is_no_page_fails_with_the_line_that_is_wrong(page, culprit):
    for given in (page, page.encode(errors="replace")):
        with pytest.raises(
            AssertionError, match=r"what was read is no metrics page: " + re.escape(culprit)
        ) as failed:
            assert_metric(given, "a")
        assert "\n" not in str(failed.value)
        assert str(failed.value).encode()


@pytest.mark.parametrize(
    "page", [b"\x0a\x04demo\x12\x00", gzip.compress(CLASSIC.encode(), mtime=0), b"\xff\xfe", b"a\x00"]
)
def test_bytes_that_are_no_text_fail_with_what_to_ask_for(page):
    with pytest.raises(AssertionError, match="compressed, or protobuf; ask for text/plain"):
        assert_metric(page, "a")


@pytest.mark.parametrize("page", ["", "\n", b"", "# EOF\n", "# HELP a It counts.\n"])
def test_an_empty_page_has_no_series(page):
    with pytest.raises(AssertionError, match="found none"):
        assert_metric(page, "a")


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (lambda: assert_metric(CLASSIC, None), "the name of a metric is a string, not None"),
        (lambda: assert_metric(CLASSIC, b"a"), "the name of a metric is a string, not b'a'"),
        (lambda: assert_metric(CLASSIC, "a", labels="country"), "labels is a mapping of what the series"),
        (lambda: assert_span([], 3), "the name of a span is a string, not 3"),
        (lambda: assert_span([], "a", [1]), "attributes is a mapping of what the span"),
        (lambda: assert_span([], "a", where=3), "where is a function that is given the span, not 3"),
        (lambda: assert_span([], "a", count="1"), "count is a whole number, 0 or more, not '1'"),
        (lambda: assert_span([], "a", count=-1), "count is a whole number, 0 or more, not -1"),
        (lambda: assert_span([], "a", count=True), "count is a whole number"),
        (lambda: assert_span_tree([], None), "a tree of spans is a string, not None"),
        (lambda: assert_span_tree([], "a", attributes="order"), "attributes is a list of names, not 'order'"),
        (lambda: span_tree([], attributes=3), "attributes is a list of names, not 3"),
        (lambda: assert_emitted([], "a", count="1"), "count is a whole number"),
        (lambda: assert_emitted([], "a", at_least=1.5), "at_least is a whole number"),
        (lambda: assert_emitted([], "a", at_most=-1), "at_most is a whole number"),
        (lambda: assert_emitted([], None), "an event pattern is a string, not None"),
        (lambda: assert_spans_balanced([], 3), "an operation's pattern is a string, not 3"),
        (lambda: assert_spans_balanced([], count="1"), "count is a whole number"),
    ],
)
def test_an_expectation_of_another_type_is_named(check, expected):
    with pytest.raises(TypeError, match=re.escape(expected)):
        check()


async def test_waiting_for_what_is_no_number_of_events_is_named():
    with pytest.raises(TypeError, match="at_least is a whole number"):
        await wait_for([], "a", at_least="1")
