"""The semantic conventions of HTTP: names, attributes, and nothing that is a secret."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.instrument import http, served
from otpylib_telemetry.instrument.aiohttp import middleware as aiohttp_middleware
from otpylib_telemetry.instrument.asgi import TelemetryMiddleware as AsgiMiddleware
from otpylib_telemetry.instrument.wsgi import TelemetryMiddleware as WsgiMiddleware


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("GET", {"http.request.method": "GET"}),
        ("QUERY", {"http.request.method": "QUERY"}),
        ("BREW", {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
        ("get", {"http.request.method": "_OTHER", "http.request.method_original": "get"}),
        ("", {"http.request.method": "_OTHER", "http.request.method_original": ""}),
    ],
)
def test_methods_that_nobody_knows_share_one_name(method, told):
    assert http.method_attributes(method, http.known_methods()) == told


def test_other_methods_are_known_where_the_variable_names_them(monkeypatch):
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "BREW, GET")
    assert http.known_methods() == {"BREW", "GET"}


@pytest.mark.parametrize(
    ("method", "route", "name"),
    [
        ("GET", "/users/{id}", "GET /users/{id}"),
        ("GET", None, "GET"),
        ("_OTHER", "/x", "HTTP /x"),
        ("_OTHER", None, "HTTP"),
    ],
)
def test_a_span_is_named_by_method_and_route(method, route, name):
    assert http.span_name(method, route) == name


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("q=tea&page=2", "q=tea&page=2"),
        ("token=abc&q=1", "token=REDACTED&q=1"),
        ("X-Amz-Signature=a&X-Goog-Signature=b", "X-Amz-Signature=REDACTED&X-Goog-Signature=REDACTED"),
        ("X-Amz-Credential=a&sig=c", "X-Amz-Credential=REDACTED&sig=REDACTED"),
        ("AWSAccessKeyId=a", "AWSAccessKeyId=REDACTED"),
        ("PassWord=a%20b;x=1", "PassWord=REDACTED;x=1"),
        ("api_key=1&apikey=2&api-key=3", "api_key=REDACTED&apikey=REDACTED&api-key=REDACTED"),
        ("%74oken=abc", "%74oken=REDACTED"),
        ("author=kafka&monkey=1&passenger=2", "author=kafka&monkey=1&passenger=2"),
        ("token=", "token="),
        ("token", "token"),
        ("client_secret=a=b", "client_secret=REDACTED"),
    ],
)
def test_a_query_is_shown_without_what_is_named_like_a_credential(given, shown):
    assert http.scrubbed(given) == shown


@given(
    st.sampled_from(["token", "sig", "password", "Api-Key", "session_id"]), st.text("abc123%=+", min_size=9)
)
def test_no_value_of_a_credential_is_shown(name, value):
    assert value not in http.scrubbed(f"a=1&{name}={value}&b=2")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "http://me:secret@shop.test:81/a?token=1#x",
            "http://REDACTED:REDACTED@shop.test:81/a?token=REDACTED#x",
        ),
        ("http://me@shop.test", "http://REDACTED:REDACTED@shop.test"),
        ("http://shop.test/a@b?q=1", "http://shop.test/a@b?q=1"),
    ],
)
def test_a_url_is_shown_without_credentials(url, shown):
    assert http.full_url(url) == shown


@pytest.mark.parametrize(
    "part",
    ["x", "=", "&", ";", "x=", "=x", "token", "token=", "token=a&", "a;b&", "%", "%74", "pass", "://", "@",
     "?", "#", "/", "auth", "\u20ac", "a=b=c"],
)  # fmt: skip
def test_no_query_however_long_takes_long_or_is_kept_whole(part):
    """A search that is quadratic takes minutes for these."""
    long = part * (1_000_000 // len(part))
    for read in (http.scrubbed, http.full_url, lambda text: http.full_url(f"http://h/?{text}")):
        began = time.process_time()
        shown = http.bounded({"url": read(long)})["url"]
        assert time.process_time() - began < 5
        assert len(shown) < 10_000


@given(st.text("ab=&;%t", max_size=30), st.integers(0, 9000))
def test_what_is_cut_off_of_a_query_shows_no_credential(before, length):
    shown = http.scrubbed(f"{'x' * length}&token={'s3cret' * 2000}&{before}")
    assert "s3" not in shown


def test_of_attributes_no_text_is_longer_than_it_may_be():
    given_ = {"a": "x" * 8192, "b": "x" * 8193, "c": 10**9, "d": None}
    assert http.bounded(given_) == {**given_, "b": "x" * 8192 + "..."}


def test_an_expression_for_paths_reads_no_endless_path(monkeypatch):
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "client/.*/info")
    is_out = http.excluder(())
    began = time.process_time()
    assert not is_out("client/" * 30_000)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("host", "scheme", "told"),
    [
        ("shop.test", "http", ("shop.test", 80)),
        ("shop.test:8443", "https", ("shop.test", 8443)),
        ("[::1]:99", "http", ("::1", 99)),
        ("shop.test", "other", ("shop.test", None)),
        ("shop.test:port", "http", (None, None)),
        ("[", "http", (None, None)),
        ("", "http", (None, None)),
        (None, "http", (None, None)),
    ],
)
def test_a_server_is_told_by_the_host_it_was_asked_for(host, scheme, told):
    found = http.authority(host, scheme)
    assert (found.get("server.address"), found.get("server.port")) == told


@pytest.mark.parametrize(
    ("exclude", "out", "within"),
    [
        ("/healthz", ["/healthz"], ["/healthz/x", "/", "/x/healthz"]),
        ("/healthz,/static/*", ["/healthz", "/static/a/b.js"], ["/statics"]),
        (["/a?", "*.png"], ["/ab", "/x/y.png"], ["/a", "/x.pn"]),
        (lambda path: path == "/x", ["/x"], ["/y"]),
    ],
)
def test_requests_are_left_out_by_their_path(exclude, out, within):
    is_out = http.excluder(exclude)
    assert [path for path in [*out, *within] if is_out(path)] == out


def test_nothing_is_left_out_by_default():
    assert http.excluder(()) is None


@pytest.mark.parametrize("wrong", [3, None, [1], {"/x": 1}.items()])
def test_what_is_no_pattern_is_refused_where_it_is_given(wrong):
    with pytest.raises(TypeError, match="exclude: patterns over the path"):
        http.excluder(wrong)


def test_the_variable_of_opentelemetry_leaves_requests_out_too(monkeypatch, caplog):
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "client/.*/info,healthcheck,[,")
    is_out = http.excluder("/own")
    assert [is_out(path) for path in ("/client/7/info", "/my/healthcheck", "/own", "/other")] == [
        True,
        True,
        True,
        False,
    ]
    assert "OTEL_PYTHON_EXCLUDED_URLS: '[' is no regular expression" in caplog.text


@pytest.mark.parametrize("wrong", [3, "text", [len], object()])
@pytest.mark.parametrize("middleware", [AsgiMiddleware, WsgiMiddleware])
def test_what_is_no_function_is_refused_where_it_is_given(middleware, wrong):
    kind = type(wrong).__name__
    for missing in (wrong, None):
        with pytest.raises(
            TypeError, match=rf"^app: expected an? \w+ application, got {type(missing).__name__}$"
        ):
            middleware(missing)
    with pytest.raises(TypeError, match=f"^route: expected a function of the \\w+, got {kind}$"):
        middleware(len, route=wrong)


@pytest.mark.parametrize("given", [(3,), (None, len), (3, len), ("/healthz",), (len, 3)])
def test_the_middleware_of_aiohttp_takes_nothing_but_its_settings(given):
    with pytest.raises(TypeError, match=r"^middleware: expected nothing but exclude="):
        aiohttp_middleware(*given)


def test_whoever_asks_for_another_middleware_gets_one():
    assert aiohttp_middleware(exclude="/healthz") is not aiohttp_middleware


def test_the_function_that_fails_is_named(caplog):
    served._said.clear()
    for part in (served.EXCLUSION, served.ROUTE):
        assert served.guarded(lambda part=part: {}[part], part=part) is None
        served._said.clear()
    assert "without regard to exclude (KeyError" in caplog.text
    assert "given as route" in caplog.text
