"""Definitions of metrics: what they mean, and what is said of those that do not do."""

# ruff: noqa: E501  # each message stands on one line, as the user reads it

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.config.resolution import redacted
from otpylib_telemetry.config.resolve import resolve, validate_argument
from otpylib_telemetry.metrics import buckets as buckets_module
from otpylib_telemetry.metrics import definition as definition_module
from otpylib_telemetry.metrics import definitions
from otpylib_telemetry.metrics.definition import Definition
from otpylib_telemetry.metrics.definition_tables import definitions_from_tables
from otpylib_telemetry.metrics.names import OPENTELEMETRY, PROMETHEUS
from otpylib_telemetry.metrics.options import DefinitionError
from otpylib_telemetry.metrics.recorder import is_automatic
from otpylib_telemetry.metrics.settings import definitions_in, definitions_setting
from otpylib_telemetry_prometheus.settings import PrometheusSettings

TYPES = {
    "counter": definitions.counter,
    "sum": definitions.sum,
    "last_value": definitions.last_value,
    "summary": definitions.summary,
    "distribution": definitions.distribution,
}
NEEDED = {"distribution": {"buckets": [1, 2]}}


def a_function(metadata):
    return metadata


# --- what a name says


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "counter"])
def test_the_name_says_the_event_and_the_measurement(kind):
    made = TYPES[kind]("shop.checkout.stop.items", **NEEDED.get(kind, {}))
    assert made.events == ("shop.checkout.stop",)
    assert made.measurement == "items"


def test_a_counter_counts_whatever_is_measured_unless_it_is_told_to_look():
    assert definitions.counter("shop.checkout.stop.count").measurement is None
    assert definitions.counter("shop.checkout.stop.count").events == ("shop.checkout.stop",)
    assert definitions.counter("shop.checkout.stop.count", measurement="count").measurement == "count"


def test_event_and_measurement_may_be_said_apart_from_the_name():
    made = definitions.sum("bytes_sent", event=["net.*", "disk.sent"], measurement="bytes")
    assert made.events == ("net.*", "disk.sent")
    assert made.measurement == "bytes"
    assert definitions.sum("net.bytes", event="net.sent").measurement == "bytes"


@pytest.mark.parametrize(
    ("definition", "kind"),
    [
        (definitions.counter("a.b"), Kind.COUNTER),
        (definitions.sum("a.b"), Kind.COUNTER),
        (definitions.sum("a.b", monotonic=False), Kind.UP_DOWN),
        (definitions.last_value("a.b"), Kind.GAUGE),
        (definitions.summary("a.b"), Kind.SUMMARY),
        (definitions.distribution("a.b", buckets=[1]), Kind.HISTOGRAM),
        (definitions.distribution("a.b", buckets="exponential"), Kind.EXPONENTIAL),
        (definitions.distribution("a.b", buckets=buckets_module.base2()), Kind.EXPONENTIAL),
    ],
)
def test_each_type_is_a_kind_of_metric(definition, kind):
    assert definition.kind is kind


# --- what it is called


