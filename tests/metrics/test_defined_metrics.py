"""Events into the series that definitions name."""

import enum
import math
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.metric import OVERFLOW_LABELS
from otpylib_telemetry.aggregation.series import Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics import buckets as buckets_module
from otpylib_telemetry.metrics import definitions as definitions_module
from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.defined.events import DefinedMetrics
from otpylib_telemetry.metrics.defined.specs import OWNER
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry.metrics.labels import LabelRules, label_text
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.operation import remote_place
from otpylib_telemetry.tracing.propagation import TraceParent
from tests.metrics.test_automatic_metrics import Level, Liar, Raises, anything, keys, made, real
from tests.support import declare
from tests.support.examples import examples

SECOND = 1_000_000_000


class Metrics:
    """The metrics under test, with what they are made of, and shorthand."""

    def __init__(self, *definitions, max_series=2000, max_metrics=1000, naming=PROMETHEUS, exemplars=True):
        self.reports = []
        self.now_ns = 0
        self.store = SeriesStore(max_series, max_metrics, self.reports.append, lambda: self.now_ns)
        self.metrics = DefinedMetrics(self.store, definitions, naming, exemplars=exemplars)

    def emit(self, name, measurements=None, metadata=None, *, at=0):
        return self.metrics.record([(name, measurements or {}, metadata or {}, int(at * SECOND), 1)])

    def series(self, name):
        """Return label text -> value (or count, sum) of a metric."""
        metric = self.store.find(name)
        return {
            ",".join(f"{key}={text}" for key, text in one.labels): (
                (one.count, one.sum) if hasattr(one, "sum") else one.value
            )
            for one in (metric.all_series() if metric else ())
        }


# --- what each type does


def test_a_counter_counts_events_whatever_they_measure():
    given = Metrics(definitions_module.counter("shop.sold.count"))
    for measurements in ({"count": 7}, {}, {"other": math.nan}):
        assert given.emit("shop.sold", measurements) == (1, 0)
    assert given.series("shop_sold_count_total") == {"": 3}


def test_a_counter_with_a_measurement_counts_the_events_that_have_it():
    given = Metrics(definitions_module.counter("shop.sold.count", measurement="bytes"))
    for measurements in ({"bytes": 7}, {}, {"bytes": None}, {"bytes": -1}):
        given.emit("shop.sold", measurements)
    assert given.series("shop_sold_count_total") == {"": 2}
    assert given.metrics.missing == {"shop_sold_count_total": 2}


def test_a_sum_adds_up_and_refuses_what_would_make_it_fall():
    given = Metrics(definitions_module.sum("shop.sold.items"))
    assert [given.emit("shop.sold", {"items": n}) for n in (3, 2.5, -1)] == [(1, 0), (1, 0), (0, 1)]
    assert given.series("shop_sold_items_total") == {"": 5.5}
    assert given.store.refused == {"not finite, or negative where that cannot be": 1}


def test_a_sum_that_is_not_monotonic_rises_and_falls():
    given = Metrics(definitions_module.sum("pool.used.change", monotonic=False))
    for change in (3, -5):
        given.emit("pool.used", {"change": change})
    assert given.series("pool_used_change") == {"": -2}


def test_a_last_value_is_the_latest():
    given = Metrics(definitions_module.last_value("queue.depth", multiprocess_mode="livesum"))
    for depth in (3, -1.5):
        given.emit("queue", {"depth": depth})
    assert given.series("queue_depth") == {"": -1.5}
    assert given.store.find("queue_depth").multiprocess_mode == "livesum"


def test_a_distribution_counts_per_bucket_up_to_and_with_its_bound():
    given = Metrics(definitions_module.distribution("a.size", buckets=[1, 10]))
    for size in (1, 1.5, 10, 11):
        given.emit("a", {"size": size})
    assert given.store.find("a_size").at(()).counts == [1, 2, 1]
    assert given.series("a_size") == {"": (4, 23.5)}


