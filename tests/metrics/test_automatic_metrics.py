import enum
import math
import sys
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.utils import floatToGoString

from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.automatic.operations import OPEN_TTL_NS
from otpylib_telemetry.metrics.labels import CORRELATION_KEYS, LabelCache, LabelRules, number_text
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS, label_name, metric_name
from otpylib_telemetry.tracing.open_operations import OpenOperations
from tests.support import declare
from tests.support.examples import examples
from tests.support.versions import needs_new_client

BUCKETS = (0.01, 0.1, 1.0)
SECOND = 1_000_000_000


class Raises:
    """Raises whatever is done with it."""

    def _refuse(self, *_args):
        raise RuntimeError("no")

    __str__ = __repr__ = __hash__ = __eq__ = __float__ = __len__ = __iter__ = __bool__ = _refuse
    __class__ = property(_refuse)


class Liar(str):
    __slots__ = ()

    def __str__(self):
        raise RuntimeError("no")

    __hash__ = str.__hash__

    def __eq__(self, other):
        raise RuntimeError("no")


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def made(*values):
    """Return parameters that are made in the test: pytest itself trips over some of these values."""
    return [
        pytest.param(
            value if value is Raises else lambda value=value: value, id=f"{type(value).__name__}{index}"
        )
        for index, value in enumerate(values)
    ]


def options(*, rules=None, buckets=BUCKETS, span_metrics=True, exemplars=True):
    return MetricOptions(rules or LabelRules(), buckets, span_metrics, exemplars)


class Metrics:
    """The metrics under test, with what they are made of, and shorthand."""

    def __init__(
        self,
        *,
        max_series=2000,
        limit=100,
        rules=None,
        span_metrics=True,
        max_metrics=1000,
        naming=PROMETHEUS,
    ):
        self.reports = []
        self.store = SeriesStore(max_series, max_metrics, self.reports.append)
        self.operations = OpenOperations(limit, OPEN_TTL_NS)
        self.metrics = AutomaticMetrics(
            self.store, self.operations, options(rules=rules, span_metrics=span_metrics), naming
        )

    def emit(self, name, measurements=None, metadata=None, *, at=0, emitter=1):
        event = (
            name,
            {} if measurements is None else measurements,
            metadata or {},
            int(at * SECOND),
            emitter,
        )
        return self.metrics.record([event])

    def series(self, name):
        """Return label text -> value (or count, sum) of a metric."""
        for metric in self.store.metrics:
            if metric.name == name:
                return {
                    ",".join(f"{key}={text}" for key, text in one.labels): (
                        (one.count, one.sum) if hasattr(one, "sum") else one.value
                    )
                    for one in metric.all_series()
                }
        return {}

    def names(self):
        return {metric.name: metric.kind.value for metric in self.store.metrics if metric.all_series()}


@pytest.fixture
def metrics():
    return Metrics()


# --- what becomes what


def test_count_duration_and_value_each_have_a_metric_of_their_own(metrics):
    for _ in range(2):
        assert metrics.emit("shop.sold", {"count": 3, "duration_ms": 50, "value": 1.5}, {"kind": "book"}) == (
            1,
            0,
        )
    assert metrics.names() == {
        "shop_sold": "gauge",
        "shop_sold_duration_seconds": "histogram",
        "shop_sold_total": "counter",
    }
    assert metrics.series("shop_sold_total") == {"kind=book": 6}
    assert metrics.series("shop_sold_duration_seconds") == {"kind=book": (2, 0.1)}
    assert metrics.series("shop_sold") == {"kind=book": 1.5}


def test_a_name_that_ends_in_total_is_not_given_it_twice(metrics):
    metrics.emit("http.requests.total", {"count": 1})
    assert metrics.names() == {"http_requests_total": "counter"}


def test_an_operation_is_in_flight_from_start_to_end_and_timed_by_the_monotonic_clock(metrics):
    assert metrics.emit("shop.checkout.start", metadata={"shop": "a"}, at=1) == (1, 0)
    assert metrics.series("shop_checkout_in_flight") == {"shop=a": 1}
    assert metrics.emit("shop.checkout.success", metadata={"shop": "a"}, at=1.25) == (1, 0)
    assert metrics.series("shop_checkout_in_flight") == {"shop=a": 0}
    assert metrics.series("shop_checkout_duration_seconds") == {"outcome=success,shop=a": (1, 0.25)}