@pytest.mark.parametrize(
    ("definition", "prometheus", "opentelemetry"),
    [
        (
            definitions.counter("shop.checkouts", event="x"),
            ("shop_checkouts_total", ""),
            ("shop.checkouts", ""),
        ),
        (definitions.counter("shop.total", event="x"), ("shop_total", ""), ("shop.total", "")),
        (
            definitions.distribution("a.duration_ms", unit=("ms", "s")),
            ("a_duration_seconds", "seconds"),
            ("a.duration", "s"),
        ),
        (
            definitions.summary("a.duration_ms", unit="ms"),
            ("a_duration_milliseconds", "milliseconds"),
            ("a.duration", "ms"),
        ),
        (
            definitions.summary("a.duration_seconds", unit="s"),
            ("a_duration_seconds", "seconds"),
            ("a.duration_seconds", "s"),
        ),
        (
            definitions.sum("net.sent_bytes", unit="B"),
            ("net_sent_bytes_total", "bytes"),
            ("net.sent_bytes", "By"),
        ),
        (definitions.sum("net.bytes", unit="B"), ("net_bytes_total", "bytes"), ("net.bytes", "By")),
        (
            definitions.sum("net.sent_kb", unit=("kB", "B")),
            ("net_sent_kb_bytes_total", "bytes"),
            ("net.sent_kb", "By"),
        ),
        (
            definitions.sum("net.sent_kB", unit=("kB", "B")),
            ("net_sent_bytes_total", "bytes"),
            ("net.sent", "By"),
        ),
        (
            definitions.last_value("cpu.load", unit=("percent", "ratio")),
            ("cpu_load_ratio", "ratio"),
            ("cpu.load", "1"),
        ),
        (definitions.last_value("q.depth", unit="jobs"), ("q_depth_jobs", "jobs"), ("q.depth", "jobs")),
        (definitions.last_value("q.depth", unit="{job}"), ("q_depth", ""), ("q.depth", "{job}")),
    ],
    ids=lambda value: value.name if isinstance(value, Definition) else "",
)
def test_it_is_called_at_each_exit_what_an_instrument_of_that_name_and_unit_is(
    definition, prometheus, opentelemetry
):
    assert definition.exported(PROMETHEUS) == prometheus
    assert definition.exported(OPENTELEMETRY) == opentelemetry
    # What a collector would make of the one is the other.
    assert PROMETHEUS.instrument(*opentelemetry, definition.kind) == prometheus


# --- buckets


def test_durations_have_buckets_by_default_in_the_unit_they_are_exported_in():
    assert definitions.distribution("a.t", unit=("ms", "s")).buckets[:3] == (0.005, 0.01, 0.025)
    assert definitions.distribution("a.t", unit="ms").buckets[:3] == (5.0, 10.0, 25.0)
    assert definitions.distribution("a.t", unit="us").buckets[-1] == 10_000_000.0


def test_bounds_may_be_computed():
    assert buckets_module.exponential(1, 2, 4) == (1.0, 2.0, 4.0, 8.0)
    table = {"start": 0.5, "factor": 10, "count": 2}
    assert definitions.distribution("a.b", buckets=table).buckets == (0.5, 5.0)
    assert definitions.distribution("a.b", buckets=[1, 2, math.inf]).buckets == (1.0, 2.0)


def test_exponential_buckets_have_opentelemetrys_defaults():
    assert definitions.distribution("a.b", buckets="exponential").buckets == buckets_module.base2(160, 20)
    assert definitions.distribution("a.b", buckets={"max_size": 80}).buckets == buckets_module.base2(
        max_size=80
    )


@given(st.floats(1e-9, 1e9), st.floats(1.01, 100), st.integers(1, 40))
def test_each_computed_bound_is_the_factor_times_the_one_before(start, factor, count):
    bounds = buckets_module.exponential(start, factor, count)
    assert len(bounds) == count
    assert all(math.isclose(b, a * factor, rel_tol=1e-12) for a, b in itertools.pairwise(bounds))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, 3), "start is 0, an integer, expected a number above 0"),
        ((1, 1, 3), "factor is 1, an integer, expected a number above 1"),
        ((1, 2, 0), "count is 0, an integer, expected a whole number from 1 to 200"),
        (
            (1, "2", 2.5),
            "factor is '2', a string, expected a number above 1; count is 2.5, a float, expected a whole number from 1 to 200",
        ),
        ((1, 1e300, 3), "exponential(1, 1e+300, 3) makes bounds that no float can tell apart or hold"),
        ((1, math.nextafter(1, 2), 3), None),
    ],
)
def test_bounds_that_cannot_be_computed_are_refused(arguments, message):
    if message is None:
        assert buckets_module.exponential(*arguments)
        return
    with pytest.raises(DefinitionError) as refused:
        buckets_module.exponential(*arguments)
    assert str(refused.value) == message


def test_base2_refuses_what_no_buckets_can_be():
    with pytest.raises(DefinitionError) as refused:
        buckets_module.base2(max_size=1, max_scale=21)
    assert refused.value.problems == (
        "max_size is 1, an integer, expected a whole number from 2 to 10000",
        "max_scale is 21, an integer, expected a whole number from -10 to 20",
    )


# --- what is refused, and how it is said