def test_a_distribution_may_have_exponential_buckets():
    given = Metrics(
        definitions_module.distribution("a.size", buckets=buckets_module.base2(max_size=20, max_scale=3))
    )
    for size in (1, 2, 4):
        given.emit("a", {"size": size})
    buckets = given.store.find("a_size").at(()).buckets
    assert (buckets.scale, buckets.max_size, buckets.positive) == (3, 20, {-1: 1, 7: 1, 15: 1})


def test_a_summarys_quantiles_keep_within_the_error_it_was_defined_with():
    given = Metrics(definitions_module.summary("a.t", error=0.01, quantiles=[0.5, 0.9]))
    for value in range(1, 10_001):
        given.emit("a", {"t": value / 1000})
    metric = given.store.find("a_t")
    median, ninetieth = metric.at(()).quantiles(metric.shape.quantiles)
    assert median == pytest.approx(5, rel=0.01)
    assert ninetieth == pytest.approx(9, rel=0.01)


def test_a_summary_forgets_what_is_older_than_its_window():
    given = Metrics(definitions_module.summary("a.t", window=50))
    given.emit("a", {"t": 1})
    given.store.advance(49 * SECOND)
    series = given.store.find("a_t").at(())
    assert series.quantiles([0.5]) == [1]
    given.store.advance(61 * SECOND)
    assert math.isnan(series.quantiles([0.5])[0])
    assert series.count == 1


def test_one_event_may_concern_many_definitions():
    given = Metrics(
        definitions_module.counter("a.count"),
        definitions_module.sum("a.size"),
        definitions_module.counter("all.events", event="*"),
    )
    given.emit("a", {"size": 2})
    given.emit("b")
    assert given.series("a_count_total") == {"": 1}
    assert given.series("a_size_total") == {"": 2}
    assert given.series("all_events_total") == {"": 2}


# --- events


def test_an_event_nothing_is_defined_for_is_unused_and_not_rejected():
    given = Metrics(definitions_module.counter("a.count"))
    assert given.emit("b", {"count": 1}) == (1, 0)
    assert given.metrics.unused == 1


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("shop.*", {"shop.a", "shop.a.b"}),
        ("shop.?", {"shop.a"}),
        ("[sz]*", {"shop.a", "shop.a.b"}),
        (["x", "*.b"], {"shop.a.b", "x"}),
        ("SHOP.*", set()),
    ],
)
def test_patterns_are_those_of_the_bus(pattern, wanted):
    given = Metrics(definitions_module.counter("n", event=pattern))
    for name in ("shop.a", "shop.a.b", "x"):
        given.emit(name)
    assert sum(given.series("n_total").values()) == len(wanted)
    assert given.metrics.unused == 3 - len(wanted)


def test_what_follows_from_a_name_is_worked_out_once():
    given = Metrics(*(definitions_module.counter(f"e{n}.count") for n in range(5)))
    asked = []
    for bound in given.metrics._bound:
        bound.matches = lambda name, matches=bound.matches: asked.append(name) or matches(name)
    for _ in range(50):
        given.emit("e1")
        given.emit("other")
    assert len(asked) == 2 * 5


# --- measurements


def test_a_measurement_may_be_worked_out_from_measurements_and_metadata():
    given = Metrics(
        definitions_module.sum("a.free", measurement=lambda measured: measured["total"] - measured["used"]),
        definitions_module.sum(
            "a.cost", measurement=lambda measured, metadata: measured["used"] * metadata["price"]
        ),
    )
    given.emit("a", {"total": 10, "used": 4}, {"price": 2})
    assert given.series("a_free_total") == {"": 6}
    assert given.series("a_cost_total") == {"": 8}


def test_what_is_not_there_is_not_measured():
    given = Metrics(definitions_module.sum("a.b"), definitions_module.sum("a.c", measurement=lambda _: None))
    assert given.emit("a", {"x": 1}) == (1, 0)
    assert given.emit("a", {"b": None}) == (1, 0)
    assert given.metrics.unused == 2
    assert given.store.refused == {}
    assert given.metrics.missing == {"a_b_total": 2, "a_c_total": 2}


