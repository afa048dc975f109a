"""The test suites of OpenTelemetry and prometheus_client, run against us.

What does not apply and what fails is in suites/expected.toml, with reasons. It is a ratchet: neither may a
test fail that is not listed, nor may a listed one pass.
"""

import pytest

from tests.peers.suites import ratchet, run, sources
from tests.support.peers import missing

SUITES = ratchet.suites()


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    if differing := sources.differing():
        pytest.skip(f"the lists are for the newest versions, and here is {', '.join(differing)}")
    try:
        return sources.unpacked(tmp_path_factory)
    except (sources.UnreachableError, OSError) as error:
        return missing(f"the source distributions cannot be had: {error}")


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_of_theirs_has_no_surprise(name, unpacked, tmp_path):
    suite = SUITES[name]
    tests = unpacked[suite.package] / suite.tests
    paths = [unpacked[sources.UTILS] / "src"]
    found, said = run.outcomes(name, tests, paths, tmp_path / "first.json", left_out=suite.not_applicable)
    if again := ratchet.unexpected(suite, found):
        # Some of them go by the clock: on a busy machine once is not enough.
        more, said = run.outcomes(name, tests, paths, tmp_path / "second.json", only=again)
        found |= {test: more.get(test, found[test]) for test in again}
    surprises = ratchet.surprises(suite, found)
    assert not surprises, "\n".join([*surprises, said[-8000:]])
    row = ratchet.row(suite, sources.pinned()[suite.package], found)
    page = ratchet.PAGE.read_text(encoding="utf-8")
    assert row in page.splitlines(), f"{ratchet.PAGE} is to say:\n{row}"


def test_the_list_neither_grows_nor_stays_longer_than_it_has_to():
    suite = ratchet.Suite("some", "some-package", "tests", "all", {"a.py::*": "theirs"}, {"b.py::*": "ours"})
    expected = {"a.py::one": "left out", "b.py::two": "failed: so", "c.py::three": "passed"}
    assert ratchet.surprises(suite, expected) == []
    assert ratchet.row(suite, "1.0", expected) == "| some | some-package 1.0 | all | 1 | 1 | 1 | 0 |"
    for change, message in (
        ({"c.py::three": "failed: so"}, "fails and is not listed: c.py::three: failed: so"),
        ({"b.py::two": "passed"}, "passes now, take it off the list: b.py::two (ours)"),
        ({"b.py::more": "untouched"}, "passes now, take it off the list: b.py::more (ours)"),
    ):
        assert ratchet.surprises(suite, expected | change) == [message]
    assert ratchet.surprises(suite, {"c.py::three": "passed"}) == [
        "there is no such test any more: a.py::* (theirs)",
        "there is no such test any more: b.py::* (ours)",
    ]
