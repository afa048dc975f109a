"""Metrics of instrumentations, whose names and labels are fixed; and the time that operations waited."""

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics import standard
from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.automatic.operations import OPEN_TTL_NS
from otpylib_telemetry.metrics.buckets import DURATION_BOUNDS
from otpylib_telemetry.metrics.labels import DROPPED_BY_DEFAULT, LabelRules
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.operation import LocalTrace, Operation

OTHERS = (0.5, 2.0)

#: What an instrumentation knows besides, and what is too much for a label.
NOISE = {
    "pid": "pid-17",
    "stack": "File a.py, line 1",
    "stacktrace": "Traceback",
    "url.path": "/orders/17",
    "url.query": "q=1",
    "client.address": "10.0.0.1",
    "user_agent.original": "curl",
    "lifetime_ms": 12.5,
    "restarts_left": 2,
    "error": "boom 17",
    "trace_id": "0" * 31 + "1",
    "span_id": "0" * 15 + "1",
    "correlation_id": "r-17",
}

HANDLE = {"server": "stock", "module": "shop.stock", "message": "reserve", "kind": "call"}
REQUEST = {"http.request.method": "GET", "url.scheme": "https"}
ANSWER = {"http.route": "/orders/{id}", "http.response.status_code": 200, "network.protocol.version": "1.1"}


class Exit:
    """The automatic metrics of one exit, with shorthand."""

    def __init__(
        self, naming=PROMETHEUS, *, buckets=DURATION_BOUNDS, span_metrics=True, max_series=2000, **rules
    ):
        self.rules = {"labels": None, "drop_labels": DROPPED_BY_DEFAULT, **rules}
        self.store = SeriesStore(max_series)
        self.metrics = AutomaticMetrics(
            self.store,
            OpenOperations(100, OPEN_TTL_NS),
            self.options(buckets, span_metrics=span_metrics),
            naming,
        )
        self.numbers = itertools.count(1)

    def options(self, buckets=DURATION_BOUNDS, *, span_metrics=True):
        return MetricOptions(LabelRules.of(**self.rules), buckets, span_metrics)

    def emit(self, name, measurements, metadata):
        return self.metrics.record([(name, measurements, metadata, 0, 1)])

    def operation(self, name, metadata, *, ms=5.0, seen_open=False, **ending):
        """Record an operation of ``span()``: its beginning, and its end."""
        number = next(self.numbers)
        one = Operation()
        one.name, one.metadata, one.trace, one.span_id = name, dict(metadata), LocalTrace(number), number
        one.at_ns, one.emitter = 1, 1
        if seen_open:
            self.metrics.record([one])
        for key, value in ending.items():
            setattr(one, key, value)
            one.is_plain = False
        one.duration_ms, one.ended_ns = ms, 2
        return self.metrics.record([(one,)] if seen_open else [one, (one,)])

    def bare(self, name, metadata, *, ms=5.0, seen_open=False, final=None, failure=None, measured=None):
        """Emit the same operation as bare events."""
        correlated = {"correlation_id": f"c{next(self.numbers)}", "span_id": None}
        self.emit(f"{name}.start", {}, {**metadata, **correlated})
        ending = {**(metadata if final is None else final), **(failure or {}), **correlated}
        suffix = "success" if failure is None else "error"
        return self.emit(f"{name}.{suffix}", {"duration_ms": ms, **(measured or {})}, ending)

    def page(self):
        """Return metric name -> labels -> the number of the series, or its count and sum."""
        return {
            metric.name: {
                one.labels: ((one.count, one.sum) if hasattr(one, "sum") else one.value)
                for one in metric.all_series()
            }
            for metric in self.store.metrics
            if metric.all_series()
        }

    def only(self, name):
        """Return the labels and the number of the one series of a metric."""
        [(labels, number)] = self.page()[name].items()
        return dict(labels), number


