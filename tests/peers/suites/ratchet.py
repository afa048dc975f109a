"""Compares what became of a suite with what is expected of it."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.support.distributions import ROOT

EXPECTED = Path(__file__).with_name("expected.toml")
PAGE = ROOT / "docs" / "reference" / "compatibility.md"

#: The columns of the page's table, after the suite's name and what stands in for what.
COLUMNS = ("passed", "failing", "not applicable", "without us")


@dataclass(frozen=True)
class Suite:
    """One suite, and what is expected of it."""

    name: str
    package: str
    tests: str
    what: str
    not_applicable: dict[str, str]
    failing: dict[str, str]


def suites():
    """All suites, by their names."""
    listed = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
    return {
        name: Suite(
            name,
            told["from"],
            told["tests"],
            told["what"],
            _patterns(told.get("not_applicable", [])),
            _patterns(told.get("failing", [])),
        )
        for name, told in listed.items()
    }


def _patterns(groups):
    return {pattern: group["reason"] for group in groups for pattern in group["cases"]}


def surprises(suite, found):
    """What is not as expected: one line each."""
    lines = []
    for pattern, reason in suite.not_applicable.items():
        if not any(fnmatchcase(name, pattern) for name in found):
            lines.append(f"there is no such test any more: {pattern} ({reason})")
    for pattern, reason in suite.failing.items():
        names, failing = matched(pattern, found)
        if not names:
            lines.append(f"there is no such test any more: {pattern} ({reason})")
        lines += [
            f"passes now, take it off the list: {name} ({reason})" for name in names if name not in failing
        ]
    lines += [f"fails and is not listed: {name}: {found[name]}" for name in unexpected(suite, found)]
    return lines


def matched(pattern, found):
    """The tests that a pattern means, and those of them that fail."""
    names = [name for name in found if fnmatchcase(name, pattern)]
    return names, [name for name in names if found[name].startswith("failed")]


def unexpected(suite, found):
    """The tests that fail and are not listed."""
    return [
        name
        for name, outcome in found.items()
        if outcome.startswith("failed") and not any(fnmatchcase(name, each) for each in suite.failing)
    ]


def row(suite, version, found):
    """The line of the page's table."""
    counts = Counter(outcome.partition(":")[0] for outcome in found.values())
    numbers = (
        counts["passed"],
        counts["failed"],
        counts["left out"] + counts["skipped"],
        counts["untouched"],
    )
    cells = [suite.name, f"{suite.package} {version}", suite.what, *map(str, numbers)]
    return f"| {' | '.join(cells)} |"