@pytest.mark.parametrize(
    ("suffix", "outcome"),
    [
        ("stop", "success"),
        ("success", "success"),
        ("error", "error"),
        ("exception", "error"),
        ("failed", "error"),
    ],
)
def test_the_suffix_says_the_outcome(metrics, suffix, outcome):
    metrics.emit("job.start")
    metrics.emit(f"job.{suffix}", at=1)
    assert metrics.series("job_duration_seconds") == {f"outcome={outcome}": (1, 1.0)}


def test_duration_ms_decides_how_long_an_operation_took(metrics):
    metrics.emit("job.start", at=0)
    metrics.emit("job.stop", {"duration_ms": 50}, at=9)
    assert metrics.series("job_duration_seconds") == {"outcome=success": (1, 0.05)}
    # One metric of one thing.
    assert "job_stop_duration_seconds" not in metrics.names()


def test_a_duration_that_is_unusable_leaves_the_clock_to_decide(metrics):
    metrics.emit("job.start", at=0)
    assert metrics.emit("job.stop", {"duration_ms": math.nan}, at=2) == (1, 0)
    assert metrics.series("job_duration_seconds") == {"outcome=success": (1, 2.0)}
    assert metrics.store.refused == {"not finite, or negative where that cannot be": 1}


def test_an_ending_without_a_start_counts_only_with_a_duration(metrics):
    assert metrics.emit("job.stop") == (1, 0)
    assert metrics.names() == {}
    assert metrics.metrics.unused == 1
    metrics.emit("job.stop", {"duration_ms": 1000})
    assert metrics.series("job_duration_seconds") == {"outcome=success": (1, 1.0)}
    assert metrics.series("job_in_flight") == {}


def test_an_ending_that_says_less_than_the_start_is_labelled_as_the_start(metrics):
    metrics.emit("job.start", metadata={"queue": "mail", "step": "begun"})
    metrics.emit("job.error", metadata={"step": "sent", "error_type": "Timeout", "error": "after 3 s"})
    assert metrics.series("job_duration_seconds") == {
        "error_type=Timeout,outcome=error,queue=mail,step=sent": (1, 0.0)
    }
    assert metrics.series("job_in_flight") == {"queue=mail,step=begun": 0}


def test_an_ending_learns_each_start_anew(metrics):
    for queue in ("mail", "print", "mail"):
        metrics.emit("job.start", metadata={"queue": queue})
        metrics.emit("job.stop")
    assert metrics.series("job_duration_seconds") == {
        "outcome=success,queue=mail": (2, 0.0),
        "outcome=success,queue=print": (1, 0.0),
    }


def test_an_end_before_its_start_by_the_clock_took_no_time(metrics):
    metrics.emit("job.start", at=5)
    metrics.emit("job.stop", at=4)
    assert metrics.series("job_duration_seconds") == {"outcome=success": (1, 0.0)}


def test_without_span_metrics_operations_are_neither_counted_nor_timed():
    metrics = Metrics(span_metrics=False)
    metrics.emit("job.start")
    metrics.emit("job.stop", {"duration_ms": 10})
    assert metrics.names() == {"job_stop_duration_seconds": "histogram"}
    assert len(metrics.metrics.operations) == 0


def test_switching_span_metrics_off_counts_down_what_is_in_flight(metrics):
    metrics.emit("job.start")
    metrics.metrics.configure(options(span_metrics=False))
    metrics.emit("job.stop", at=1)
    assert metrics.series("job_in_flight") == {"": 0}
    assert metrics.series("job_duration_seconds") == {}


def test_events_without_anything_measured_are_done_with_and_shown_as_unused(metrics):
    assert metrics.emit("note", {"bytes": 3}) == (1, 0)
    assert metrics.emit("note", {"count": None, "value": None, "duration_ms": None}) == (1, 0)
    assert metrics.metrics.unused == 2
    assert metrics.store.refused == {}


# --- in flight, whatever happens


def test_the_gauge_that_was_raised_is_the_one_lowered(metrics):
    metrics.emit("job.start", metadata={"span_id": "1", "worker": "a"})
    metrics.emit("job.start", metadata={"span_id": "2", "worker": "b"})
    metrics.emit("job.stop", metadata={"span_id": "1", "worker": "b"})
    assert metrics.series("job_in_flight") == {"worker=a": 0, "worker=b": 1}


def test_an_operation_without_an_end_is_given_up_after_its_time(metrics):
    metrics.emit("job.start", at=0)
    assert metrics.metrics.expire(299 * SECOND, lambda _emitter: True) == 0
    assert metrics.metrics.expire(300 * SECOND, lambda _emitter: True) == 1
    assert metrics.series("job_in_flight") == {"": 0}
    assert metrics.series("job_duration_seconds") == {}
    assert metrics.metrics.operations.given_up == {"expired": 1}


