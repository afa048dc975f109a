"""Every kind of metric, in both formats, read back by prometheus_client's parsers."""

import gzip
import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.openmetrics import exposition as their_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from otpylib_telemetry.aggregation.exponential import MAX_SCALE
from otpylib_telemetry.aggregation.metric_spec import SummaryShape
from otpylib_telemetry.aggregation.series import Exemplar, Traced
from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry_prometheus.exposition import histogram_text, series_text
from otpylib_telemetry_prometheus.exposition.negotiation import (
    CLASSIC,
    CLASSIC_UTF8,
    OPENMETRICS,
    OPENMETRICS_UTF8,
)
from otpylib_telemetry_prometheus.exposition.series_text import ROUND
from otpylib_telemetry_prometheus.exposition.writer import Exposition, compress
from tests.support import declare
from tests.support.versions import needs_new_client

FORMS = [CLASSIC, CLASSIC_UTF8, OPENMETRICS, OPENMETRICS_UTF8]
UTF8 = [CLASSIC_UTF8, OPENMETRICS_UTF8]
BOUNDS = (0.005, 0.01, 0.25, 1.0, 2.5, 1e6)
TRACE, SPAN = "ab" * 16, "cd" * 8
SHAPE = SummaryShape((0.5, 0.99), MAX_SCALE, 160, 10**9, 3)


def families(text, form):
    return list((openmetrics_families if form.openmetrics else classic_families)(text))


def read(text, form):
    """Return the samples of a page: (name, labels without empty ones) -> value; none may be there twice."""
    samples = {}
    for family in families(text, form):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if value))
            assert (sample.name, labels) not in samples
            samples[sample.name, labels] = sample.value
    return samples


def exemplars(text):
    return {
        (sample.name, sample.labels.get("le", "")): sample.exemplar
        for family in openmetrics_families(text)
        for sample in family.samples
        if sample.exemplar
    }


@pytest.fixture
def store():
    return SeriesStore(10_000)


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_reads_back(store, form):
    labels = (("shop", "north"),)
    declare.counter(store, "sold_total", "Sold.").at(labels).add(2.5)
    declare.gauge(store, "level", "Level.").at(labels).set(-3)
    declare.up_down(store, "under_way", "Under way.").at(labels).add(4)
    for value in (0.005, 0.2, 3):
        declare.histogram(store, "took_seconds", "Took.", BOUNDS, "seconds").at(labels).observe(value)
        declare.exponential(store, "size_bytes", "Size.", scale=20, max_size=160).at(labels).observe(value)
        declare.summary(store, "wait_seconds", "Waited.", SHAPE).at(labels).observe(value)
    text = Exposition().text([store], form=form)
    types = {family.name.removesuffix("_total"): family.type for family in families(text, form)}
    assert types == {
        "sold": "counter",
        "level": "gauge",
        "under_way": "gauge",
        "took_seconds": "histogram",
        "size_bytes": "histogram",
        "wait_seconds": "summary",
    }
    samples = read(text, form)
    assert samples["sold_total", labels] == 2.5
    assert samples["level", labels] == -3
    assert samples["under_way", labels] == 4
    assert samples["took_seconds_bucket", (("le", "0.005"), *labels)] == 1
    assert samples["took_seconds_bucket", (("le", "2.5"), *labels)] == 2
    assert samples["took_seconds_bucket", (("le", "+Inf"), *labels)] == 3
    for name in ("took_seconds", "size_bytes", "wait_seconds"):
        assert samples[f"{name}_sum", labels] == pytest.approx(3.205)
        assert samples[f"{name}_count", labels] == 3
    assert samples["size_bytes_bucket", (("le", "0.25"), *labels)] == 2
    assert samples["wait_seconds", (("quantile", "0.5"), *labels)] == pytest.approx(0.2, rel=0.03)
    assert samples["wait_seconds", (("quantile", "0.99"), *labels)] == pytest.approx(0.2, rel=0.03)
    assert text.endswith("# EOF\n") == form.openmetrics
    assert text.count("# UNIT") == ("# UNIT took_seconds seconds\n" in text) == form.openmetrics


