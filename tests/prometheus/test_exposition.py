import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry.metrics.automatic.events import AutomaticMetrics, MetricOptions
from otpylib_telemetry.metrics.labels import LabelRules
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry_prometheus.exposition.labels_text import LabelWriter
from otpylib_telemetry_prometheus.exposition.negotiation import CLASSIC, OPENMETRICS
from otpylib_telemetry_prometheus.exposition.series_text import ROUND
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import declare
from tests.support.prometheus_server import check_with_promtool

GOLDEN = Path(__file__).parents[1] / "golden"


def recorded(events, *, max_series=2000):
    """Return the store that events, as (name, measurements, metadata, seconds), have made."""
    store = SeriesStore(max_series)
    metrics = AutomaticMetrics(
        store, OpenOperations(100, 10**12), MetricOptions(LabelRules(), (0.005, 0.25, 1.0))
    )
    metrics.record([(name, measures, metadata, int(at * 1e9), 1) for name, measures, metadata, at in events])
    return store


def golden_events(case):
    lines = (GOLDEN / f"{case}.events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def parsed(text):
    """Return the samples of a scrape as prometheus_client reads them: (name, labels) -> value."""
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in samples, f"{key} is there twice"
            samples[key] = sample.value
    return samples


@pytest.mark.parametrize("case", ["shop", "peculiar"])
def test_prometheus_client_reads_every_sample_back(case):
    store = recorded(golden_events(case))
    samples = parsed(Exposition().text([store]))
    expected = {}
    for metric in store.metrics:
        for one in metric.all_series():
            if metric.kind.value != "histogram":
                expected[metric.name, one.labels] = float(one.value)
                continue
            expected[metric.name + "_sum", one.labels] = one.sum
            expected[metric.name + "_count", one.labels] = one.count
            for index, limit in enumerate(["0.005", "0.25", "1.0", "+Inf"]):
                labels = tuple(sorted([*one.labels, ("le", limit)]))
                expected[metric.name + "_bucket", labels] = sum(one.counts[: index + 1])
    assert {key: float(value) for key, value in samples.items()} == expected


@pytest.mark.peer
def test_promtool_has_nothing_to_complain_about():
    text = Exposition("demo", {"region": "eu"}).text([recorded(golden_events("shop"))])
    assert check_with_promtool(text) == ""


@pytest.mark.peer
def test_promtool_can_read_whatever_events_hold():
    text = Exposition().text([recorded(golden_events("peculiar"))])
    assert "error while linting" not in check_with_promtool(text)


def test_nothing_recorded_is_nothing_to_scrape():
    store = SeriesStore(10)
    declare.counter(store, "declared_total", "Declared, and never counted.")
    assert Exposition().text([store]) == ""


def test_namespace_and_global_labels_are_on_every_line():
    store = recorded([("hits", {"count": 1, "duration_ms": 1}, {"b": "2"}, 0)])
    text = Exposition("my.shop", {"a": "x", "c": True, "d": 1.5, "none": None, "empty": ""}).text([store])
    for line in text.splitlines():
        assert "my_shop_hits" in line
        assert line.startswith("#") or 'a="x",b="2",c="true",d="1.5"' in line


def test_another_namespace_loses_no_series():
    store = recorded([("hits", {"count": 3}, {}, 0)])
    assert parsed(Exposition("old").text([store])) == {("old_hits_total", ()): 3}
    assert parsed(Exposition("new").text([store])) == {("new_hits_total", ()): 3}


def test_a_series_keeps_a_label_that_has_a_global_label_s_name_under_another():
    events = [
        ("hits", {"count": number}, metadata, 0)
        for number, metadata in enumerate(
            [
                {},
                {"env": "a"},
                {"exported_env": "a"},
                {"exported_exported_env": "a"},
                {"env": "a", "exported_env": "b"},
            ]
        )
    ]
    exposition = Exposition(global_labels={"env": "prod"})
    store = recorded(events)
    samples = parsed(exposition.text([store]))
    assert sorted(samples.values()) == [0, 1, 2, 3, 4]
    assert samples["hits_total", (("env", "prod"), ("exported_env", "a"))] == 1
    assert samples["hits_total", (("env", "prod"),)] == 0
    assert all(dict(labels)["env"] == "prod" for _, labels in samples)
    assert parsed(exposition.text([store])) == samples


def test_the_overflow_series_is_on_the_page():
    events = [("hits", {"count": 1, "duration_ms": 1}, {f"user{number}": "1"}, 0) for number in range(5)]
    samples = parsed(Exposition().text([recorded(events, max_series=2)]))
    overflow = (("otel_metric_overflow", "true"),)
    assert samples["hits_total", overflow] == 3
    assert samples["hits_duration_seconds_count", overflow] == 3


def test_other_buckets_are_on_the_next_page():
    store = recorded([("job", {"duration_ms": 500}, {}, 0)])
    exposition = Exposition()
    assert 'le="0.25"' in exposition.text([store])
    store.rebucket((2, 4))
    assert exposition.text([store]) == ""
    store.find("job_duration_seconds").at(()).observe(3)
    limits = [
        dict(labels)["le"] for name, labels in parsed(exposition.text([store])) if name.endswith("_bucket")
    ]
    assert limits == ["2.0", "4.0", "+Inf"]


def test_what_has_been_removed_is_neither_on_the_page_nor_remembered_for_it():
    store = recorded([("hits", {"count": 1}, {"n": number}, 0) for number in range(3)])
    declare.gauge(store, "level", "Level.").at(()).set(1)
    exposition = Exposition(global_labels={"n": "g"})
    exposition.text([store])
    store.remove("hits_total", (("n", "1"),))
    store.remove("level")
    assert len(parsed(exposition.text([store]))) == 2
    (writer,) = exposition._writers.values()
    assert [len(text.kept) for _, text in writer._plan] == [2]


def test_a_page_is_made_in_pieces_and_series_may_come_meanwhile():
    store = recorded(
        [("hits", {"count": 1}, {"n": number}, 0) for number in range(3 * ROUND)], max_series=10**6
    )
    pieces = []
    for number, piece in enumerate(Exposition().render(CLASSIC, [store])):
        pieces.append(piece)
        store.find("hits_total").at((("late", str(number)),)).add(1)
    assert len(pieces) >= 3
    assert len(parsed(b"".join(pieces).decode())) == 3 * ROUND


def changed_in_the_middle(store, change, form=CLASSIC):
    """The page of a store that changes after the first chunk."""
    chunks = Exposition().render(form, [store])
    first = next(chunks)
    change()
    return (first + b"".join(chunks)).decode()


def test_a_metric_that_is_removed_while_a_page_is_made_is_still_on_it():
    store = recorded(
        [("big", {"count": 1}, {"n": number}, 0) for number in range(3 * ROUND)], max_series=10**6
    )
    declare.counter(store, "old_total", "Old.").at(()).add(7)

    def change():
        store.remove("old_total")
        declare.counter(store, "new_total", "New.").at(()).add(1)

    page = parsed(changed_in_the_middle(store, change))
    assert page["old_total", ()] == 7
    assert ("new_total", ()) not in page
    assert ("old_total", ()) not in parsed(Exposition().text([store]))


def test_buckets_that_change_while_a_page_is_made_leave_the_old_ones_on_it():
    store = recorded(
        [("big", {"count": 1}, {"n": number}, 0) for number in range(3 * ROUND)], max_series=10**6
    )
    declare.histogram(store, "took", "Took.", (1, 2)).at(()).observe(1.5)

    def change():
        store.rebucket((5, 6))
        store.find("took").at(()).observe(5.5)

    page = parsed(changed_in_the_middle(store, change))
    assert {key: page[key] for key in page if key[0].startswith("took")} == {
        ("took_bucket", (("le", "1.0"),)): 0,
        ("took_bucket", (("le", "2.0"),)): 1,
        ("took_bucket", (("le", "+Inf"),)): 1,
        ("took_sum", ()): 1.5,
        ("took_count", ()): 1,
    }


@pytest.mark.parametrize("form", [CLASSIC, OPENMETRICS])
def test_a_metric_that_cannot_be_written_costs_itself_alone(form, monkeypatch):
    store = SeriesStore(10**6)
    for number in range(ROUND):
        declare.histogram(store, "took", "Took.", (1, 2)).at((("n", f"{number:06}"),)).observe(1)
    declare.counter(store, "a_total", "A.").at(()).add(1)
    declare.counter(store, "z_total", "Z.").at(()).add(1)
    series = store.find("took").all_series()
    # The last one of many: what went before of the metric must not be on the page either.
    monkeypatch.setattr(series[-1], "counts", None)
    told = []
    exposition = Exposition(report=told.append)
    for scrape in (1, 2):
        page = exposition.text([store], form=form)
        assert "took" not in page
        assert "a_total 1" in page
        assert "z_total 1" in page
        assert exposition.failures == scrape
    (message,) = told
    assert message.startswith(
        "metric took (histogram) is left out of the page: it cannot be written (AttributeError"
    )
    monkeypatch.undo()
    assert exposition.text([store], form=form).count("took_bucket") == 3 * ROUND


def test_a_metric_that_cannot_be_prepared_costs_itself_alone(monkeypatch):
    store = SeriesStore(10)
    for name in ("odd", "sane"):
        declare.gauge(store, name, "A gauge.").at(()).set(1)
    monkeypatch.setattr(store.find("odd"), "description", 5)
    told = []
    exposition = Exposition(report=told.append)
    assert list(parsed(exposition.text([store]))) == [("sane", ())]
    assert (len(told), exposition.failures) == (1, 1)


@pytest.mark.parametrize("form", [CLASSIC, OPENMETRICS])
def test_a_histogram_without_bounds_is_one(form):
    store = SeriesStore(10)
    declare.histogram(store, "took", "Took.", ()).at(()).observe(3)
    page = Exposition().text([store], form=form)
    assert 'took_bucket{le="+Inf"} 1\ntook_sum 3\ntook_count 1\n' in page


def test_a_second_scrape_prepares_nothing_again(monkeypatch):
    store = recorded([("hits", {"count": 1, "duration_ms": 1}, {"n": number}, 0) for number in range(50)])
    exposition = Exposition()
    first = exposition.text([store])
    monkeypatch.setattr(LabelWriter, "plain", None)
    monkeypatch.setattr(LabelWriter, "text", None)
    assert exposition.text([store]) == first


label_values = st.text() | st.integers() | st.floats() | st.booleans()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "a.b", "job.start", "job.stop", "ä", "a_total"]) | st.text(),
            st.fixed_dictionaries(
                {}, optional={"count": st.floats(0), "value": st.floats(), "duration_ms": st.floats(0, 1e9)}
            ),
            st.dictionaries(st.text(max_size=4), label_values, max_size=4),
            st.floats(0, 100),
        ),
        max_size=10,
    ),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=3), max_size=2),
)
def test_every_page_can_be_read_and_has_no_series_twice(events, global_labels):
    store = recorded(events, max_series=3)
    text = Exposition(global_labels=global_labels).text([store])
    samples = parsed(text)
    assert not any(math.isnan(value) or math.isinf(value) for value in samples.values())
    singles = [metric for metric in store.metrics if metric.kind.value != "histogram"]
    for metric in singles:
        values = [value for (name, _), value in samples.items() if name == metric.name]
        assert sorted(values) == sorted(float(one.value) for one in metric.all_series())


@given(st.lists(st.floats(-100, 100), max_size=30))
def test_a_histogram_reads_like_prometheus_client_s_own(values):
    registry = CollectorRegistry()
    theirs = Histogram("h", "H.", ["a"], registry=registry, buckets=(-1, 0.005, 1, 2.5, 1e6))
    store = SeriesStore(10)
    ours = declare.histogram(store, "h", "H.", (-1, 0.005, 1, 2.5, 1e6))
    theirs.labels("x")
    ours.at((("a", "x"),))
    for value in values:
        theirs.labels("x").observe(value)
        ours.at((("a", "x"),)).observe(value)
    expected = parsed(generate_latest(registry).decode())
    # prometheus_client also says when it began to count, and leaves out a sum that may have fallen.
    comparable = {key: value for key, value in expected.items() if key[0] != "h_created"}
    samples = parsed(Exposition().text([store]))
    assert len(comparable) >= len(samples) - 1
    assert {key: samples[key] for key in comparable} == comparable