def test_an_operation_whose_emitter_died_is_given_up(metrics):
    metrics.emit("job.start", emitter=7)
    metrics.emit("job.start", emitter=8)
    assert metrics.metrics.expire(0, lambda emitter: emitter == 8) == 1
    assert metrics.series("job_in_flight") == {"": 1}
    assert metrics.metrics.operations.given_up == {"emitter gone": 1}


def test_too_many_open_operations_give_up_the_oldest():
    metrics = Metrics(limit=2)
    for number in range(3):
        metrics.emit("job.start", metadata={"span_id": str(number), "n": number})
    assert metrics.series("job_in_flight") == {"n=0": 0, "n=1": 1, "n=2": 1}
    assert metrics.metrics.operations.given_up == {"too many open": 1}


def test_the_end_gives_up_everything(metrics):
    metrics.emit("job.start")
    metrics.emit("job.start")
    assert metrics.metrics.operations.give_up_held() == 2
    assert metrics.series("job_in_flight") == {"": 0}


def test_in_flight_comes_back_to_nothing_when_series_overflow():
    metrics = Metrics(max_series=2)
    for number in range(6):
        metrics.emit("job.start", metadata={f"n{number}": 1, "span_id": number})
    assert metrics.series("job_in_flight") == {"n0=1": 1, "n1=1": 1, "otel_metric_overflow=true": 4}
    for number in range(6):
        metrics.emit("job.stop", metadata={f"n{number}": 1, "span_id": number})
    assert set(metrics.series("job_in_flight").values()) == {0}


def test_in_flight_comes_back_to_nothing_when_a_label_is_folded_meanwhile():
    metrics = Metrics(max_series=2)
    for number in range(6):
        metrics.emit("job.start", metadata={"n": number, "span_id": number})
    assert metrics.series("job_in_flight") == {"n=(folded)": 6}
    for number in range(6):
        metrics.emit("job.stop", metadata={"n": number, "span_id": number})
    assert metrics.series("job_in_flight") == {"n=(folded)": 0}


def test_operations_are_still_timed_when_their_gauge_is_refused(metrics):
    metrics.emit("job.in_flight", {"duration_ms": 1})
    declare.counter(metrics.store, "job_in_flight", "In the way.")
    assert metrics.emit("job.start") == (0, 1)
    assert metrics.emit("job.stop", at=1) == (1, 0)
    assert metrics.series("job_duration_seconds") == {"outcome=success": (1, 1.0)}