#: Event, what it measures, and its metrics at either exit, with the labels that count.
COUNTED = [
    ("otpylib.process.crashed", "otpylib.process.crashes", ("server", "module", "reason")),
    ("otpylib.process.spawned", "otpylib.process.spawned", ("server", "module")),
    ("otpylib.process.exited", "otpylib.process.exited", ("server", "module", "reason")),
    (
        "otpylib.supervisor.restarted",
        "otpylib.supervisor.restarts",
        ("supervisor", "server", "child", "reason"),
    ),
    ("otpylib.supervisor.gave_up", "otpylib.supervisor.gave_up", ("supervisor", "server", "child", "reason")),
    ("otpylib.message.undelivered", "otpylib.undelivered", ("target", "server")),
]


@pytest.mark.parametrize(("event", "name", "labels"), COUNTED)
@pytest.mark.parametrize("naming", [PROMETHEUS, OPENTELEMETRY], ids=["page", "otlp"])
def test_what_is_counted_has_its_fixed_name_and_its_labels_and_no_others(event, name, labels, naming):
    known = {key: f"a {key}" for key in labels}
    at = Exit(naming)
    assert at.emit(event, {"count": 2, "lifetime_ms": 7.5}, {**NOISE, **known}) == (1, 0)
    at.emit(event, {"count": 1}, {**known, "pid": "another"})
    spelt = f"{name.replace('.', '_')}_total" if naming is PROMETHEUS else name
    assert list(at.page()) == [spelt]
    assert at.only(spelt) == (known, 3)


@pytest.mark.parametrize("way", [Exit.operation, Exit.bare])
@pytest.mark.parametrize("seen_open", [False, True])
def test_a_message_has_its_durations_and_its_waits_under_the_same_labels(way, seen_open):
    at = Exit()
    for _ in range(3):
        way(at, "otpylib.handle", {**NOISE, **HANDLE}, seen_open=seen_open, measured={"wait_ms": 20.0})
    failure = {"error": "no", "error_type": "KeyError", "stacktrace": "..."}
    way(at, "otpylib.handle", {**NOISE, **HANDLE}, failure=failure, measured={"wait_ms": 40})
    page = at.page()
    assert set(page) == {"otpylib_handle_duration_seconds", "otpylib_handle_wait_seconds"}
    well = tuple(sorted({**HANDLE, "outcome": "success"}.items()))
    failed = tuple(sorted({**HANDLE, "outcome": "error", "error_type": "KeyError"}.items()))
    assert page["otpylib_handle_wait_seconds"] == {
        well: (3, pytest.approx(0.06)),
        failed: (1, pytest.approx(0.04)),
    }
    assert page["otpylib_handle_duration_seconds"] == {
        well: (3, pytest.approx(0.015)),
        failed: (1, pytest.approx(0.005)),
    }


def test_over_otlp_the_same_has_dots_and_a_unit():
    at = Exit(OPENTELEMETRY)
    at.operation("otpylib.handle", HANDLE, measured={"wait_ms": 1})
    at.operation("shop.sale", {"country": "de"}, measured={"wait_ms": 1})
    units = {metric.name: metric.unit for metric in at.store.metrics}
    assert units == {
        "otpylib.handle.duration": "s",
        "otpylib.handle.wait": "s",
        "shop.sale.duration": "s",
        "shop.sale.in_flight": "",
        "shop.sale.wait": "s",
    }


@pytest.mark.parametrize("way", [Exit.operation, Exit.bare])
def test_any_operation_that_says_how_long_it_waited_has_a_histogram_of_it(way):
    at = Exit(buckets=OTHERS)
    way(at, "shop.sale", {"country": "de"}, final={"country": "de", "size": "l"}, measured={"wait_ms": 500})
    labels, waited = at.only("shop_sale_wait_seconds")
    assert labels == {"country": "de", "size": "l", "outcome": "success"}
    assert waited == (1, 0.5)
    assert at.store.find("shop_sale_wait_seconds").bounds == OTHERS
    assert at.only("shop_sale_duration_seconds")[0] == labels