@pytest.mark.parametrize(
    ("amount", "number"),
    [(True, 1), (Decimal("1.5"), 1.5), (Fraction(1, 2), 0.5), (Level.HIGH, 3), (0, 0), (2.5, 2.5)],
)
def test_whatever_is_a_number_counts_as_one(amount, number):
    given = Metrics(definitions_module.sum("e.a"), definitions_module.last_value("e.b", measurement="a"))
    assert given.emit("e", {"a": amount}) == (1, 0)
    assert given.series("e_a_total") == given.series("e_b") == {"": number}


@pytest.mark.parametrize("kind", ["sum", "last_value", "summary", "distribution"])
@pytest.mark.parametrize(
    "make", made("5", b"5", math.nan, math.inf, -math.inf, 10**5000, [1], {}, object(), Raises, 1j, int)
)
def test_what_is_no_finite_number_is_refused_and_makes_no_series(kind, make):
    options = {"buckets": "exponential"} if kind == "distribution" else {}
    given = Metrics(getattr(definitions_module, kind)("e.a", **options))
    assert given.emit("e", {"a": make()}) == (0, 1)
    assert sum(given.store.refused.values()) == 1
    assert given.store.series_count() == 0
    assert given.emit("e", {"a": 1}) == (1, 0)


def test_an_event_of_which_something_was_taken_is_taken():
    given = Metrics(definitions_module.sum("a.b"), definitions_module.sum("a.c"))
    assert given.emit("a", {"b": math.nan, "c": 1}) == (1, 0)
    assert given.emit("a", {"b": 1, "c": math.nan}) == (1, 0)
    assert given.store.refused == {"not finite, or negative where that cannot be": 2}


def test_a_measurement_is_converted_to_the_unit_that_is_exported():
    given = Metrics(
        definitions_module.distribution("a.duration_ms", unit=("ms", "s"), buckets=[0.1, 1]),
        definitions_module.sum("a.size", unit=("KiB", "B")),
    )
    given.emit("a", {"duration_ms": 100, "size": 2})
    assert given.series("a_duration_seconds") == {"": (1, 0.1)}
    assert given.store.find("a_duration_seconds").at(()).counts == [1, 0, 0]
    assert given.series("a_size_bytes_total") == {"": 2048}
    assert given.emit("a", {"duration_ms": 10**5000}) == (0, 1)


# --- tags


def test_tags_break_a_metric_down_and_nothing_else_does():
    given = Metrics(definitions_module.counter("a.count", tags=["shop", "kind"]))
    given.emit("a", {}, {"shop": "x", "kind": "y", "span_id": "1"})
    given.emit("a", {}, {"kind": "y", "shop": "x", "span_id": "2"})
    given.emit("a", {}, {"shop": "x"})
    assert given.series("a_count_total") == {"kind=y,shop=x": 2, "shop=x": 1}


def test_what_is_known_of_tag_values_is_not_worked_out_again():
    given = Metrics(
        definitions_module.counter("a.count", tags=["shop"]), definitions_module.counter("b.count", event="a")
    )
    for number in range(1000):
        given.emit("a", {}, {"shop": f"s{number % 3}", f"key{number}": number})
    assert given.metrics.resolved == 3 + 1
    assert sum(given.series("a_count_total").values()) == 1000


def test_values_that_are_equal_and_read_differently_have_series_of_their_own():
    given = Metrics(definitions_module.counter("a.count", tags=["v"]))
    values = [1, True, 1.0, "1", Level.HIGH, 3, "", None, [1], 0, False, 0.0, -0.0]
    for value in values * 2:
        given.emit("a", {}, {"v": value})
    given.emit("a")
    expected = {}
    for value in [*values, *values, None]:
        text = label_text(value)
        expected[f"v={text}" if text else ""] = expected.get(f"v={text}" if text else "", 0) + 1
    assert given.series("a_count_total") == expected