# --- labels


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        (1, "1"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        (1234567.0, "1.234567e+06"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (-0.0, "0.0"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (HTTPStatus.NOT_FOUND, "404"),
        ("\ud800", "?"),
        ("x" * 256, "x" * 256),
        ("x" * 257, "x" * 239 + "…542ad3213e51c376"),
        (10**200, str(10**200)),
    ],
)
def test_a_scalar_reads_the_same_however_often_it_comes(metrics, value, text):
    for _ in range(3):
        metrics.emit("e", {"count": 1}, {"a": value})
    assert metrics.series("e_total") == {f"a={text}": 3}


@pytest.mark.parametrize("naming", [PROMETHEUS, OPENTELEMETRY])
@pytest.mark.parametrize(
    "values",
    [
        ["x" * 256 + end for end in ("", "a", "b", "ab" * 1000)],
        ["é" * 300 + end for end in ("", "é", "\ud800")],
        [10**300 + number for number in range(3)],
        [10**6000 + number for number in range(3)],
        [10**6000, -(10**6000)],
    ],
    ids=["ascii", "letters", "long integers", "longer integers", "signs"],
)
def test_values_that_are_cut_stay_as_many(values, naming):
    metrics = Metrics(naming=naming)
    for _ in range(2):
        for value in values:
            metrics.emit("e", {"count": 1}, {"a": value})
    (metric,) = metrics.store.metrics
    assert [series.value for series in metric.all_series()] == [2] * len(values)
    assert all(len(text) <= 256 for labels in metric.series for _, text in labels)


@pytest.mark.parametrize(
    "make", made(None, "", [1], {"a": 1}, (1,), b"", object(), Raises, Fraction, math, int)
)
def test_what_is_no_scalar_is_no_label(metrics, make):
    for _ in range(2):
        metrics.emit("e", {"count": 1}, {"a": make(), "b": "kept"})
    assert metrics.series("e_total") == {"b=kept": 2}


@given(st.permutations([1, True, 1.0, "1", "true", "1.0", 0, False, 0.0, "0", -0.0] * 2))
def test_values_python_takes_for_equal_are_told_apart_in_any_order(values):
    metrics = Metrics()
    for value in values:
        metrics.emit("e", {"count": 1}, {"a": value, "b": "x"})
    assert metrics.series("e_total") == {
        "a=0,b=x": 4,
        "a=0.0,b=x": 4,
        "a=1,b=x": 4,
        "a=1.0,b=x": 4,
        "a=false,b=x": 2,
        "a=true,b=x": 4,
    }


def test_events_of_one_name_may_differ_in_labels(metrics):
    for metadata in ({}, {"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}, {"b": "1", "a": "1"}):
        metrics.emit("e", {"count": 1}, metadata)
    assert metrics.series("e_total") == {"": 1, "a=1": 1, "b=1": 1, "a=1,b=1": 2}


def test_what_tells_operations_apart_is_no_label_but_the_type_of_an_error_is(metrics):
    metadata = dict.fromkeys(CORRELATION_KEYS, "x")
    metrics.emit("e", {"count": 1}, {**metadata, "error": "no such file", "error_type": "OSError"})
    assert metrics.series("e_total") == {"error_type=OSError": 1}


@pytest.mark.parametrize(
    ("labels", "drop_labels", "expected"),
    [
        (None, (), "customer=c,error=e"),
        (None, ("customer",), "error=e"),
        (("customer",), ("error",), "customer=c"),
        (("trace_id",), tuple(CORRELATION_KEYS), "trace_id=t"),
        (("customer", "error"), ("customer",), "error=e"),
        (("*", "trace_id"), ("error",), "customer=c,trace_id=t"),
    ],
)
def test_labels_can_be_chosen(labels, drop_labels, expected):
    metrics = Metrics(rules=LabelRules.of(labels, drop_labels))
    metrics.emit("e", {"count": 1}, {"customer": "c", "error": "e", "trace_id": "t", "request_id": "r"})
    assert metrics.series("e_total") == {expected: 1}


def test_other_rules_count_from_the_next_event_and_keep_what_there_is(metrics):
    metrics.emit("e", {"count": 1}, {"a": "1", "b": "1"})
    metrics.metrics.configure(options(rules=LabelRules.of(None, ["b"])))
    metrics.emit("e", {"count": 1}, {"a": "1", "b": "1"})
    assert metrics.series("e_total") == {"a=1,b=1": 1, "a=1": 1}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a", "a"),
        ("http.method", "http_method"),
        ("1st", "_1st"),
        ("", "_"),
        ("größe", "gr__e"),
        ("__name__", "_name__"),
        ("..x", "_x"),
        ("le", "exported_le"),
        ("quantile", "exported_quantile"),
        ("otel_metric_overflow", "exported_otel_metric_overflow"),
        ("outcome", "outcome"),
        ("a:b", "a_b"),
        ("x" * 300, "x" * 183 + "_12b539c1cad94615"),
    ],
)
def test_a_key_becomes_a_legal_label_name(metrics, key, name):
    assert label_name(key) == name
    metrics.emit("e", {"count": 1}, {key: "v"})
    assert metrics.series("e_total") == {f"{name}=v": 1}


def test_keys_that_become_one_name_are_joined_in_the_order_of_the_keys(metrics):
    metrics.emit("e", {"count": 1}, {"a_b": "2", "a.b": "1", "a:b": 3})
    metrics.emit("e", {"count": 1}, {"a:b": 3, "a.b": "1", "a_b": "2"})
    assert metrics.series("e_total") == {"a_b=1;3;2": 2}


def test_an_outcome_of_the_users_own_stays_beside_ours(metrics):
    metrics.emit("job.stop", {"duration_ms": 1000, "count": 1}, {"outcome": "mine"})
    metrics.emit("job.stop", {"duration_ms": 1000}, {"outcome": "mine", "exported_outcome": "x"})
    assert metrics.series("job_stop_total") == {"outcome=mine": 1}
    assert metrics.series("job_duration_seconds") == {
        "exported_outcome=mine,outcome=success": (1, 1.0),
        "exported_outcome=x;mine,outcome=success": (1, 1.0),
    }


def test_metadata_with_very_many_keys_gives_a_series_some_of_them(metrics):
    metadata = {f"k{number:05}": number for number in range(5000)}
    for _ in range(2):
        assert metrics.emit("e", {"count": 1}, metadata) == (1, 0)
    ((labels, value),) = metrics.series("e_total").items()
    assert (labels.count("="), value) == (64, 2)
    assert labels.startswith("k00000=0,")


def test_keys_that_are_no_text_are_no_labels(metrics):
    metrics.emit("e", {"count": 1}, {1: "a", None: "b", (1, 2): "c", Liar("x"): "d", "ok": "e"})
    assert metrics.series("e_total") == {"ok=e": 1}


# --- limits


def test_labels_with_ever_new_values_end_in_one_series_and_are_not_remembered():
    metrics = Metrics(max_series=10)
    for number in range(1000):
        assert metrics.emit("e", {"count": 1}, {"user": f"u{number}"}) == (1, 0)
    assert metrics.series("e_total") == {"user=(folded)": 1000}
    assert metrics.metrics._plans.remembered == 0
    assert len(metrics.reports) == 1


def test_ever_new_labels_end_in_one_series_and_are_not_remembered():
    metrics = Metrics(max_series=10)
    for number in range(1000):
        assert metrics.emit("e", {"count": 1}, {f"u{number}": "here"}) == (1, 0)
    series = metrics.series("e_total")
    assert len(series) == 11
    assert series["otel_metric_overflow=true"] == 990
    assert metrics.metrics._plans.remembered == 10
    assert len(metrics.reports) == 1


@pytest.mark.parametrize("make", made(math.nan, "x" * 1000, 10**5000))
def test_values_that_would_fill_memory_are_not_remembered(metrics, make):
    for _ in range(5):
        metrics.emit("e", {"count": 1}, {"a": make()})
    assert metrics.metrics._plans.remembered == 0
    assert list(metrics.series("e_total").values()) == [5]


def test_ever_new_keys_and_names_do_not_fill_memory():
    metrics = Metrics(max_series=10, max_metrics=20)
    for number in range(500):
        metrics.emit("e", {"count": 1}, {f"k{number}": 1})
    (plan,) = metrics.metrics._plans.by_event.values()
    assert len(plan.bindings._shapes) <= 64
    outcomes = [metrics.emit(f"user.{number}", {"count": 1}) for number in range(100)]
    assert outcomes.count((0, 1)) == 100 - 19
    assert metrics.store.refused == {"metric refused": 81}
    assert len(metrics.store) == 20


def test_the_number_of_plans_is_bounded():
    metrics = Metrics(max_metrics=1)
    for number in range(10_050):
        metrics.emit(f"user.{number}", {"count": 1})
    assert len(metrics.metrics._plans.by_event) <= 10_000
    assert metrics.emit("x" * 100_000, {"count": 1}) == (0, 1)
    assert max(map(len, metrics.metrics._plans.by_event)) < 100


def test_series_removed_from_the_store_are_not_written_to_any_more(metrics):
    metrics.emit("e", {"count": 5})
    metrics.store.remove("e_total", ())
    metrics.emit("e", {"count": 1})
    assert metrics.series("e_total") == {"": 1}


def test_other_buckets_restart_durations_and_nothing_else(metrics):
    metrics.emit("e", {"count": 1, "duration_ms": 5})
    metrics.metrics.configure(options(buckets=(1.0, 2.0)))
    metrics.emit("e", {"count": 1, "duration_ms": 1500})
    assert metrics.series("e_total") == {"": 2}
    assert metrics.series("e_duration_seconds") == {"": (1, 1.5)}
    (histogram,) = [metric for metric in metrics.store.metrics if metric.kind.value == "histogram"]
    assert histogram.at(()).counts == [0, 1, 0]


def test_two_events_that_want_one_name_share_it_if_they_are_of_one_kind(metrics):
    metrics.emit("a.b", {"count": 1})
    metrics.emit("a_b", {"count": 1})
    assert metrics.series("a_b_total") == {"": 2}


def test_two_events_that_want_one_name_for_different_kinds_leave_it_to_the_first(metrics):
    assert metrics.emit("a", {"count": 1}) == (1, 0)
    assert metrics.emit("a.total", {"value": 1}) == (0, 1)
    assert metrics.emit("a.total", {"value": 1}) == (0, 1)
    assert metrics.emit("a.total", {"value": 1, "duration_ms": 1}) == (1, 0)
    assert metrics.names() == {"a_total": "counter", "a_total_duration_seconds": "histogram"}
    assert metrics.store.refused == {"metric refused": 3}
    assert len(metrics.reports) == 1
    assert "a_total (gauge)" in metrics.reports[0]


# --- measurements of any kind


@pytest.mark.parametrize(
    ("amount", "number"),
    [(True, 1), (Decimal("1.5"), 1.5), (Fraction(1, 2), 0.5), (Level.HIGH, 3), (0, 0), (2.5, 2.5)],
)
def test_whatever_is_a_number_counts_as_one(metrics, amount, number):
    assert metrics.emit("e", {"count": amount, "value": amount, "duration_ms": amount}) == (1, 0)
    assert metrics.series("e_total") == {"": number}
    assert metrics.series("e") == {"": number}
    assert metrics.series("e_duration_seconds") == {"": (1, number / 1000)}


@pytest.mark.parametrize("measurement", ["count", "value", "duration_ms"])
@pytest.mark.parametrize(
    "make", made("5", b"5", math.nan, math.inf, -math.inf, 10**5000, [1], {}, object(), Raises, 1j, int)
)
def test_what_is_no_finite_number_is_rejected_and_counted(metrics, measurement, make):
    assert metrics.emit("e", {measurement: make()}) == (0, 1)
    assert sum(metrics.store.refused.values()) == 1
    assert metrics.names() == {}, "a series that shows 0 would be a lie"
    metrics.emit("e", {measurement: 5})
    before = {name: metrics.series(name) for name in metrics.names()}
    assert metrics.emit("e", {measurement: make()}) == (0, 1)
    assert {name: metrics.series(name) for name in metrics.names()} == before


@pytest.mark.parametrize("measurement", ["count", "duration_ms"])
def test_what_cannot_be_negative_is_rejected(metrics, measurement):
    assert metrics.emit("e", {measurement: -1}) == (0, 1)
    assert metrics.emit("e", {measurement: -0.5}) == (0, 1)
    assert metrics.store.refused == {"not finite, or negative where that cannot be": 2}


def test_an_event_of_which_something_was_taken_is_taken(metrics):
    assert metrics.emit("e", {"count": 1, "value": math.nan}) == (1, 0)
    assert metrics.emit("e", {"count": "no", "value": 1}) == (1, 0)
    assert sum(metrics.store.refused.values()) == 2


@pytest.mark.parametrize(
    "make",
    made(
        (None, {"count": 1}, {}, 0, 1),
        (7, {"count": 1}, {}, 0, 1),
        (["x"], {"count": 1}, {}, 0, 1),
        ("e", {"count": 1}),
        (),
        None,
        Raises,
    ),
)
def test_what_is_no_event_is_rejected_and_the_others_are_not(metrics, make):
    good = ("e", {"count": 1}, {}, 0, 1)
    assert metrics.metrics.record([good, make(), good]) == (2, 1)
    assert metrics.series("e_total") == {"": 2}


@pytest.mark.parametrize("make", made(None, 5, "text", [1, 2], Raises, object()))
def test_metadata_that_is_no_mapping_is_none_at_all(metrics, make):
    odd = make()
    assert metrics.metrics.record([("e", {"count": 1}, odd, 0, 1)]) == (1, 0)
    assert metrics.series("e_total") == {"": 1}
    assert metrics.metrics.record([("job.start", {}, odd, 0, 1), ("job.stop", {}, odd, 0, 1)]) == (2, 0)
    assert metrics.series("job_in_flight") == {"": 0}


@pytest.mark.parametrize("make", made(None, 5, [1, 2], Raises, object()))
def test_measurements_that_are_no_mapping_measure_nothing(metrics, make):
    assert metrics.metrics.record([("e", make(), {}, 0, 1)]) == (1, 0)
    assert metrics.names() == {}
    assert metrics.metrics.unused == 1


#: Values that cannot be printed, by names that can: whoever shows a failing example has to.
UNPRINTABLE = {"<raises>": Raises, "<huge>": lambda: 10**5000, "<liar>": lambda: Liar("x")}


def real(value):
    """Return an example with the unprintable values in it."""
    if type(value) is dict:
        return {key: real(item) for key, item in value.items()}
    return UNPRINTABLE[value]() if type(value) is str and value in UNPRINTABLE else value


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from([*UNPRINTABLE, Colour.RED, object, Decimal("NaN"), sys]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
keys = (
    st.text(max_size=5) | st.integers() | st.sampled_from(["count", "value", "duration_ms", "le", "span_id"])
)


@pytest.mark.slow
@settings(max_examples=examples(120))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["e", "job.start", "job.stop", "job.error", "e.total", "", "1"])
            | st.text()
            | anything,
            st.dictionaries(keys, anything, max_size=4) | anything,
            st.dictionaries(keys, anything, max_size=6) | anything,
            st.integers(0, 10**12),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_every_event_whatever_is_in_it_is_accounted_for_once_and_none_raises(events):
    metrics = Metrics(max_series=5)
    taken, rejected = metrics.metrics.record([tuple(map(real, event)) for event in events])
    assert taken + rejected == len(events)
    metrics.metrics.operations.give_up_held()
    in_flight = [
        one.value
        for metric in metrics.store.metrics
        if metric.name.endswith("_in_flight")
        for one in metric.all_series()
    ]
    assert not any(in_flight)


def test_finding_labels_again_hashes_no_value_that_is_no_scalar():
    class Counted:
        hashed = 0

        def __hash__(self):
            Counted.hashed += 1
            return 1

    cache = LabelCache(LabelRules())
    metadata = {"a": "x", "pid": Counted()}
    labels, place = cache.resolve(metadata)
    cache.keep(place, "found")
    assert labels == (("a", "x"),)
    assert cache.find({"a": "x", "pid": Counted()}) == "found"
    assert cache.find({"a": "y", "pid": Counted()}) is None
    assert Counted.hashed == 0


def test_metadata_is_found_by_its_size_only_where_its_size_tells_its_keys():
    def keep(metadata, thing):
        _, place = cache.resolve(metadata)
        cache.keep(place, thing)

    cache = LabelCache(LabelRules())
    keep({"a": "x"}, "one")
    keep({"b": "x", "correlation_id": "1"}, "not all of it labels")
    pick, kept = cache.by_size[1]
    assert kept[pick({"a": "x"})] == "one"
    assert 2 not in cache.by_size
    keep({"c": "x"}, "of the same size")
    keep({"a": "y"}, "known keys again")
    keep({"a": "x", "b": "y"}, "of a size that others had")
    assert cache.by_size == {1: None, 2: None}


def test_metadata_of_one_size_but_other_keys_is_counted_by_its_own_labels(metrics):
    for metadata in ({"a": "x"}, {"b": "x"}, {"a": "x"}, {"b": "x"}, {"a": "y"}, {}):
        metrics.emit("e", {"count": 1}, metadata)
    assert metrics.series("e_total") == {"a=x": 2, "b=x": 2, "a=y": 1, "": 1}


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ("a.b", "a_b"),
        ("a:b", "a_b"),
        ("1a", "_1a"),
        ("", "_"),
        ("a b/c-d", "a_b_c_d"),
        ("é", "_"),
        ("²", "_"),
        ("Ab9_", "Ab9_"),
    ],
)
def test_an_event_name_becomes_a_legal_metric_name(event, name):
    assert metric_name(event) == name