def test_an_ending_without_a_beginning_or_a_duration_waited_all_the_same():
    at = Exit()
    assert at.emit("shop.sale.failed", {"wait_ms": 250}, {"country": "de"}) == (1, 0)
    assert at.only("shop_sale_wait_seconds") == ({"country": "de", "outcome": "error"}, (1, 0.25))


@pytest.mark.parametrize("amount", ["5", -1.0, float("nan"), float("inf"), object(), -(10**400), True, None])
@pytest.mark.parametrize("way", [Exit.operation, Exit.bare])
def test_a_wait_that_is_no_time_costs_itself_alone(way, amount):
    at = Exit()
    assert way(at, "shop.sale", {}, measured={"wait_ms": amount}) in {(1, 0), (2, 0)}
    assert at.only("shop_sale_duration_seconds")[1][0] == 1
    waits = at.page().get("shop_sale_wait_seconds", {})
    assert len(waits) == (1 if amount is True else 0)
    assert sum(at.store.refused.values()) == (0 if amount is True or amount is None else 1)


def test_a_wait_of_what_is_no_end_is_none():
    at = Exit()
    at.emit("shop.sale", {"wait_ms": 5, "count": 1}, {})
    at.emit("shop.sale.start", {"wait_ms": 5}, {})
    assert "shop_sale_wait_seconds" not in at.page()


def test_a_wait_has_its_exemplar():
    at = Exit()
    at.operation("otpylib.handle", HANDLE, measured={"wait_ms": 5})
    at.bare("shop.sale", {"trace_id": "ab" * 16, "span_id": "cd" * 8}, measured={"wait_ms": 5})
    for name in ("otpylib_handle_wait_seconds", "shop_sale_wait_seconds"):
        [series] = at.store.find(name).all_series()
        assert any(series.exemplars), name


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.one_of(st.none(), st.floats(0, 1e6)),
            st.sampled_from([None, {"error": "x"}, {"error": "x", "error_type": "E"}]),
            st.sampled_from([None, {"server": "changed"}, {"server": "s", "pid": "p"}]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(1, 6),
)
def test_every_wait_and_every_duration_is_counted_once(cases, max_series):
    at = Exit(max_series=max_series)
    for server, wait, failure, final, seen_open, is_bare in cases:
        ending = {"failure": failure, "final": final, "measured": None if wait is None else {"wait_ms": wait}}
        given_ones = {key: value for key, value in ending.items() if value is not None}
        way = Exit.bare if is_bare else Exit.operation
        way(at, "otpylib.handle", {**HANDLE, "server": server}, seen_open=seen_open, **given_ones)
    page = at.page()
    waits = [wait for _, wait, *_ in cases if wait is not None]
    counted = page.get("otpylib_handle_wait_seconds", {}).values()
    assert sum(count for count, _ in counted) == len(waits)
    assert sum(total for _, total in counted) == pytest.approx(sum(waits) / 1000)
    assert sum(count for count, _ in page.get("otpylib_handle_duration_seconds", {}).values()) == len(cases)


# --- HTTP