def test_openmetrics_says_nothing_of_when_series_were_created(store):
    declare.counter(store, "a_total", "A.").at(()).add(1)
    declare.histogram(store, "b", "B.", BOUNDS).at(()).observe(1)
    assert "_created" not in Exposition().text([store], form=OPENMETRICS)


# --- exponential histograms


@given(
    st.lists(
        st.floats(-1e9, 1e9) | st.integers(-10, 10) | st.sampled_from([2.0**power for power in range(-9, 9)])
    )
)
def test_the_buckets_of_an_exponential_histogram_count_exactly(values):
    store = SeriesStore(10)
    series = declare.exponential(store, "size", "Size.", scale=20, max_size=160).at(())
    for value in values:
        series.observe(value)
    for name, labels in (samples := read(Exposition().text([store]), CLASSIC)):
        if name == "size_bucket":
            bound = float(dict(labels)["le"])
            assert samples[name, labels] == sum(value <= bound for value in values)
    assert samples["size_bucket", (("le", "+Inf"),)] == len(values)
    families(Exposition().text([store], form=OPENMETRICS), OPENMETRICS)


def bounds_shown(text):
    return {line.split('le="')[1].split('"')[0] for line in text.splitlines() if "_bucket" in line}


def test_a_bound_shown_once_is_shown_again_and_of_every_series(store):
    metric = declare.exponential(store, "size", "Size.", scale=20, max_size=160)
    metric.at((("a", "1"),)).observe(3)
    exposition = Exposition()
    before = bounds_shown(exposition.text([store]))
    assert before == {"2.0", "4.0", "+Inf"}
    metric.at((("a", "2"),)).observe(100)
    after = exposition.text([store])
    assert bounds_shown(after) == before | {"8.0", "16.0", "32.0", "64.0", "128.0"}
    assert after.count('le="128.0"') == after.count('le="2.0"') == 2
    store.remove("size", (("a", "2"),))
    assert bounds_shown(exposition.text([store])) == bounds_shown(after)


def test_bounds_within_a_bucket_that_has_become_too_wide_are_not_made_up(store):
    series = declare.exponential(store, "size", "Size.", scale=20, max_size=4).at(())
    series.observe(3)
    exposition = Exposition()
    assert bounds_shown(exposition.text([store])) == {"2.0", "4.0", "+Inf"}
    series.observe(1e6)
    samples = read(exposition.text([store]), CLASSIC)
    values = [3, 1e6]
    shown = {
        float(dict(labels)["le"]): value for (name, labels), value in samples.items() if name == "size_bucket"
    }
    assert len(shown) > 2
    assert shown == {bound: sum(value <= bound for value in values) for bound in shown}


def test_the_widest_distribution_makes_no_endless_page(store):
    series = declare.exponential(store, "size", "Size.", scale=20, max_size=10_000).at(())
    for power in range(-1000, 1000, 500):
        series.observe(2.0**power)
    series.observe(5e-324)
    series.observe(1.7e308)
    assert len(bounds_shown(Exposition().text([store]))) < 20


# --- what OpenMetrics has no room for


@pytest.mark.parametrize("kind", ["bounds", "values", "exponential", "summary"])
def test_openmetrics_gets_no_sum_that_may_fall(store, kind):
    if kind == "bounds":
        declare.histogram(store, "h", "H.", (-1, 0, 1)).at(()).observe(1)
    elif kind == "values":
        declare.histogram(store, "h", "H.", (1, 2)).at(()).observe(-5)
    elif kind == "exponential":
        declare.exponential(store, "h", "H.", scale=20, max_size=160).at(()).observe(-5)
    else:
        declare.summary(store, "h", "H.", SHAPE).at(()).observe(-5)
    assert ("h_sum", ()) not in read(Exposition().text([store], form=OPENMETRICS), OPENMETRICS)
    assert ("h_sum", ()) in read(Exposition().text([store]), CLASSIC)