@needs_new_client
def test_floats_read_as_prometheus_client_writes_them():
    for value in (
        0.005,
        1.0,
        10.0,
        2.5,
        1e5,
        999999.0,
        1e6,
        1.5e6,
        123456789.25,
        1e15,
        1e16,
        1e300,
        1e-7,
        math.inf,
    ):
        assert number_text(value) == floatToGoString(value)
        assert float(number_text(value)) == value
    assert number_text(-1e6) == "-1e+06"


def test_overflow_is_labelled_as_opentelemetry_does():
    assert OVERFLOW_LABELS == (("otel_metric_overflow", "true"),)


# --- exemplars, names of the other exit, retiring

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_series_remembers_the_trace_of_what_was_measured(metrics):
    traced = {"trace_id": TRACE, "span_id": SPAN}
    metrics.emit("a.request.start", {}, traced, at=1)
    metrics.emit("a.request.stop", {"duration_ms": 20.0, "count": 1}, traced, at=3)
    histogram = metrics.store.find("a_request_duration_seconds").all_series()[0]
    (exemplar,) = [one for one in histogram.exemplars if one]
    assert (exemplar.value, exemplar.traced) == (0.02, Traced(3 * SECOND, TRACE, SPAN))
    counter = metrics.store.find("a_request_stop_total").all_series()[0]
    assert counter.exemplar.traced.trace_id == TRACE