def test_a_tag_keeps_its_name_over_otlp_and_gets_a_legal_one_for_prometheus():
    for naming, name, label in (
        (PROMETHEUS, "a_n_total", "http_route"),
        (OPENTELEMETRY, "a.n", "http.route"),
    ):
        given = Metrics(definitions_module.counter("a.n", tags=["http.route", "le"]), naming=naming)
        given.emit("a", {}, {"http.route": "/", "le": 1})
        ((labels, _),) = given.store.find(name).series.items()
        assert dict(labels)[label] == "/"
        assert ("exported_le" in dict(labels)) == (naming is PROMETHEUS)


def test_tag_values_may_be_worked_out():
    def tags(metadata):
        return {"status": f"{metadata['code'] // 100}xx"}

    given = Metrics(definitions_module.counter("a.n", tags=["status", "shop"], tag_values=tags))
    for code in (200, 204, 404):
        given.emit("a", {}, {"code": code, "shop": "x"})
    assert given.series("a_n_total") == {"shop=x,status=2xx": 2, "shop=x,status=4xx": 1}
    assert given.metrics.resolved == 2


def test_tag_values_of_a_table_are_constants_and_other_keys():
    given = Metrics(
        definitions_module.counter(
            "a.n", tags=["region", "shop"], tag_values={"region": "eu", "shop": {"from": "id"}}
        )
    )
    given.emit("a", {}, {"id": 5, "shop": "not this", "region": "nor this"})
    given.emit("a", {}, {})
    assert given.series("a_n_total") == {"region=eu,shop=5": 1, "region=eu": 1}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep": {"status": "5*"}}, [500, "503"]),
        ({"keep": {"status": [200, "503"]}}, [200, "503"]),
        ({"drop": {"status": "5*"}}, [200, None, True]),
        ({"keep": {"status": True}}, [True]),
        ({"keep": {"status": "*", "shop": "x"}}, [200, 500, "503", True]),
        ({"keep": {"status": "*", "shop": "y"}}, []),
        ({"keep": {"status": "[25]*"}, "drop": {"status": "503"}}, [200, 500]),
        ({"keep": lambda metadata: metadata.get("status") == 200}, [200]),
        ({"drop": lambda measurements, metadata: measurements["n"] > 2}, [200, 500]),
        ({"drop": bool}, []),
    ],
)
def test_keep_and_drop_choose_events(options, kept):
    given = Metrics(definitions_module.counter("a.n", tags=["status"], **options))
    for number, status in enumerate([200, 500, "503", None, True], start=1):
        metadata = {"shop": "x"} if status is None else {"shop": "x", "status": status}
        assert given.emit("a", {"n": number}, metadata) == (1, 0)
    assert sum(given.series("a_n_total").values()) == len(kept)
    expected = {f"status={label_text(one)}" if one is not None else "" for one in kept}
    assert set(given.series("a_n_total")) == expected


# --- limits


def test_beyond_its_limit_a_metric_counts_in_one_series_and_remembers_nothing_more():
    given = Metrics(
        definitions_module.counter("a.n", tags=["id"], max_series=2),
        definitions_module.counter("b.n", event="a", tags=["id"]),
    )
    for number in range(10):
        given.emit("a", {}, {"id": number})
    assert given.series("a_n_total") == {"id=(folded)": 10}
    assert len(given.series("b_n_total")) == 10
    assert given.store.folded() == {"a_n_total": {"id": 3}}
    (bound, _) = given.metrics._bound
    assert len(bound.tags.texts) + len(bound.tags._typed) == 0
    assert len(given.reports) == 1


def test_what_no_folded_label_makes_room_for_is_counted_in_one_series():
    tags = [f"id{number}" for number in range(10)]
    given = Metrics(definitions_module.counter("a.n", event="a", tags=tags, max_series=2))
    for tag in tags:
        given.emit("a", {}, {tag: 1})
    assert given.series("a_n_total") == {"id0=1": 1, "id1=1": 1, "otel_metric_overflow=true": 8}
    assert given.store.overflowing() == ["a_n_total"]
    (bound,) = given.metrics._bound
    assert len(bound.tags.texts) + len(bound.tags._typed) == 2
    assert len(given.reports) == 1
    assert OVERFLOW_LABELS[0][0] in given.reports[0]


