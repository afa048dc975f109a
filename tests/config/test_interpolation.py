"""``${NAME}`` in configured strings."""

import copy
import pickle
from types import MappingProxyType

import pytest

from otpylib_telemetry.config.interpolation import Expanded, expand

ENVIRON = {"NAME": "shop", "OTHER": "stock", "EMPTY": "", "ODD": "${NAME}$${x}}"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${NAME}", "shop"),
        ("a-${NAME}-${OTHER}", "a-shop-stock"),
        ("${NAME:-else}", "shop"),
        ("${MISSING:-else}", "else"),
        ("${MISSING:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-else}", "else"),
        ("${MISSING:-http://host:4317/a}", "http://host:4317/a"),
        ("${MISSING:-${NAME}}", "shop"),
        ("${MISSING:-${MISSING:-x}y}z", "xyz"),
        ("${NAME:-${MISSING}}", "shop"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME costs $5", "$NAME costs $5"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("}${NAME}}", "}shop}"),
        ("", ""),
    ],
)
def test_text_is_expanded(text, result):
    expansion = expand(text, ENVIRON)
    assert expansion.problem is None
    assert expansion.value == result


def test_what_a_variable_holds_is_not_expanded_again():
    once = expand("${ODD}", ENVIRON)
    assert once.value == "${NAME}$${x}}"
    assert expand(once.value, ENVIRON).value == "${NAME}$${x}}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "${MISSING}",
            "the environment variable MISSING is not set; ${MISSING:-...} would give it a default",
        ),
        (
            "${MISSING:-${ALSO}}",
            "the environment variable ALSO is not set; ${ALSO:-...} would give it a default",
        ),
        ("${NAME", "${NAME is not closed by a } (or by :-default}); a literal ${ is written $${"),
        ("${NAME?x}", "${NAME is not closed by a } (or by :-default}); a literal ${ is written $${"),
        ("${NAME:-x", "a ${ in it is not closed by a }; a literal ${ is written $${"),
        ("${}", "a ${ in it is not followed by the name of a variable; a literal ${ is written $${"),
        ("${1}", "a ${ in it is not followed by the name of a variable; a literal ${ is written $${"),
        ("${A:-" * 500, "its placeholders are nested more than 20 levels deep"),
    ],
)
def test_what_cannot_be_expanded_is_explained(text, problem):
    expansion = expand(text, ENVIRON)
    assert expansion.problem == problem
    assert expansion.secret


@pytest.mark.parametrize(
    ("value", "result", "secret"),
    [
        (["${NAME}", 5, "x"], ["shop", 5, "x"], True),
        (("x", "$${y}"), ["x", "${y}"], False),
        ({"a": {"b": ["${NAME}"]}, "c": 1.5}, {"a": {"b": ["shop"]}, "c": 1.5}, True),
        (MappingProxyType({"a": "${NAME}"}), {"a": "shop"}, True),
        ({"${NAME}": 1}, {"${NAME}": 1}, False),
        (5, 5, False),
        (None, None, False),
        ("plain", "plain", False),
        ("${MISSING:-default}", "default", True),
    ],
)
def test_values_of_any_shape_are_expanded_and_known_as_secret(value, result, secret):
    expansion = expand(value, ENVIRON)
    assert expansion.value == result
    assert expansion.secret is secret


def test_one_missing_variable_makes_all_of_a_value_unusable():
    assert expand({"a": "x", "b": ["${MISSING}"]}, ENVIRON).problem is not None


def test_a_list_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)
    assert expand(endless, {}).problem == "it is nested more than 64 levels deep"


def pickled(text):
    return pickle.loads(pickle.dumps(text))  # noqa: S301  # what we pickled ourselves


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, pickled])
def test_a_copy_of_an_expanded_string_still_knows_where_it_came_from(duplicate):
    text = duplicate(Expanded("x", from_environment=True))
    assert text == "x"
    assert isinstance(text, Expanded)
    assert text.from_environment