@pytest.mark.parametrize("way", [Exit.operation, Exit.bare])
@pytest.mark.parametrize("naming", [PROMETHEUS, OPENTELEMETRY], ids=["page", "otlp"])
def test_a_request_that_is_served_follows_the_conventions(way, naming):
    at = Exit(naming)
    way(at, "http.server.request", {**NOISE, **REQUEST}, final={**NOISE, **REQUEST, **ANSWER})
    failed = {**NOISE, **REQUEST, **ANSWER, "http.response.status_code": 503}
    way(at, "http.server.request", REQUEST, final={**failed, "error.type": "503"}, failure={"error": "503"})
    raised = {"error": "x", "error_type": "KeyError"}
    way(at, "http.server.request", REQUEST, final={**failed, "error.type": "503"}, failure=raised)
    way(at, "http.server.request", REQUEST, failure=raised)
    way(at, "http.server.request", REQUEST, failure={"error": "x"})

    def spelt(labels):
        return tuple(sorted((naming.label(key), str(value)) for key, value in labels.items()))

    page = at.page()
    duration, active = (
        ("http_server_request_duration_seconds", "http_server_active_requests")
        if naming is PROMETHEUS
        else ("http.server.request.duration", "http.server.active_requests")
    )
    assert set(page) == {duration, active}
    unavailable = {**ANSWER, "http.response.status_code": 503, "error.type": "503"}
    assert {labels: count for labels, (count, _) in page[duration].items()} == {
        spelt({**REQUEST, **ANSWER}): 1,
        spelt({**REQUEST, **unavailable}): 2,
        spelt({**REQUEST, "error.type": "KeyError"}): 1,
        spelt({**REQUEST, "error.type": "_OTHER"}): 1,
    }
    assert page[active] == {spelt(REQUEST): 0}
    assert at.store.find(duration).unit == ("seconds" if naming is PROMETHEUS else "s")


def test_requests_that_are_open_are_told_apart_by_method_and_scheme_alone():
    at = Exit()
    for route in ("/a", "/b"):
        at.emit("http.server.request.start", {}, {**REQUEST, "http.route": route})
    open_ones = {"http_request_method": "GET", "url_scheme": "https"}
    assert at.only("http_server_active_requests") == (open_ones, 2)
    at.emit("http.server.request.success", {}, {**REQUEST, "http.route": "/b"})
    assert at.only("http_server_active_requests") == (open_ones, 1)


def test_a_request_that_is_made_follows_the_conventions():
    at = Exit()
    made = {
        "http.request.method": "GET",
        "server.address": "shop",
        "server.port": 8080,
        "url.full": "http://x",
    }
    at.operation("http.client.request", made, final={**made, "http.response.status_code": 404})
    labels, _ = at.only("http_client_request_duration_seconds")
    assert labels == {
        "http_request_method": "GET",
        "server_address": "shop",
        "server_port": "8080",
        "http_response_status_code": "404",
    }
    assert list(at.page()) == ["http_client_request_duration_seconds"]


# --- with the settings


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ({"labels": ["server", "pid"]}, {"server", "outcome"}),
        ({"drop_labels": ["message", "kind"]}, {"server", "module", "outcome"}),
        ({"labels": ["server", "kind"], "drop_labels": ["kind"]}, {"server", "outcome"}),
        ({"labels": ["all", "*"]}, {"server", "module", "message", "kind", "outcome"}),
        ({"labels": ["shop"]}, {"outcome"}),
    ],
)
def test_settings_take_labels_away_and_add_none(rules, kept):
    at = Exit(**rules)
    at.operation("otpylib.handle", {**NOISE, **HANDLE}, measured={"wait_ms": 1})
    for name in ("otpylib_handle_duration_seconds", "otpylib_handle_wait_seconds"):
        assert set(at.only(name)[0]) == kept


@pytest.mark.parametrize("named", ["error.type", "error_type"])
def test_a_renamed_label_goes_by_either_name(named):
    at = Exit(drop_labels=[named])
    at.operation("http.server.request", REQUEST, failure={"error": "x", "error_type": "KeyError"})
    assert set(at.only("http_server_request_duration_seconds")[0]) <= {
        "http_request_method",
        "url_scheme",
        "error_type",
    }
    dropped = Exit(drop_labels=["error.type", "error_type"])
    dropped.operation("http.server.request", REQUEST, failure={"error": "x", "error_type": "KeyError"})
    labels, _ = dropped.only("http_server_request_duration_seconds")
    assert set(labels) == {"http_request_method", "url_scheme"}


def test_without_span_metrics_the_ending_event_is_measured_with_the_same_labels():
    at = Exit(span_metrics=False)
    at.operation("otpylib.handle", {**NOISE, **HANDLE}, measured={"wait_ms": 1})
    at.bare("otpylib.handle", {**NOISE, **HANDLE}, measured={"wait_ms": 1})
    assert list(at.page()) == ["otpylib_handle_success_duration_seconds"]
    assert at.only("otpylib_handle_success_duration_seconds")[0] == HANDLE