#: Type, name, options, and what the user reads after "TYPE 'NAME': ".
BAD = [
    (
        "counter",
        "",
        {},
        "name is '', a string, expected a dotted name of at most 200 characters, without blanks, such as shop.checkout.stop.count",
    ),
    (
        "counter",
        "a. b",
        {},
        "name is 'a. b', a string, expected a dotted name of at most 200 characters, without blanks, such as shop.checkout.stop.count",
    ),
    (
        "counter",
        "a..b",
        {},
        "name is 'a..b', a string, expected a dotted name of at most 200 characters, without blanks, such as shop.checkout.stop.count",
    ),
    (
        "counter",
        "http.*.count",
        {},
        "name is 'http.*.count', a string, expected a name for the metric; the pattern of the events it is made of goes into event",
    ),
    ("counter", "requests", {}, "event is missing, and the name 'requests' has no part that says it"),
    (
        "counter",
        "a.b",
        {"event": []},
        "event is an empty list, expected an event name, a shell pattern over event names, or a list of these",
    ),
    (
        "counter",
        "a.b",
        {"event": ["x", 5]},
        "event is a list of 2 items, expected event names or shell patterns without blanks, such as shop.checkout.*",
    ),
    (
        "sum",
        "a.b",
        {"measurement": 5},
        "measurement is 5, an integer, expected the name of a measurement, or a function of measurements and metadata",
    ),
    (
        "sum",
        "a.b",
        {"measurement": lambda: 1},
        "measurement is an object of type function, expected a function that can be called with one or two arguments",
    ),
    (
        "sum",
        "a.b",
        {"measurement": lambda a, b, c: 1},
        "measurement is an object of type function, expected a function that can be called with one or two arguments",
    ),
    ("counter", "a.b", {"tags": 5}, "tags is 5, an integer, expected a list of metadata keys"),
    (
        "counter",
        "a.b",
        {"tags": ["x", None]},
        "tags is a list of 2 items, expected a list of metadata keys, but item 2 is nothing (None)",
    ),
    (
        "counter",
        "a.b",
        {"tags": ["a.b", "a_b"]},
        "tags is a list of 2 items, expected keys that differ as labels too, but 'a.b' and 'a_b' are both a_b",
    ),
    (
        "counter",
        "a.b",
        {"tag_values": 5},
        'tag_values is 5, an integer, expected a function of metadata, or a table of tags with a constant or { from = "another key" } each',
    ),
    (
        "counter",
        "a.b",
        {"tags": "x", "tag_values": {"x": {"form": "y"}}},
        'tag_values is a table of 1 entry, expected a function of metadata, or a table of tags with a constant or { from = "another key" } each, but that of x is no { from = "another key" }',
    ),
    (
        "counter",
        "a.b",
        {"tags": "x", "tag_values": {"y": 1}},
        "tag_values is a table of 1 entry, expected only what tags has, which y is not",
    ),
    (
        "counter",
        "a.b",
        {"tag_values": lambda a, b: a},
        "tag_values is an object of type function, expected a function of one argument, the metadata",
    ),
    (
        "counter",
        "a.b",
        {"keep": {}},
        "keep is an empty table, expected a function of metadata, or a table of metadata keys with a value, a pattern or a list of these",
    ),
    (
        "counter",
        "a.b",
        {"drop": {"x": [[]]}},
        "drop is a table of 1 entry, expected a function of metadata, or a table of metadata keys with a value, a pattern or a list of these, but that of x is an empty list",
    ),
    (
        "sum",
        "a.b",
        {"unit": "m s"},
        "unit is 'm s', a string, expected a unit such as ns, us, ms, s, min, h, d, bit, B, kB, KiB, MB, MiB, GB, GiB, TB, TiB, PB, PiB, ratio, percent, 1, celsius, hertz, volts, amperes, watts, joules, grams, meters, or another word; did you mean ms?",
    ),
    (
        "sum",
        "a.b",
        {"unit": ("ms", "B")},
        "unit is a list of 2 items, expected two units of one kind for a conversion, but ms is one of time and B one of data",
    ),
    (
        "sum",
        "a.b",
        {"unit": ["ms"]},
        'unit is a list of 1 item, expected a unit such as "ms", or two to convert from and to, such as ("ms", "s")',
    ),
    (
        "counter",
        "a.b",
        {"unit": ("ms", "s")},
        "unit is a list of 2 items, expected one unit, for a counter has nothing to convert",
    ),
    ("sum", "a.b", {"description": 5}, "description is 5, an integer, expected a string"),
    (
        "sum",
        "a.b",
        {"max_series": 0},
        "max_series is 0, an integer, expected a whole number from 1 to 1000000",
    ),
    (
        "sum",
        "a.b",
        {"monotonic": 1},
        "monotonic is 1, an integer, expected true (the sum only rises) or false (it rises and falls)",
    ),
    (
        "last_value",
        "a.b",
        {"multiprocess_mode": "avg"},
        "multiprocess_mode is 'avg', a string, expected one of all, liveall, min, livemin, max, livemax, sum, livesum, mostrecent, livemostrecent",
    ),
    (
        "summary",
        "a.b",
        {"quantiles": [0.5, 2]},
        "quantiles is a list of 2 items, expected from 1 to 50 different numbers from 0 to 1, but item 2 is 2, an integer",
    ),
    (
        "summary",
        "a.b",
        {"quantiles": [0.5, 0.5]},
        "quantiles is a list of 2 items, expected from 1 to 50 different numbers from 0 to 1",
    ),
    (
        "summary",
        "a.b",
        {"quantiles": [True]},
        "quantiles is a list of 1 item, expected from 1 to 50 different numbers from 0 to 1, but item 1 is true, a boolean",
    ),
    (
        "sum",
        "a.b",
        {"max_series": "5"},
        "max_series is '5', a string, expected a whole number from 1 to 1000000",
    ),
    ("summary", "a.b", {"error": 0}, "error is 0, an integer, expected a relative error from 0.001 to 0.5"),
    (
        "summary",
        "a.b",
        {"window": math.nan},
        "window is nan, a float, expected a number of seconds from 1 to 86400",
    ),
    (
        "distribution",
        "a.b",
        {},
        "buckets is missing, expected bounds; only what is exported in a unit of time has some by default",
    ),
    (
        "distribution",
        "a.b",
        {"buckets": [1, 1]},
        "buckets is a list of 2 items, expected from 1 to 200 ascending finite bounds, but number 2 is not above the one before it",
    ),
    (
        "distribution",
        "a.b",
        {"buckets": [1, "2"]},
        "buckets is a list of 2 items, expected from 1 to 200 ascending finite bounds, but number 2 is '2', a string",
    ),
    (
        "distribution",
        "a.b",
        {"buckets": {"start": 1, "factor": 0.5, "count": 3}},
        'buckets is a table of 3 entries, expected from 1 to 200 ascending finite bounds, exponential(start, factor, count), base2(...) or "exponential"; in a table, { start, factor, count } or { max_size, max_scale }, but factor is 0.5, a float, expected a number above 1',
    ),
    ("counter", "a.b", {"bucket": [1]}, "'bucket' is no option of a counter"),
    ("counter", "a.b", {"buckets": [1]}, "'buckets' is no option of a counter; it is one of distribution"),
    ("counter", "a.b", {"tag": ["x"]}, "'tag' is no option of a counter; did you mean tags?"),
]