def test_memory_does_not_grow_with_texts_that_are_cut_or_numbers_that_are_none():
    given = Metrics(definitions_module.counter("a.n", tags=["id"]))
    for number in range(50):
        given.emit("a", {}, {"id": "x" * 300 + str(number)})
        given.emit("a", {}, {"id": math.nan})
        given.emit("a", {}, {"id": 10**4000 + number})
        given.emit("a", {}, {"id": object()})
    (bound,) = given.metrics._bound
    assert len(given.series("a_n_total")) == 50 + 1 + 50 + 1
    assert len(bound.tags.texts) + len(bound.tags._typed) == 1


# --- what goes wrong


def failing(*_):
    raise RuntimeError("no idea")


@pytest.mark.parametrize(
    "option",
    [
        {"measurement": lambda measured: measured["nothing"]},
        {"measurement": lambda measured, metadata: failing()},
        {"keep": lambda metadata: failing()},
        {"drop": lambda metadata: failing()},
        {"keep": lambda metadata: Raises()},
        {"tags": ["x"], "tag_values": lambda metadata: failing()},
        {"tags": ["x"], "tag_values": lambda metadata: None},
    ],
    ids="-".join,
)
def test_a_function_that_fails_costs_nothing_else_and_is_reported_once(option):
    given = Metrics(definitions_module.sum("a.n", **option), definitions_module.sum("a.m", measurement="n"))
    for _ in range(3):
        assert given.emit("a", {"n": 1}) == (1, 0)
    assert given.series("a_n_total") == {}
    assert given.series("a_m_total") == {"": 3}
    assert given.store.refused == {"function of a definition failed": 3}
    assert len(given.reports) == 1
    assert given.reports[0].startswith(f"the {list(option)[-1]} of sum 'a.n' failed (")


def test_an_event_for_which_only_a_function_failed_is_rejected():
    given = Metrics(definitions_module.sum("a.n", measurement=failing))
    assert given.emit("a") == (0, 1)
    assert "RuntimeError" in given.reports[0]


@pytest.mark.parametrize("make", made(Raises, Liar("x"), object(), [1], {}, 10**5000, b"x"))
def test_peculiar_tag_values_are_no_labels(make):
    given = Metrics(definitions_module.counter("a.n", tags=["x"]))
    for _ in range(2):
        assert given.emit("a", {}, {"x": make()}) == (1, 0)
    assert sum(given.series("a_n_total").values()) == 2


@pytest.mark.parametrize(
    "make",
    made((None, {}, {}, 0, 1), (7, {}, {}, 0, 1), (["x"], {}, {}, 0, 1), ("a", {}), (), None, Raises),
)
def test_what_is_no_event_is_rejected_and_the_others_are_not(make):
    given = Metrics(definitions_module.counter("a.n"))
    good = ("a", {}, {}, 0, 1)
    assert given.metrics.record([good, make(), good]) == (2, 1)
    assert given.series("a_n_total") == {"": 2}


definition_sets = st.lists(
    st.sampled_from(
        [
            definitions_module.counter("e.n"),
            definitions_module.counter("every", event="*", tags=["a", "b"]),
            definitions_module.sum("e.count", tags=["a"]),
            definitions_module.sum("e.value", monotonic=False, event="*"),
            definitions_module.last_value("l.value", event="*", tags=["le"], keep={"a": "*"}),
            definitions_module.summary("s.value", event=["e", "job.*"], unit=("ms", "s")),
            definitions_module.distribution("d.value", event="*", buckets=[1, 2], drop=lambda m: m["a"]),
            definitions_module.distribution(
                "x.value", event="*", buckets="exponential", tags="b", tag_values=dict
            ),
            definitions_module.sum("f.value", event="*", measurement=lambda m: m["value"]),
        ]
    ),
    unique_by=lambda one: one.name,
    max_size=6,
)


