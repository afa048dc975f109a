"""Families of others, and of ours, as both formats have them; examples of the formats' own documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    Info,
    Summary,
    generate_latest,
)
from prometheus_client.core import (
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    StateSetMetricFamily,
    Timestamp,
    UnknownMetricFamily,
)
from prometheus_client.openmetrics import exposition as their_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

from otpylib_telemetry.aggregation.store import SeriesStore
from otpylib_telemetry_prometheus.exposition.families import Exemplar, Family, Sample
from otpylib_telemetry_prometheus.exposition.family_text import PIECE
from otpylib_telemetry_prometheus.exposition.negotiation import (
    CLASSIC,
    CLASSIC_UTF8,
    OPENMETRICS,
    OPENMETRICS_UTF8,
)
from otpylib_telemetry_prometheus.exposition.target_info import target_info
from otpylib_telemetry_prometheus.exposition.writer import Exposition
from tests.support import declare
from tests.support.prometheus_server import check_with_promtool
from tests.support.versions import needs_new_client

FORMS = [CLASSIC, CLASSIC_UTF8, OPENMETRICS, OPENMETRICS_UTF8]


def families(text, form):
    return list((openmetrics_families if form.openmetrics else classic_families)(text))


def rendered(found, form, report=None, store=None, **settings):
    told = [] if report is None else report
    text = Exposition(report=told.append, **settings).text([store] if store else [], found, form)
    if report is None:
        assert not told
    return text


def a_registry():
    """Everything prometheus_client has."""
    registry = CollectorRegistry()
    Counter("sold", "Sold \\ items\n.", ["shop"], registry=registry).labels('nor"th\\\n').inc(
        2, {"trace_id": "ab" * 16}
    )
    Gauge("level", "Level.", registry=registry).set(float("nan"))
    Gauge("limit", "Limit.", registry=registry).set(float("inf"))
    Histogram("took", "Took.", unit="seconds", registry=registry).observe(0.3, {"trace_id": "cd" * 16})
    Summary("waited", "Waited.", registry=registry).observe(3)
    Info("build", "Build.", registry=registry).info({"version": "1"})
    Enum("state", "State.", states=["on", "off"], registry=registry).state("off")
    return registry


def told_apart(family):
    """All of a family. NaN equals nothing, so numbers are compared as they print."""
    samples = [
        (one.name, one.labels, repr(float(one.value)), one.timestamp, one.exemplar) for one in family.samples
    ]
    return (family.name, family.documentation, family.type, family.unit, samples)


class Peculiar:
    def collect(self):
        yield UnknownMetricFamily("mystery", "Unknown.", value=-1.5)
        yield GaugeHistogramMetricFamily("queue", "Queue.", buckets=[("1.0", 1), ("+Inf", 3)], gsum_value=7)
        yield StateSetMetricFamily("flags", "Flags.", value={"a": True, "b": False})
        timed = GaugeMetricFamily("timed", "Timed.", labels=["n"])
        timed.add_metric(["1"], 5, timestamp=1_600_000_000.25)
        timed.add_metric(["2"], 6, timestamp=Timestamp(1_600_000_000, 500_000_000))
        yield timed
        yield HistogramMetricFamily("h", "H.", buckets=[("1.0", 1), ("+Inf", 3)], sum_value=7)


@pytest.mark.parametrize("form", FORMS)
def test_a_registry_reads_as_on_prometheus_client_s_own_endpoint(form):
    registry = a_registry()
    registry.register(Peculiar())
    theirs = (
        their_openmetrics.generate_latest(registry) if form.openmetrics else generate_latest(registry)
    ).decode()
    ours = rendered(registry.collect(), form)
    assert list(map(told_apart, families(ours, form))) == list(map(told_apart, families(theirs, form)))


@pytest.mark.peer
def test_promtool_has_nothing_to_say_against_families():
    registry = CollectorRegistry()
    Counter("sold", "Sold.", ["shop"], registry=registry).labels("x").inc(2)
    Histogram("took_seconds", "Took.", registry=registry).observe(0.3)
    found = [
        *(family for family in registry.collect()),
        Family("exporter_up", "Up.", "gauge", "", (Sample("exporter_up", {"exporter": "a"}, 1),)),
        target_info({"service.name": "shop"}),
    ]
    assert check_with_promtool(rendered(found, CLASSIC)) == ""


label_sets = st.dictionaries(
    st.text(min_size=1, max_size=5).filter(lambda name: not name.startswith("__")),
    st.text(min_size=1, max_size=6),
    max_size=3,
)


@needs_new_client
@pytest.mark.parametrize("form", [CLASSIC_UTF8, OPENMETRICS_UTF8])
@given(
    name=st.text(min_size=1, max_size=8),
    documentation=st.text(max_size=20).map(str.strip),
    unique=st.lists(
        label_sets, min_size=1, max_size=4, unique_by=lambda labels: tuple(sorted(labels.items()))
    ),
    value=st.floats().map(lambda number: number + 0.0),  # without -0.0, which equals 0.0
)
def test_any_family_reads_back_equal(form, name, documentation, unique, value):
    samples = tuple(Sample(name, labels, value) for labels in unique)
    (family,) = families(rendered([Family(name, documentation, "gauge", "", samples)], form), form)
    assert family.name == name
    assert family.type == "gauge"
    if form.openmetrics:
        assert family.documentation == documentation
    assert [(sample.name, sample.labels, repr(float(sample.value))) for sample in family.samples] == [
        (name, labels, repr(value)) for labels in unique
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_family_whose_name_is_taken_is_left_out_and_reported(form):
    store = SeriesStore(10)
    declare.histogram(store, "took", "Took.", (1,)).at(()).observe(1)
    told = []
    found = [
        Family("took", "Also.", "gauge", "", (Sample("took", {}, 5),)),
        Family("took_count", "Also.", "gauge", "", (Sample("took_count", {}, 5),)),
        Family("other", "Other.", "gauge", "", (Sample("other", {}, 5),)),
        Family("other", "Again.", "counter", "", (Sample("other_total", {}, 5),)),
        Family("other", "Again.", "gauge", "", (Sample("other", {}, 6),)),
    ]
    exposition = Exposition(report=told.append)
    for _ in range(2):
        text = exposition.text([store], found, form)
        samples = {sample.name: sample.value for family in families(text, form) for sample in family.samples}
        assert samples["took_count"] == 1
        assert samples["other"] == samples["other_total"] == 5
    assert [message.split(" is left out")[0] for message in told] == [
        "metric family took (gauge)",
        "metric family took_count (gauge)",
        "metric family other (gauge)",
    ]
    assert "belongs to the histogram took, which came first" in told[0]


class Broken:
    name = "broken"
    type = "gauge"

    @property
    def samples(self):
        raise RuntimeError("no\nsamples")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "broken",
    [
        Broken(),
        object(),
        None,
        Family("broken", "B.", "gauge", "", (Sample("broken", {}, "text"),)),
        Family(
            "broken", "B.", "gauge", "", (Sample("broken", {"a": "1"}, 1), Sample("broken", {"a": "1"}, 2))
        ),
        Family("broken", "B.", "gauge", "", (Sample("different", {}, 1),)),
    ],
)
def test_a_family_that_is_none_costs_only_itself(form, broken):
    told = []
    good = Family("good", "Good.", "gauge", "", (Sample("good", {}, 1),))
    text = rendered([broken, good], form, told)
    assert [family.name for family in families(text, form)] == ["good"]
    (message,) = told
    assert "is left out of the page" in message


def test_openmetrics_refuses_samples_their_type_does_not_have():
    told = []
    odd = Metric("odd", "Odd.", "counter")
    odd.add_sample("odd_things", {}, 1)
    assert rendered([odd], OPENMETRICS, told) == "# EOF\n"
    assert told == [
        "metric family odd (counter) is left out of the page: a counter has no sample named odd_things"
    ]


@pytest.mark.parametrize("form", FORMS)
def test_global_labels_are_on_families_too(form):
    found = [Family("g", "G.", "gauge", "", (Sample("g", {"env": "own", "a": "b"}, 1),))]
    ((family,),) = [
        families(rendered(found, form, global_labels={"env": "prod"}, namespace="not_theirs"), form)
    ]
    assert [sample.labels for sample in family.samples] == [{"env": "prod", "exported_env": "own", "a": "b"}]
    assert family.name == "g"


def test_exemplars_of_families_are_told_where_they_may_be():
    seen = Exemplar({"trace_id": "ab" * 16}, 0.5, 12.5)
    too_long = Exemplar({"trace_id": "x" * 200}, 0.5, 12.5)
    found = [
        Family("a", "A.", "counter", "", (Sample("a_total", {}, 1, None, seen),)),
        Family("b", "B.", "counter", "", (Sample("b_total", {}, 1, None, too_long),)),
        Family("c", "C.", "gauge", "", (Sample("c", {}, 1, None, seen),)),
    ]
    (one, *others) = [
        sample.exemplar
        for family in families(rendered(found, OPENMETRICS), OPENMETRICS)
        for sample in family.samples
    ]
    assert (one.labels, one.value, float(one.timestamp)) == ({"trace_id": "ab" * 16}, 0.5, 12.5)
    assert others == [None, None]


# --- target_info


@pytest.mark.parametrize("form", FORMS)
def test_target_info_tells_the_attributes_of_the_resource(form):
    found = target_info(
        {
            "service.name": "shop",
            "service_name": "also",
            "k8s..pod--name": "p",
            "1st": True,
            "ports": (80, 443),
            "load": 0.5,
            "empty": "",
        }
    )
    (family,) = families(rendered([found], form), form)
    (sample,) = family.samples
    assert family.type == ("info" if form.openmetrics else "gauge")
    assert (sample.name, sample.value) == ("target_info", 1)
    assert sample.labels == {
        "service_name": "shop;also",
        "k8s_pod_name": "p",
        "_1st": "true",
        "ports": "[80,443]",
        "load": "0.5",
    }


def test_no_attributes_are_no_target_info():
    assert target_info({}) is None
    assert target_info({"empty": ""}) is None


# --- the formats' own documents


def test_the_text_format_s_example():
    """Prometheus documentation, "Exposition formats", section "Text format example": the parts with types."""
    found = [
        Family(
            "http_requests",
            "The total number of HTTP requests.",
            "counter",
            "",
            (
                Sample("http_requests_total", {"method": "post", "code": "200"}, 1027, 1395066363.0),
                Sample("http_requests_total", {"method": "post", "code": "400"}, 3, 1395066363.0),
            ),
        ),
        Family(
            "msdos_file_access_time_seconds",
            "",
            "unknown",
            "",
            (
                Sample(
                    "msdos_file_access_time_seconds",
                    {"path": "C:\\DIR\\FILE.TXT", "error": 'Cannot find file:\n"FILE.TXT"'},
                    1.458255915e9,
                ),
            ),
        ),
        Family(
            "http_request_duration_seconds",
            "A histogram of the request duration.",
            "histogram",
            "",
            (
                Sample("http_request_duration_seconds_bucket", {"le": "0.05"}, 24054),
                Sample("http_request_duration_seconds_bucket", {"le": "+Inf"}, 144320),
                Sample("http_request_duration_seconds_sum", {}, 53423),
                Sample("http_request_duration_seconds_count", {}, 144320),
            ),
        ),
        Family(
            "rpc_duration_seconds",
            "A summary of the RPC duration in seconds.",
            "summary",
            "",
            (
                Sample("rpc_duration_seconds", {"quantile": "0.99"}, 76656),
                Sample("rpc_duration_seconds_sum", {}, 1.7560473e07),
                Sample("rpc_duration_seconds_count", {}, 2693),
            ),
        ),
    ]
    assert rendered(found, CLASSIC).splitlines() == [
        "# HELP http_requests_total The total number of HTTP requests.",
        "# TYPE http_requests_total counter",
        'http_requests_total{code="200",method="post"} 1027 1395066363000',
        'http_requests_total{code="400",method="post"} 3 1395066363000',
        "# TYPE msdos_file_access_time_seconds untyped",
        (
            r'msdos_file_access_time_seconds{error="Cannot find file:\n\"FILE.TXT\"",'
            r'path="C:\\DIR\\FILE.TXT"} 1458255915'
        ),
        "# HELP http_request_duration_seconds A histogram of the request duration.",
        "# TYPE http_request_duration_seconds histogram",
        'http_request_duration_seconds_bucket{le="0.05"} 24054',
        'http_request_duration_seconds_bucket{le="+Inf"} 144320',
        "http_request_duration_seconds_sum 53423",
        "http_request_duration_seconds_count 144320",
        "# HELP rpc_duration_seconds A summary of the RPC duration in seconds.",
        "# TYPE rpc_duration_seconds summary",
        'rpc_duration_seconds{quantile="0.99"} 76656',
        "rpc_duration_seconds_sum 17560473",
        "rpc_duration_seconds_count 2693",
    ]


def test_the_openmetrics_specification_s_rules():
    """OpenMetrics 1.0, sections "Overall Structure", "Metric Types" and "Exemplars", one rule a line."""
    seen = Exemplar({"trace_id": "KOO5S4vxi0o"}, 0.67)
    found = [
        Family(
            "foo_seconds", 'Say "hi" \\ \n', "counter", "seconds", (Sample("foo_seconds_total", {}, 17, 5.5),)
        ),
        Family("foo", "", "info", "", (Sample("foo_info", {"entity": "controller"}, 1),)),
        Family(
            "state",
            "",
            "stateset",
            "",
            (Sample("state", {"state": "on"}, 1), Sample("state", {"state": "off"}, 0)),
        ),
        Family(
            "bar",
            "",
            "histogram",
            "",
            (
                Sample("bar_bucket", {"le": "0.01"}, 0),
                Sample("bar_bucket", {"le": "1.0"}, 11, None, seen),
                Sample("bar_bucket", {"le": "+Inf"}, 17),
                Sample("bar_count", {}, 17),
                Sample("bar_sum", {}, 324789.3),
            ),
        ),
        Family("limits", "", "gauge", "", (Sample("limits", {}, float("-inf")),)),
        Family("what", "", "unknown", "nonsense", (Sample("what", {}, 1e-9),)),
    ]
    text = rendered(found, OPENMETRICS)
    assert text.splitlines() == [
        r"# HELP foo_seconds Say \"hi\" \\ \n",
        "# TYPE foo_seconds counter",
        "# UNIT foo_seconds seconds",
        "foo_seconds_total 17 5.5",
        "# TYPE foo info",
        'foo_info{entity="controller"} 1',
        "# TYPE state stateset",
        'state{state="on"} 1',
        'state{state="off"} 0',
        "# TYPE bar histogram",
        'bar_bucket{le="0.01"} 0',
        'bar_bucket{le="1.0"} 11 # {trace_id="KOO5S4vxi0o"} 0.67',
        'bar_bucket{le="+Inf"} 17',
        "bar_count 17",
        "bar_sum 324789.3",
        "# TYPE limits gauge",
        "limits -Inf",
        "# TYPE what unknown",
        "what 1e-09",
        "# EOF",
    ]
    assert len(families(text, OPENMETRICS)) == len(found)


@pytest.mark.parametrize("form", [CLASSIC_UTF8, OPENMETRICS_UTF8])
def test_the_escaping_proposal_s_example(form):
    """Prometheus documentation, "UTF-8 in Prometheus": name and label names in quotation marks."""
    found = [
        Family(
            "my.noncompliant.metric",
            "H.",
            "gauge",
            "",
            (Sample("my.noncompliant.metric", {"label.name": "v"}, 10),),
        )
    ]
    assert rendered(found, form).splitlines()[:3] == [
        '# HELP "my.noncompliant.metric" H.',
        '# TYPE "my.noncompliant.metric" gauge',
        '{"my.noncompliant.metric","label.name"="v"} 10',
    ]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("names", [(), ("level", "took_bucket")])
def test_a_large_family_is_written_in_pieces(form, names):
    class Looked(tuple):
        """Samples of which somebody counts how many are looked at."""

        __slots__ = ()

        def __iter__(self):
            for sample in super().__iter__():
                looked.append(1)
                yield sample

    looked = []
    samples = Looked(Sample("level", {"n": str(number)}, number) for number in range(5 * PIECE))
    worked, chunks = [], []
    for chunk in Exposition().render(
        form, [], [Family("level", "Level.", "gauge", "", samples)], names=names
    ):
        worked.append(len(looked))
        looked.clear()
        chunks.append(chunk)
    assert max(worked) <= PIECE
    assert sum(worked) == 5 * PIECE
    found = families(b"".join(chunks).decode(), form)
    assert [len(family.samples) for family in found] == [5 * PIECE]
    text = b"".join(chunks).decode()
    assert text.count("# TYPE") == 1


def test_a_large_family_that_is_none_leaves_nothing_on_the_page():
    samples = [Sample("level", {"n": str(number)}, number) for number in range(3 * PIECE)]
    told = []
    family = Family("level", "Level.", "gauge", "", (*samples, samples[0]))
    assert rendered([family], CLASSIC, told) == ""
    assert len(told) == 1