@pytest.mark.parametrize(("kind", "name", "options", "message"), BAD)
def test_what_does_not_do_is_refused_with_what_was_expected(kind, name, options, message):
    with pytest.raises(DefinitionError) as refused:
        TYPES[kind](name, **options)
    assert str(refused.value) == f"{kind} {name!r}: {message}"
    with pytest.raises(DefinitionError) as refused:
        definitions_from_tables([{"type": kind, "name": name, **options}], "telemetry.x.metrics")
    assert str(refused.value) == f"telemetry.x.metrics: item 1 ({kind} {name!r}): {message}"


def test_a_function_that_must_be_awaited_is_refused():
    async def measured(measurements):
        return 1

    with pytest.raises(DefinitionError, match="expected a plain function, not one that is awaited"):
        definitions.sum("a.b", measurement=measured)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(DefinitionError) as refused:
        definitions_from_tables(
            [
                {"type": "counter", "name": "a.b"},
                {"type": "count", "name": "c.d"},
                {"name": "e.f"},
                {"type": "sum", "name": "g", "monotonic": 3, "unit": "a b"},
                7,
            ],
            "here",
        )
    problems = refused.value.problems
    assert len(problems) == 6
    assert problems[0] == (
        "here: item 2 ('c.d'): type is 'count', a string, expected one of counter, sum, last_value, summary, "
        "distribution; did you mean counter?"
    )
    assert problems[1].startswith("here: item 3 ('e.f'): type is missing, expected one of counter, sum")
    assert problems[2].startswith("here: item 4 (sum 'g'): event is missing")
    assert problems[3].startswith("here: item 4 (sum 'g'): unit is 'a b'")
    assert problems[4].startswith("here: item 4 (sum 'g'): monotonic is 3")
    assert problems[5] == "here: item 5: expected a table with type and name, got 7, an integer"
    assert str(refused.value) == "; ".join(problems)


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        (definitions.counter("a.b"), definitions.counter("a.b"), "a_b_total"),
        (definitions.counter("a.b"), definitions.sum("a_b", event="x"), "a_b_total"),
        (definitions.distribution("a.b", buckets=[1]), definitions.last_value("a.b.count"), "a_b_count"),
        (
            definitions.summary("a.t_ms", unit=("ms", "s")),
            definitions.last_value("a.t_s", unit="s"),
            "a_t_seconds",
        ),
        (definitions.counter("a.b"), definitions.last_value("a.b"), "a.b"),
    ],
)
def test_two_definitions_that_want_one_name_are_refused(one, other, name):
    with pytest.raises(DefinitionError, match="give one of them another name") as refused:
        definitions_from_tables([one, other])
    assert f"{one.type} {one.name!r} and {other.type} {other.name!r} would both be {name}" in str(
        refused.value
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
options = sorted(
    {option for names in definition_module.TYPES.values() for option in definition_module._options_of(names)}
    | {"name", "type"}
)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(options) | st.text(max_size=4), anything | st.sampled_from(list(TYPES))
        )
        | anything,
        max_size=3,
    )
    | anything
)
def test_whatever_a_table_holds_it_is_taken_or_refused_with_a_message(tables):
    try:
        made = definitions_from_tables(tables)
    except DefinitionError as refused:
        problems, made = refused.problems, ()
    else:
        problems = None
    said = re.compile("expected|missing|no option|give one|no name")
    assert problems is None or (problems and all(said.search(one) for one in problems))
    assert all(isinstance(one, Definition) for one in made)