@settings(max_examples=examples(150))
@given(
    definition_sets,
    st.lists(
        st.tuples(
            st.sampled_from(["e", "job.start", "", "1"]) | st.text() | anything,
            st.dictionaries(keys, anything, max_size=4) | anything,
            st.dictionaries(keys | st.sampled_from(["a", "b", "trace_id"]), anything, max_size=6) | anything,
            st.integers(0, 10**12),
            st.integers(0, 3),
        ),
        max_size=8,
    ),
)
def test_every_event_whatever_is_in_it_is_accounted_for_once_and_none_raises(definitions, events):
    given = Metrics(*definitions, max_series=5)
    taken, rejected = given.metrics.record([tuple(map(real, event)) for event in events])
    assert taken + rejected == len(events)
    assert given.metrics.unused <= taken
    for metric in given.store.metrics:
        assert len(metric.series) <= 5
        for one in metric.all_series():
            assert math.isfinite(one.sum if hasattr(one, "sum") else one.value)


# --- exemplars


def test_series_remember_a_recent_trace_if_they_are_to():
    definitions = [
        definitions_module.counter("a.n"),
        definitions_module.distribution("a.d", buckets=[1]),
        definitions_module.last_value("a.v"),
    ]
    traced = {"trace_id": "a" * 32, "span_id": "b" * 16}
    for exemplars in (True, False):
        given = Metrics(*definitions, exemplars=exemplars)
        given.emit("a", {"d": 0.5, "v": 1}, traced, at=3)
        exemplar = given.store.find("a_n_total").at(()).exemplar
        assert (exemplar is not None) == exemplars
        if exemplars:
            assert exemplar.traced == Traced(3 * SECOND, "a" * 32, "b" * 16)
            assert given.store.find("a_d").at(()).exemplars[0].value == 0.5


@pytest.mark.parametrize("make", made(5, None, b"x", Raises, {}))
def test_ids_that_are_no_texts_make_no_exemplar(make):
    given = Metrics(definitions_module.counter("a.n"))
    assert given.emit("a", {}, {"trace_id": make()}) == (1, 0)
    assert given.store.find("a_n_total").at(()).exemplar is None


# --- other definitions


def test_definitions_are_replaced_as_a_difference():
    same, changed, gone = (
        definitions_module.counter("a.same"),
        definitions_module.counter("a.changed"),
        definitions_module.counter("a.gone"),
    )
    given = Metrics(same, changed, gone)
    given.emit("a")
    given.metrics.reconfigure(
        [definitions_module.counter("a.new"), definitions_module.counter("a.changed", tags=["x"]), same]
    )
    assert given.store.find("a_gone_total") is None
    given.emit("a", {}, {"x": 1})
    assert given.series("a_same_total") == {"": 2}
    assert given.series("a_changed_total") == {"x=1": 1}
    assert given.series("a_new_total") == {"": 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            definitions_module.distribution("a.n", buckets=[1]),
            definitions_module.distribution("a.n", buckets=[1, 2]),
        ),
        (definitions_module.last_value("a.n"), definitions_module.summary("a.n")),
        (definitions_module.counter("a.n"), definitions_module.counter("a.n", keep={"x": 1})),
        (definitions_module.counter("a.n"), definitions_module.counter("a.n", description="Other.")),
    ],
)
def test_a_definition_that_is_changed_in_any_respect_starts_again(before, after):
    given = Metrics(before)
    given.emit("a", {"n": 1})
    given.metrics.reconfigure([after])
    assert given.store.series_count() == 0
    assert len(given.store) == 1
    given.emit("a", {"n": 1}, {"x": 1})
    assert given.store.series_count() == 1


def test_equal_definitions_from_a_table_keep_their_series():
    table = {"type": "counter", "name": "a.n", "tags": ["x"], "keep": {"x": "*"}}
    given = Metrics(*definitions_from_tables([table]))
    given.emit("a", {}, {"x": 1})
    given.metrics.reconfigure(definitions_from_tables([table]))
    assert given.series("a_n_total") == {"x=1": 1}


