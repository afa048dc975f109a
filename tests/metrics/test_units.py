import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.metrics.units import KNOWN, NO_UNIT, UnitError, conversion, unit_of, unit_word

CONVERTIBLE = [unit for unit in KNOWN if unit.dimension]


@pytest.mark.parametrize("unit", KNOWN, ids=lambda unit: unit.symbol)
def test_a_unit_is_known_by_each_of_its_names(unit):
    for text in (unit.symbol, unit.ucum, unit.word):
        if text and text != "1":
            assert unit_of(text) == unit


@pytest.mark.parametrize("unit", [unit for unit in KNOWN if unit.ucum != "1"], ids=lambda unit: unit.symbol)
def test_both_exits_mean_the_same_by_their_words_for_a_unit(unit):
    # OpenTelemetry's exporters know no word for some, and misspell one.
    theirs = {"bit": "bit", "kBy": "kBy", "PBy": "PBy", "PiBy": "PiBy", "TiBy": "tibibytes"}
    assert unit_word(unit.ucum) == theirs.get(unit.ucum, unit.word)


@pytest.mark.parametrize(
    ("unit", "word"),
    [
        ("", ""),
        ("1", ""),
        ("{request}", ""),
        ("{a}/{b}", ""),
        ("{{{;@#$}}}", ""),
        ("g{dry}", "grams"),
        ("KBy", "kilobytes"),
        ("%", "percent"),
        ("m/s", "meters_per_second"),
        ("m/m", "meters_per_minute"),
        ("By/min", "bytes_per_min"),
        ("1/mo", "per_month"),
        ("{packet}/s", "per_second"),
        ("/y", "per_year"),
        ("km/h", "km_per_hour"),
        ("By/wk", "bytes_per_wk"),
        ("2fer/store", "2fer_per_store"),
        ("m/s/s", "meters_per_s_s"),
        ("m/", "m"),
        ("m/{a}", "m"),
        ("____", ""),
        ("1:foo#@!", "1:foo"),
        ("é", ""),
        ("foo bar", "foo_bar"),
    ],
)
def test_words_are_those_of_the_exporters_of_opentelemetry(unit, word):
    assert unit_word(unit) == word


@pytest.mark.parametrize(
    ("source", "target", "value", "expected"),
    [
        ("ms", "s", 1500, 1.5),
        ("s", "ms", 2, 2000),
        ("ns", "h", 3_600_000_000_000, 1.0),
        ("min", "s", 1.5, 90.0),
        ("KiB", "B", 3, 3072),
        ("kB", "B", 3, 3000),
        ("bytes", "MiB", 1_048_576, 1.0),
        ("bit", "B", 12, 1.5),
        ("percent", "ratio", 12.5, 0.125),
        ("ratio", "percent", 0.5, 50.0),
    ],
)
def test_what_is_measured_in_one_unit_is_exported_in_another(source, target, value, expected):
    converted = conversion(source, target).function()(value)
    assert converted == expected
    assert type(converted) is type(expected)


def test_one_unit_needs_no_conversion():
    assert conversion("ms", "milliseconds").function() is None
    assert conversion("requests", "requests").function() is None


@given(
    st.sampled_from(CONVERTIBLE),
    st.sampled_from(CONVERTIBLE),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e250, max_value=1e250),
)
def test_a_conversion_is_off_by_two_roundings_at_most(source, target, value):
    if source.dimension != target.dimension:
        with pytest.raises(UnitError):
            conversion(source.symbol, target.symbol)
        return
    convert = conversion(source.symbol, target.symbol).function() or (lambda same: same)
    exact = Fraction(value) * source.factor / target.factor
    assert abs(Fraction(convert(value)) - exact) <= abs(exact) * Fraction(2, 2**53) + Fraction(1, 2**1073)


@pytest.mark.parametrize(
    ("unit", "name", "base"),
    [
        ("ms", "shop.checkout.stop.duration_ms", "shop.checkout.stop.duration"),
        ("ms", "duration.milliseconds", "duration"),
        ("ms", "duration_msec", "duration"),
        ("B", "payload_bytes", "payload"),
        ("B", "payload_B", "payload"),
        ("s", "items", "items"),
        ("s", "ms", "ms"),
        ("s", "_s", "_s"),
        ("1", "try_1", "try_1"),
        ("", "a_b", "a_b"),
        ("percent", "load_percent", "load"),
    ],
)
def test_a_name_is_freed_of_the_unit_at_its_end(unit, name, base):
    assert unit_of(unit).without(name) == base


def test_any_other_word_is_a_unit_that_cannot_be_converted():
    assert unit_of("requests").ucum == unit_of("requests").word == "requests"
    assert (unit_of("{request}").ucum, unit_of("{request}").word) == ("{request}", "")
    assert unit_of("") == NO_UNIT
    with pytest.raises(UnitError, match="requests is none of them"):
        conversion("requests", "s")


@pytest.mark.parametrize("text", ["m s", "µ", "1/2", "a" * 64, "{", "a-b", "\n"])
def test_what_cannot_be_a_unit_is_refused(text):
    with pytest.raises(UnitError, match="a unit such as ns, us, ms"):
        unit_of(text)


def test_a_refusal_names_the_nearest_unit():
    with pytest.raises(UnitError, match=r"did you mean ms\?"):
        conversion("mss", "s")
    with pytest.raises(UnitError, match="one of time and MiB one of data"):
        conversion("ms", "MiB")


def test_a_number_beyond_every_float_cannot_be_divided():
    with pytest.raises(OverflowError):
        conversion("ms", "s").function()(10**400)
    assert math.isinf(conversion("s", "ns").function()(1e308))