# --- tables and equality

TABLES = [
    (
        {"type": "counter", "name": "a.b", "tags": ["x"], "description": "Text."},
        definitions.counter("a.b", tags=("x",), description="Text."),
    ),
    (
        {"type": "sum", "name": "a.b", "unit": ["ms", "s"], "monotonic": False},
        definitions.sum("a.b", unit=("ms", "s"), monotonic=False),
    ),
    (
        {"type": "last_value", "name": "a.b", "keep": {"k": ["1", "2*"]}, "drop": {"l": True}},
        definitions.last_value("a.b", keep={"k": ["1", "2*"]}, drop={"l": True}),
    ),
    (
        {"type": "summary", "name": "a.b", "quantiles": [0.9, 0.5], "error": 0.02, "window": 60},
        definitions.summary("a.b", quantiles=(0.5, 0.9), error=0.02, window=60.0),
    ),
    (
        {"type": "distribution", "name": "a.b", "buckets": {"start": 1, "factor": 2, "count": 3}},
        definitions.distribution("a.b", buckets=buckets_module.exponential(1, 2, 3)),
    ),
    (
        {"type": "counter", "name": "a.b", "tags": ["x", "y"], "tag_values": {"x": "eu", "y": {"from": "z"}}},
        definitions.counter("a.b", tags=["x", "y"], tag_values={"y": {"from": "z"}, "x": "eu"}),
    ),
]


@pytest.mark.parametrize(("table", "definition"), TABLES)
def test_a_table_defines_what_the_function_does(table, definition):
    assert definitions_from_tables([table]) == (definition,)
    assert hash(definitions_from_tables([table])[0]) == hash(definition)


@pytest.mark.parametrize(("_table", "definition"), TABLES)
def test_a_definition_can_be_written_as_a_table_again(_table, definition):
    assert definitions_from_tables([definition.as_table()]) == (definition,)


def test_functions_are_equal_if_they_are_the_same():
    assert definitions.counter("a.b", keep=a_function) == definitions.counter("a.b", keep=a_function)
    assert definitions.counter("a.b", keep=lambda m: m) != definitions.counter("a.b", keep=lambda m: m)