def test_a_refused_set_changes_nothing():
    given = Metrics(definitions_module.counter("a.n"), definitions_module.counter("a.m"))
    given.emit("a")
    declare.gauge(given.store, "b_taken", "Of somebody else.")
    before = given.metrics.definitions
    with pytest.raises(DefinitionError) as refused:
        given.metrics.reconfigure(
            [
                definitions_module.last_value("b.taken"),
                definitions_module.counter("a.n"),
                definitions_module.counter("c.n"),
            ]
        )
    assert str(refused.value) == (
        "last_value 'b.taken' would be b_taken, which belongs to the gauge b_taken already"
    )
    with pytest.raises(DefinitionError, match="would both be"):
        given.metrics.reconfigure(
            [definitions_module.counter("a.n"), definitions_module.counter("a.n", tags=["x"])]
        )
    assert given.metrics.definitions == before
    given.emit("a")
    assert given.series("a_n_total") == given.series("a_m_total") == {"": 2}
    assert given.store.find("c_n_total") is None


def test_there_may_be_no_more_metrics_than_the_store_has_room_for():
    given = Metrics(definitions_module.counter("a.n"), definitions_module.counter("a.m"), max_metrics=2)
    with pytest.raises(DefinitionError, match="there may be 2 metrics, which are 1 less"):
        given.metrics.reconfigure(
            [
                definitions_module.counter("a.n"),
                definitions_module.counter("a.m"),
                definitions_module.counter("a.o"),
            ]
        )
    given.metrics.reconfigure([definitions_module.counter("a.n"), definitions_module.counter("a.o")])
    assert [metric.name for metric in given.store.metrics] == ["a_n_total", "a_o_total"]


def test_a_name_that_becomes_free_may_be_taken_in_the_same_step():
    given = Metrics(definitions_module.counter("a.n"), definitions_module.last_value("b.v"))
    given.metrics.reconfigure(
        [definitions_module.sum("a_n", event="a", measurement="n"), definitions_module.summary("b.v")]
    )
    given.emit("a", {"n": 4})
    assert given.series("a_n_total") == {"": 4}


def test_another_owners_metrics_go_in_the_same_step_or_not_at_all():
    given = Metrics()
    declare.counter(given.store, "a_n_total", "Automatic.", owner="automatic").at(()).add(1)
    declare.gauge(given.store, "mine", "Of a meter.", owner="meter").at(()).set(1)
    with pytest.raises(DefinitionError):
        given.metrics.reconfigure(
            [definitions_module.counter("a.n"), definitions_module.last_value("mine", event="x")], "automatic"
        )
    assert given.series("a_n_total") == {"": 1}
    given.metrics.reconfigure([definitions_module.counter("a.n")], "automatic")
    assert given.store.find("a_n_total").owner == OWNER
    assert given.series("a_n_total") == {}
    assert given.series("mine") == {"": 1}


def test_retiring_takes_every_metric_away_and_nothing_of_anybody_else():
    given = Metrics(definitions_module.counter("a.n"))
    declare.gauge(given.store, "mine", "Of a meter.").at(()).set(1)
    given.metrics.retire()
    assert [metric.name for metric in given.store.metrics] == ["mine"]
    assert given.emit("a") == (1, 0)


def test_series_that_have_gone_are_found_to_be_gone():
    given = Metrics(definitions_module.counter("a.n", tags=["x"]), definitions_module.counter("a.m"))
    given.emit("a", {}, {"x": 1})
    given.store.remove("a_n_total", (("x", "1"),))
    given.emit("a", {}, {"x": 1})
    assert given.series("a_n_total") == {"x=1": 1}
    given.store.remove("a_m_total")
    given.emit("a", {}, {"x": 1})
    assert given.series("a_m_total") == {"": 1}
    given.store.expire(0, SECOND)
    given.store.expire(0, SECOND)
    given.store.expire(SECOND, SECOND)
    assert given.store.series_count() == 0
    given.emit("a", {}, {"x": 1})
    assert given.series("a_n_total") == {"x=1": 1}