def test_buckets_are_finer_for_messages_until_the_setting_has_others():
    at = Exit()
    at.operation("otpylib.handle", HANDLE, measured={"wait_ms": 1})
    at.operation("http.server.request", REQUEST)
    at.operation("shop.sale", {})

    def bounds():
        return {metric.name: metric.bounds for metric in at.store.metrics if hasattr(metric, "bounds")}

    fine = bounds()["otpylib_handle_duration_seconds"]
    assert fine[0] < DURATION_BOUNDS[0]
    assert set(fine) > set(DURATION_BOUNDS)
    assert bounds() == {
        "otpylib_handle_duration_seconds": fine,
        "otpylib_handle_wait_seconds": fine,
        "http_server_request_duration_seconds": DURATION_BOUNDS,
        "shop_sale_duration_seconds": DURATION_BOUNDS,
    }
    at.metrics.configure(at.options())
    assert at.only("otpylib_handle_duration_seconds")[1][0] == 1
    at.metrics.configure(at.options(OTHERS))
    assert set(bounds().values()) == {OTHERS}
    at.metrics.configure(at.options())
    assert bounds()["otpylib_handle_wait_seconds"] == fine


def test_a_stall_has_its_length_and_never_its_stack():
    at = Exit()
    at.emit("otpylib.loop.stalled", {"duration_ms": 500}, {**NOISE, **HANDLE, "process": "p"})
    assert at.only("otpylib_loop_stall_duration_seconds") == (
        {"server": "stock", "message": "reserve"},
        (1, 0.5),
    )


# --- what an instrumentation declares


def test_an_instrumentation_declares_metrics_of_its_own(monkeypatch):
    monkeypatch.setattr(standard, "_declared", {})
    standard.declare(
        "db.query",
        standard.Standard(
            labels={"table": "db.collection.name"},
            duration=standard.Named("db.client.operation.duration", "How long queries took.", "s"),
        ),
    )
    at = Exit()
    at.operation("db.query", {"table": "orders", "sql": "select 1"})
    assert at.only("db_client_operation_duration_seconds")[0] == {
        "db_collection_name": "orders",
        "outcome": "success",
    }
    assert at.only("db_query_in_flight") == ({"db_collection_name": "orders"}, 0)
    assert at.store.find("db_client_operation_duration_seconds").description == "How long queries took."


def test_events_ask_for_what_is_declared_once_per_name(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "otpylib_telemetry.metrics.automatic.plans.standard_of",
        lambda event, operation: asked.append(event) or standard.standard_of(event, operation),
    )
    at = Exit()
    for _ in range(5):
        at.operation("otpylib.handle", HANDLE, measured={"wait_ms": 1})
    assert sorted(asked) == ["otpylib.handle.error", "otpylib.handle.start", "otpylib.handle.success"]


def test_the_page_of_the_documentation_has_every_metric_whose_name_is_fixed():
    text = Path(__file__).parents[2].joinpath("docs/reference/what-becomes-what.md").read_text("utf-8")
    rows = [re.findall(r"`([^`]+)`", line) for line in text.splitlines() if line.startswith("| `")]
    told = {(row[0], row[1], row[2]): set(row[3:]) - {"outcome"} for row in rows if len(row) > 3}
    for event, one in standard._declared.items():
        for kind, named in (
            (Kind.COUNTER, one.count),
            (Kind.HISTOGRAM, one.duration),
            (Kind.HISTOGRAM, one.wait),
            (Kind.UP_DOWN, one.in_flight),
        ):
            if named is None:
                continue
            labels = set(one.labels.values())
            if kind is Kind.UP_DOWN:
                labels &= one.in_flight_labels
            page_name, _ = PROMETHEUS.instrument(named.name, named.unit, kind)
            assert told[event, page_name, named.name] == labels