def test_a_traceparent_says_the_same_as_the_ids(metrics):
    metrics.emit("a", {"duration_ms": 20.0}, {"traceparent": f"00-{TRACE}-{SPAN}-01"}, at=3)
    (exemplar,) = filter(None, metrics.store.find("a_duration_seconds").all_series()[0].exemplars)
    assert exemplar.traced == Traced(3 * SECOND, TRACE, SPAN)


@pytest.mark.parametrize("parent", [7, "", "00", f"00-{TRACE}", [TRACE]])
def test_a_traceparent_that_is_none_is_no_exemplar(metrics, parent):
    assert metrics.emit("a", {"duration_ms": 20.0}, {"traceparent": parent}) == (1, 0)
    assert metrics.store.find("a_duration_seconds").all_series()[0].exemplars is None


@pytest.mark.parametrize("trace_id", [None, 7, b"x", ["x"]])
def test_a_trace_id_that_is_no_text_is_no_exemplar(metrics, trace_id):
    assert metrics.emit("a", {"duration_ms": 20.0}, {"trace_id": trace_id}) == (1, 0)
    assert metrics.store.find("a_duration_seconds").all_series()[0].exemplars is None


def test_no_exemplars_are_kept_where_none_are_wanted(metrics):
    metrics.metrics.configure(options(exemplars=False))
    metrics.emit("a", {"duration_ms": 20.0, "count": 1}, {"trace_id": TRACE})
    assert metrics.store.find("a_duration_seconds").all_series()[0].exemplars is None
    assert metrics.store.find("a_total").all_series()[0].exemplar is None