def test_a_summary_without_recent_observations_reads_nan(store):
    metric = declare.summary(store, "wait", "Wait.", SHAPE)
    metric.at(()).observe(1)
    exposition = Exposition()
    assert read(exposition.text([store]), CLASSIC)["wait", (("quantile", "0.5"),)] == 1
    metric.advance(10 * 10**9)
    for form in FORMS:
        samples = read(exposition.text([store], form=form), form)
        assert math.isnan(samples["wait", (("quantile", "0.5"),)])
        assert samples["wait_count", ()] == 1


# --- exemplars


def test_exemplars_stand_at_the_counter_and_at_their_bucket(store):
    traced = Traced(5_250_000_000, TRACE, SPAN)
    declare.counter(store, "sold_total", "Sold.").at(()).add(3, traced)
    declare.histogram(store, "took", "Took.", (1, 2)).at(()).observe(1.5, traced)
    declare.exponential(store, "size", "Size.", scale=20, max_size=160).at(()).observe(3, traced)
    exposition = Exposition()
    text = exposition.text([store], form=OPENMETRICS, wall_offset_ns=10**18)
    found = exemplars(text)
    assert set(found) == {("sold_total", ""), ("took_bucket", "2.0"), ("size_bucket", "4.0")}
    for exemplar in found.values():
        assert exemplar.labels == {"trace_id": TRACE, "span_id": SPAN}
        assert float(exemplar.timestamp) == 1_000_000_005.25
    assert [exemplar.value for exemplar in found.values()] == [3, 3, 1.5]
    assert "trace_id" not in exposition.text([store])


def test_a_new_exemplar_is_on_the_next_page_though_the_text_was_kept(store):
    series = declare.histogram(store, "took", "Took.", (1, 2)).at(())
    series.observe(1.5, Traced(0, TRACE, SPAN))
    exposition = Exposition()
    for _ in range(3):
        exposition.text([store], form=OPENMETRICS)
    series.exemplars[1] = Exemplar(1.25, Traced(0, "ef" * 16, SPAN))
    (exemplar,) = exemplars(exposition.text([store], form=OPENMETRICS)).values()
    assert exemplar.labels["trace_id"] == "ef" * 16


@pytest.mark.parametrize(
    ("trace", "span", "labels"),
    [
        (TRACE, "", {"trace_id": TRACE}),
        ("", "", None),
        ("t" * 105, "s" * 8, {"trace_id": "t" * 105, "span_id": "s" * 8}),
        ("t" * 106, "s" * 8, None),
        ('a"b', SPAN, None),
        ("a\nb", SPAN, None),
    ],
)
def test_an_exemplar_that_openmetrics_does_not_take_is_left_out(store, trace, span, labels):
    declare.counter(store, "sold_total", "Sold.").at(()).add(1, Traced(0, trace, span))
    found = exemplars(Exposition().text([store], form=OPENMETRICS))
    assert [exemplar.labels for exemplar in found.values()] == ([labels] if labels else [])


# --- names


@needs_new_client
@pytest.mark.parametrize("form", FORMS)
@given(
    names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True),
    labels=st.dictionaries(st.text(min_size=1, max_size=4), st.text(max_size=4), max_size=3),
)
def test_any_name_can_be_read(form, names, labels):
    store, told = SeriesStore(10), []
    for number, name in enumerate(names):
        declare.gauge(store, name, "Any\nname.").at(tuple(sorted(labels.items()))).set(number)
    samples = read(Exposition(report=told.append).text([store], form=form), form)
    assert sorted(samples.values()) == list(range(len(names)))
    assert not told