def test_a_definition_is_readable():
    text = repr(definitions.counter("a.b", keep=a_function, tags=["x"]))
    assert text == "counter('a.b', event='a', tags=['x'], keep='function a_function')"


# --- as a setting


def test_a_setting_takes_tables_objects_and_both():
    definition = definitions.counter("a.b")
    table = {"type": "counter", "name": "c.d"}
    assert definitions_setting([definition, table]) == (definition, definitions.counter("c.d"))
    assert definitions_setting(definition) == definitions_setting([definition]) == (definition,)
    assert definitions_setting('[{"type": "counter", "name": "c.d"}]') == (definitions.counter("c.d"),)
    for nothing in ("automatic", ["automatic"], [], ()):
        assert definitions_setting(nothing) == "automatic"
    with pytest.raises(RefusedError, match="in JSON"):
        definitions_setting("[{")


def test_metrics_are_automatic_exactly_when_nothing_is_defined_unless_it_is_said():
    definition = definitions.counter("a.b")
    assert is_automatic((), None)
    assert not is_automatic((definition,), None)
    assert is_automatic((definition,), True)
    assert not is_automatic((), False)
    assert definitions_in("automatic") == ()


@pytest.mark.parametrize(
    "layer",
    [
        {"config": {"metrics": [{"type": "counter", "name": "a.b", "tags": ["x"]}]}},
        {"argument": {"metrics": [definitions.counter("a.b", tags=["x"])]}},
        {"runtime": {"metrics": definitions.counter("a.b", tags=["x"])}},
        {"environ": {"TELEMETRY_PROMETHEUS_METRICS": '[{"type": "counter", "name": "a.b", "tags": "x"}]'}},
    ],
    ids=lambda layer: next(iter(layer)),
)
def test_definitions_come_from_every_layer_and_can_be_shown(layer):
    resolution = resolve(PrometheusSettings, "prometheus", **{"environ": {}, **layer})
    assert resolution.problems == ()
    assert resolution.settings.metrics == (definitions.counter("a.b", tags=["x"]),)
    table = {"type": "counter", "name": "a.b", "event": "a", "tags": ["x"]}
    assert redacted(resolution)["metrics"] == [table]
    assert resolution.settings.model_dump()["metrics"] == [table]
    assert '"name":"a.b"' in resolution.settings.model_dump_json()
    assert "'a.b'" in repr(resolution.settings)


def test_what_came_from_the_environment_is_not_shown():
    table = {"type": "counter", "name": "${NAME}"}
    resolution = resolve(
        PrometheusSettings, "prometheus", environ={"NAME": "a.secret"}, config={"metrics": [table]}
    )
    assert resolution.settings.metrics[0].name == "a.secret"
    assert "secret" not in str(redacted(resolution))
    bad = resolve(PrometheusSettings, "prometheus", environ={"NAME": "secret"}, config={"metrics": [table]})
    (problem,) = bad.problems
    assert "secret" not in problem.message
    assert "something in one of them is wrong" in problem.message


def test_a_start_argument_with_functions_passes_and_a_wrong_one_names_what_is_wrong():
    validate_argument(
        PrometheusSettings, "prometheus", {"metrics": [definitions.sum("a.b", measurement=len)]}
    )
    with pytest.raises(ValueError, match=r"item 1 \(sum 'a'\): event is missing"):
        validate_argument(PrometheusSettings, "prometheus", {"metrics": [{"type": "sum", "name": "a"}]})


def test_definitions_put_at_runtime_replace_those_before_and_bad_ones_do_not():
    configuration = LiveConfig(PrometheusSettings, "telemetry.prometheus", {}, {})
    assert configuration.change({"metrics": [{"type": "counter", "name": "a.b"}]}) == {"metrics"}
    assert configuration.change({"metrics": [{"type": "counter", "name": "a.b"}]}) == frozenset()
    assert configuration.change({"metrics": [{"type": "counter"}]}) == frozenset()
    assert configuration.settings.metrics == (definitions.counter("a.b"),)
    assert configuration.change({"metrics": None}) == {"metrics"}
    assert configuration.settings.metrics == "automatic"