def test_over_otlp_names_keep_their_dots_and_labels_their_keys():
    metrics = Metrics(naming=OPENTELEMETRY)
    metrics.emit("shop.buy.start", {}, {"user.kind": "new"}, at=1)
    metrics.emit("shop.buy.stop", {"count": 2, "value": 3, "duration_ms": 5}, {"user.kind": "new"}, at=2)
    assert metrics.names() == {
        "shop.buy.stop.total": "counter",
        "shop.buy.stop": "gauge",
        "shop.buy.in_flight": "up-down counter",
        "shop.buy.duration": "histogram",
    }
    assert metrics.series("shop.buy.stop.total") == {"user.kind=new": 2}
    assert metrics.store.find("shop.buy.duration").unit == "s"


@pytest.mark.parametrize(
    "name", ["a.b", "a.b.start", "a.b.stop", "x.total", "1.2", "Straße.x", "a_total", "a-b/c"]
)
def test_the_names_of_both_exits_are_one_name_to_prometheus(name):
    """As "Prometheus and OpenMetrics compatibility" has it: illegal becomes _, then unit, then _total."""
    there, here = OPENTELEMETRY, PROMETHEUS
    assert metric_name(there.counter(name)).removesuffix("_total") + "_total" == here.counter(name)
    assert metric_name(there.metric(name)) == here.metric(name)
    assert metric_name(there.in_flight(name)) == here.in_flight(name)
    assert metric_name(there.duration(name)) + "_seconds" == here.duration(name)