@needs_new_client
@pytest.mark.parametrize("form", UTF8)
def test_who_takes_any_name_gets_it_as_it_is(store, form):
    labels = (("http.method", "GET"), ("plain", "x"))
    declare.counter(store, "http.requests", "Requests.").at(labels).add(1)
    declare.histogram(store, "http.duration", "Took, 100%.", (1,)).at(labels).observe(0.5)
    declare.gauge(store, 'odd "%s" \\ name', "Odd.").at(()).set(1)
    text = Exposition().text([store], form=form)
    samples = read(text, form)
    assert samples["http.requests_total", labels] == 1
    assert samples["http.duration_bucket", (("http.method", "GET"), ("le", "1.0"), ("plain", "x"))] == 1
    assert samples["http.duration_sum", labels] == 0.5
    assert samples['odd "%s" \\ name', ()] == 1
    assert '{"http.requests_total","http.method"="GET",plain="x"} 1\n' in text


@pytest.mark.parametrize("form", [CLASSIC, OPENMETRICS])
def test_names_that_become_the_same_stay_apart(store, form):
    declare.gauge(store, "a.b", "A.").at(()).set(1)
    declare.gauge(store, "a_b", "B.").at(()).set(2)
    declare.gauge(store, "a-b", "C.").at(()).set(3)
    for number, name in enumerate(["x.y", "x_y", "x-y"]):
        declare.gauge(store, "same", "Same.").at(((name, "v"),)).set(number)
    samples = read(Exposition().text([store], form=form), form)
    assert samples == {
        ("a_b", ()): 2,
        ("U__a_2e_b", ()): 1,
        ("U__a_2d_b", ()): 3,
        ("same", (("x_y", "v"),)): 0,
        ("same", (("U__x__y", "v"),)): 1,
        ("same", (("U__x_2d_y", "v"),)): 2,
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_series_that_reads_like_another_is_left_out_and_reported(store, form):
    metric = declare.gauge(store, "level", "Level.")
    metric.at(()).set(1)
    metric.at((("shop", ""),)).set(2)
    told = []
    exposition = Exposition(report=told.append)
    for _ in range(2):
        assert read(exposition.text([store], form=form), form) == {("level", ()): 1}
    (message,) = told
    assert "a series of the metric level is left out" in message
    metric.series.pop(())
    assert read(exposition.text([store], form=form), form) == {("level", ()): 2}


@pytest.mark.parametrize("form", FORMS)
def test_labels_with_a_meaning_of_their_own_are_renamed(store, form):
    declare.histogram(store, "h", "H.", (1,)).at((("le", "mine"),)).observe(1)
    declare.summary(store, "s", "S.", SHAPE).at((("quantile", "mine"),)).observe(1)
    declare.gauge(store, "g", "G.").at((("__name__", "mine"), ("le", "kept"))).set(1)
    samples = read(Exposition().text([store], form=form), form)
    assert samples["h_bucket", (("exported_le", "mine"), ("le", "1.0"))] == 1
    assert samples["s_count", (("exported_quantile", "mine"),)] == 1
    assert samples["g", (("_name__", "mine"), ("le", "kept"))] == 1


def test_a_counter_openmetrics_cannot_have_keeps_its_name_and_number(store):
    declare.gauge(store, "big", "A gauge.").at(()).set(1)
    declare.counter(store, "big_total", "A counter.").at(()).add(2, Traced(0, TRACE, SPAN))
    told = []
    text = Exposition(report=told.append).text([store], form=OPENMETRICS)
    assert read(text, OPENMETRICS) == {("big", ()): 1, ("big_total", ()): 2}
    assert {family.name: family.type for family in openmetrics_families(text)} == {
        "big": "gauge",
        "big_total": "unknown",
    }
    assert not told


@pytest.mark.parametrize("form", FORMS)
def test_a_metric_whose_name_is_taken_is_left_out_and_reported(form):
    first, second = SeriesStore(10), SeriesStore(10)
    declare.gauge(first, "level", "Level.").at(()).set(1)
    declare.gauge(second, "level", "Level.").at(()).set(2)
    told = []
    exposition = Exposition(report=told.append)
    for _ in range(2):
        assert read(exposition.text([first, second], form=form), form) == {("level", ()): 1}
    (message,) = told
    assert message == (
        "metric level (gauge) is left out of the page: the name level belongs to the gauge level, "
        "which came first"
    )


@needs_new_client
def test_lone_surrogates_do_not_cost_the_page(store):
    declare.gauge(store, "a\ud800", "b\ud800").at((("c\ud800", "d\ud800"),)).set(1)
    for form in FORMS:
        assert list(read(Exposition().text([store], form=form), form).values()) == [1]


# --- one metric alone


@pytest.mark.parametrize("form", [CLASSIC, OPENMETRICS])
def test_who_wants_some_samples_gets_only_these(store, form):
    for number in range(3):
        declare.gauge(store, "level", "Level.").at((("n", str(number)),)).set(number)
    declare.gauge(store, "level_other", "Other.").at(()).set(1)
    declare.counter(store, "sold_total", "Sold.").at(()).add(1)
    declare.histogram(store, "took", "Took.", (1,)).at(()).observe(1)
    page = b"".join(Exposition().render(form, [store], names=["level", "took_count"])).decode()
    assert [line for line in page.splitlines() if not line.startswith("# EOF")] == [
        "# HELP level Level.",
        "# TYPE level gauge",
        'level{n="0"} 0',
        'level{n="1"} 1',
        'level{n="2"} 2',
        "# HELP took Took.",
        "# TYPE took histogram",
        "took_count 1",
    ]


# --- against prometheus_client


steps = st.lists(
    st.tuples(
        st.sampled_from(["counter", "gauge", "histogram", "summary"]),
        st.sampled_from([("a", "x"), ("a", "y"), ('b"\\\n', "ü€")]),
        st.floats(0, 1e9) | st.integers(0, 1000),
    ),
    max_size=40,
)


@needs_new_client
@pytest.mark.parametrize("form", [CLASSIC, OPENMETRICS])
@given(steps=steps, pages=st.integers(1, 4))
def test_the_same_stream_reads_the_same_as_through_prometheus_client(form, steps, pages):
    registry, store, exposition = CollectorRegistry(), SeriesStore(10), Exposition()
    names = ["first", "second"]
    theirs = {
        "counter": Counter("c", "C.", names, registry=registry),
        "gauge": Gauge("g", "G.", names, registry=registry),
        "histogram": Histogram("h", "H.", names, registry=registry, buckets=BOUNDS),
        "summary": Summary("s", "S.", names, registry=registry),
    }
    ours = {
        "counter": declare.counter(store, "c_total", "C."),
        "gauge": declare.gauge(store, "g", "G."),
        "histogram": declare.histogram(store, "h", "H.", BOUNDS),
        "summary": declare.summary(store, "s", "S.", SummaryShape((), MAX_SCALE, 160, 10**9, 3)),
    }
    generate = their_openmetrics.generate_latest if form.openmetrics else generate_latest
    size = max(1, -(-len(steps) // pages))
    for start in range(0, len(steps) + 1, size):
        for kind, values, number in steps[start : start + size]:
            their, our = theirs[kind].labels(*values), ours[kind].at(tuple(zip(names, values, strict=True)))
            if kind == "counter":
                their.inc(number)
                our.add(number)
            elif kind == "gauge":
                their.set(number)
                our.set(number)
            else:
                their.observe(number)
                our.observe(number)
        for _ in range(2):
            mine = read(exposition.text([store], form=form), form)
        expected = {
            key: value
            for key, value in read(generate(registry).decode(), form).items()
            if not key[0].endswith("_created")
        }
        assert set(mine) == set(expected)
        # Our sums are compensated, theirs are not: a float apart they may be.
        assert all(mine[key] == pytest.approx(expected[key], rel=1e-12, abs=1e-9) for key in mine)


# --- what a scrape costs, and whom


def test_pages_of_several_formats_at_once_and_changes_in_between_are_all_whole(store):
    metric = declare.histogram(store, "took", "Took.", (1, 2))
    for number in range(2_000):
        metric.at((("n", str(number)),)).observe(number % 3)
    exposition = Exposition()
    renders = [(form, exposition.render(form, [store]), []) for form in FORMS * 2]
    while renders:
        for entry in list(renders):
            form, render, chunks = entry
            chunk = next(render, None)
            if chunk is None:
                renders.remove(entry)
                assert len(read(b"".join(chunks).decode(), form)) >= 2_000
                continue
            chunks.append(chunk)
            metric.at((("n", "7"),)).observe(1)
            store.remove("took", (("n", str(len(chunks) * 10 + len(renders))),))


def test_no_page_has_a_torn_series_while_another_thread_measures(store):
    metric, stop = declare.histogram(store, "took", "Took.", (1, 2, 3)), threading.Event()

    def measure():
        while not stop.is_set():
            for number in range(20):
                with store.lock:
                    for _ in range(3):
                        metric.at((("n", str(number)),)).observe(2)

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        exposition = Exposition()
        for _ in range(30):
            samples = read(exposition.text([store]), CLASSIC)
            for (name, labels), count in samples.items():
                if name == "took_count":
                    assert count % 3 == 0
                    assert samples["took_sum", labels] == 2 * count
                    assert samples["took_bucket", (("le", "2.0"), *labels)] == count
    finally:
        stop.set()
        thread.join()


def test_the_store_is_held_for_a_few_thousand_lines_at_a_time(store):
    metric = declare.histogram(store, "took", "Took.", BOUNDS)
    for number in range(3_000):
        metric.at((("n", str(number)),))
    exposition = Exposition()
    chunks = list(exposition.render(CLASSIC, [store]))
    assert max(chunk.count(b"\n") for chunk in chunks) <= ROUND + 2
    assert len(list(exposition.render(CLASSIC, [store], names=["other"]))) >= len(chunks)


@pytest.mark.parametrize("form", FORMS)
def test_only_what_has_changed_is_written_anew(store, form, monkeypatch):
    metric = declare.histogram(store, "took", "Took.", (1, 2))
    for number in range(100):
        metric.at((("n", str(number)),)).observe(1, Traced(0, TRACE, SPAN))
    size = declare.exponential(store, "size", "Size.", scale=20, max_size=160).at(())
    size.observe(1)
    wait = declare.summary(store, "wait", "Wait.", SHAPE).at(())
    wait.observe(1)
    exposition = Exposition()
    for _ in range(3):
        exposition.text([store], form=form)
    written = []

    def counting(original):
        def counted(self, *arguments):
            written.append(self.name)
            return original(self, *arguments)

        return counted

    for kind, step in (
        (histogram_text.ExplicitHistograms, "_written"),
        (histogram_text.ExponentialHistograms, "drawn"),
        (series_text._Summaries, "drawn"),
    ):
        monkeypatch.setattr(kind, step, counting(getattr(kind, step)))
    exposition.text([store], form=form)
    assert written == []
    metric.at((("n", "5"),)).observe(2)
    metric.at((("n", "7"),)).observe(0)
    samples = read(exposition.text([store], form=form), form)
    assert written == ["took", "took"]
    assert samples["took_count", (("n", "5"),)] == samples["took_count", (("n", "7"),)] == 2
    assert samples["took_sum", (("n", "5"),)] == 3
    size.observe(1)
    wait.observe(1)
    samples = read(exposition.text([store], form=form), form)
    assert samples["size_count", ()] == samples["wait_count", ()] == 2


def test_what_was_prepared_for_a_format_goes_when_nobody_reads_it(store):
    declare.gauge(store, "level", "Level.").at(()).set(1)
    exposition = Exposition()
    for form in FORMS:
        exposition.text([store], form=form)
    assert len(exposition._writers) == 4
    for _ in range(25):
        exposition.text([store])
    assert len(exposition._writers) == 1


def test_a_compressed_page_is_the_page():
    page = b"level 1\n" * 1000
    assert gzip.decompress(compress(page)) == page
    assert len(compress(page)) < len(page) / 10
    assert compress(page) == compress(page)