def test_a_metric_whose_name_somebody_else_took_meanwhile_is_refused_and_counted():
    given = Metrics(definitions_module.counter("a.n"))
    given.store.remove("a_n_total")
    declare.gauge(given.store, "a_n_total", "Of somebody else.")
    assert given.emit("a") == (0, 1)
    assert given.store.refused == {"metric refused": 1}
    given.store.remove("a_n_total")
    assert given.emit("a") == (1, 0)
    assert given.series("a_n_total") == {"": 1}


def test_automatic_metrics_leave_alone_what_is_defined():
    given = Metrics(definitions_module.counter("a.n", event="b"))
    automatic = AutomaticMetrics(given.store, OpenOperations(10, SECOND), MetricOptions(LabelRules(), (1.0,)))
    assert automatic.record([("a.n", {"count": 5}, {}, 0, 1)]) == (0, 1)
    given.emit("b")
    assert given.series("a_n_total") == {"": 1}


def test_a_reader_never_sees_a_batch_half_done():
    given = Metrics(definitions_module.counter("a.n"), definitions_module.sum("a.v"))
    batch = [("a", {"v": 2}, {}, 0, 1)] * 50
    seen = []
    done = threading.Event()

    def read():
        while not done.is_set():
            with given.store.lock:
                seen.append((given.series("a_n_total").get("", 0), given.series("a_v_total").get("", 0)))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(200):
            given.metrics.record(batch)
    finally:
        done.set()
        reader.join()
    assert all(total == 2 * count and count % 50 == 0 for count, total in seen)


class Colour(enum.StrEnum):
    RED = "red"


def test_an_enum_reads_as_its_value():
    given = Metrics(definitions_module.counter("a.n", tags=["x"]))
    for value in (Colour.RED, "red", Colour.RED):
        given.emit("a", {}, {"x": value})
    assert given.series("a_n_total") == {"x=red": 3}
    assert given.metrics.resolved <= 2


# --- what is exported agrees with exact arithmetic


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 1e6) | st.integers(0, 10**6)), min_size=1, max_size=50
    )
)
def test_count_sum_and_buckets_are_those_of_the_events(events):
    given = Metrics(
        definitions_module.counter("e.n", tags="k"),
        definitions_module.sum("e.v", tags="k"),
        definitions_module.distribution("e.w", measurement="v", tags="k", buckets=[1, 1000]),
    )
    given.metrics.record([("e", {"v": value}, {"k": key}, 0, 1) for key, value in events])
    for key in {key for key, _ in events}:
        values = [value for k, value in events if k == key]
        exact = sum(map(Fraction, values))
        assert given.series("e_n_total")[f"k={key}"] == len(values)
        assert given.series("e_v_total")[f"k={key}"] == pytest.approx(float(exact), rel=2**-52, abs=1e-300)
        assert given.series("e_w")[f"k={key}"] == (
            len(values),
            pytest.approx(float(exact), rel=2**-52, abs=1e-300),
        )
        counts = given.store.find("e_w").at((("k", key),)).counts
        assert counts == [
            sum(1 for value in values if value <= 1),
            sum(1 for value in values if 1 < value <= 1000),
            sum(1 for value in values if value > 1000),
        ]


def test_what_is_measured_in_an_operation_has_an_exemplar_and_keeps_its_tags():
    seen = []
    given = Metrics(
        definitions_module.counter(
            "a.n", tags=["trace_id"], keep=lambda metadata: seen.append(metadata) or True
        )
    )
    place = remote_place(TraceParent(7, 8, 1), "", "")
    given.metrics.record([("a", {}, {}, 3 * SECOND, "p", place)])
    exemplar = given.store.find("a_n_total").at(()).exemplar
    assert exemplar.traced == Traced(3 * SECOND, f"{7:032x}", f"{8:016x}")
    assert seen == [{}]