def test_retiring_takes_away_what_was_made_here_and_nothing_else(metrics):
    declare.counter(metrics.store, "theirs_total", "Of somebody else.").at(()).add(1)
    metrics.emit("a.b.start", {}, {}, at=1)
    metrics.emit("a", {"count": 1, "value": 1, "duration_ms": 1})
    metrics.metrics.retire()
    assert list(metrics.names()) == ["theirs_total"]
    assert len(metrics.metrics.operations) == 0
    metrics.emit("a", {"count": 1})
    assert metrics.series("a_total") == {"": 1}


def test_a_metric_of_the_same_name_that_somebody_else_declared_is_not_counted_into(metrics):
    theirs = declare.counter(metrics.store, "a_total", "Of somebody else.", owner="definitions")
    assert metrics.emit("a", {"count": 1}) == (0, 1)
    assert theirs.all_series() == []
    assert metrics.store.refused == {"metric refused": 1}


def test_names_made_from_data_leave_room_when_their_series_have_expired():
    metrics = Metrics(max_metrics=20)
    for round_ in range(5):
        for number in range(30):
            metrics.emit(f"user.{round_}.{number}.login", {"count": 1})
        assert len(metrics.names()) == 20
        for hour in range(3):
            metrics.store.expire((3 * round_ + hour) * 3600 * SECOND, 3600 * SECOND)
        assert (len(metrics.store), metrics.store.refusals) == (0, {})
        metrics.emit("shop.order", {"count": 1, "value": 2, "duration_ms": 1})
        assert metrics.series("shop_order_total") == {"": 1}
        metrics.metrics.retire()
    assert len(metrics.reports) == 5


@pytest.mark.parametrize("naming", [PROMETHEUS, OPENTELEMETRY])
def test_names_that_are_cut_stay_as_many(naming):
    metrics = Metrics(naming=naming)
    for end in ("a", "b", "ab" * 100):
        metrics.emit("e" * 250 + end, {"value": 1}, {"k" * 250 + "1": "x", "k" * 250 + end: "y"})
    assert len(metrics.names()) == 3
    assert all(len(name) <= 200 for name in metrics.names())
    (labels,) = {len(labels) for metric in metrics.store.metrics for labels in metric.series}
    assert labels == 2
