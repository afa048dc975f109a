"""The benchmarks run from beginning to end; what they measure is not for a test to say."""

import ast
import os
import re
from pathlib import Path

import pytest

from tests.support import programs

ROOT = Path(__file__).parents[2]


def named_in_the_source():
    """Titles of comparisons and names of cases, in the order in which the program has them."""
    return [named for module in ("__main__", "operations", "meters") for named in named_in(module)]


def named_in(module):
    tree = ast.parse((ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"Comparison", "Case"}
    ]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    return [(call.func.id, call.args[0].value) for call in calls]


def rows_of(table):
    """The cells of a Markdown table, less its head."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def run_benchmarks(directory, *arguments):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    return programs.run(
        ["-m", "benchmarks", *arguments],
        cwd=directory,
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        timeout=280,
        about="benchmarks of otpylib_telemetry: otel, prometheus",
    )


@pytest.mark.slow
def test_every_comparison_is_measured_and_in_the_table(tmp_path):
    done = run_benchmarks(tmp_path, "--rounds", "1", "--count", "8")
    assert (done.returncode, done.stderr) == (0, "")
    head, table, *further = done.stdout.strip().split("\n\n")
    assert "median of 1 rounds of 8" in head
    rows = rows_of(table)
    named = named_in_the_source()
    assert {kind for kind, _ in named} == {"Comparison", "Case"}
    assert [row[0] for row in rows] == [
        f"**{name}**" if kind == "Comparison" else name for kind, name in named
    ]
    for (kind, _), (_, amount, ratio) in zip(named, rows, strict=True):
        if kind == "Comparison":
            assert amount == ratio == ""
        else:
            assert re.fullmatch(r"\d+ ns|\d+\.\d µs", amount)
            assert re.fullmatch(r"\d+(\.\d\d)?", ratio)
    for other in further:
        assert rows_of(other)
        for _, amount, ratio in rows_of(other):
            assert re.fullmatch(r"[1-9]\d*", amount), "what takes nothing was not measured"
            assert re.fullmatch(r"\d+(\.\d\d)?", ratio)


@pytest.mark.slow
def test_scrapes_are_measured_with_pages_that_say_the_same(tmp_path):
    done = run_benchmarks(tmp_path, "--scrape", "--rounds", "1", "--series", "20")
    assert (done.returncode, done.stderr) == (0, "")
    pages, faster, gaps, exporter, memory = map(rows_of, done.stdout.strip().split("\n\n"))
    assert len(pages) == 8
    assert len(faster) == 4
    assert len(gaps) == 3
    assert [row[0].split(" ")[0] for row in exporter] == ["one", "with", "multiprocess"]
    assert [row[0].split(" ")[0] for row in memory] == ["counter", "histogram", "histogram", "summary"]
    numbers = [row[-1] for row in [*faster, *gaps]] + [
        cell for row in [*exporter, *memory] for cell in row[1:]
    ]
    for number in numbers:
        assert re.fullmatch(r"\d+(\.\d+)?", number)


@pytest.mark.slow
def test_the_application_answers_and_exports_whatever_its_telemetry_is(tmp_path):
    done = run_benchmarks(tmp_path, "--application", "--rounds", "1", "--seconds", "0.02")
    assert (done.returncode, done.stderr) == (0, "")
    head, table = done.stdout.strip().split("\n\n")
    assert "median of 1 rounds of 0.02 s" in head
    bare, *others = rows_of(table)
    assert bare[5:] == ["", "", ""]
    assert len(others) == 3
    for row in [bare, *others]:
        assert re.fullmatch(r"\d+", row[1])
        assert all(re.fullmatch(r"\d+\.\d ms", cell) for cell in row[2:4])
        assert re.fullmatch(r"\d+ µs", row[4])
    for row in others:
        assert re.fullmatch(r"-?\d+ µs", row[5])
        # That every request is on the page, the benchmark sees for itself.
        assert row[7] == "0.0%"


def test_a_label_with_ever_new_values_is_folded_and_the_others_are_exact(tmp_path):
    done = run_benchmarks(tmp_path, "--folding", "--events", "40000")
    assert done.returncode == 0, done.stderr
    table, conclusion = done.stdout.strip().split("\n\n")
    # That the other labels are exact, the benchmark sees for itself.
    assert [row[3] for row in rows_of(table)] == ["60"] * 10
    assert "exact" in conclusion
    assert "order_id" in done.stderr


@pytest.mark.slow
def test_what_to_have_room_for_is_measured(tmp_path):
    done = run_benchmarks(tmp_path, "--sizing", "--rounds", "1", "--count", "1000")
    assert (done.returncode, done.stderr) == (0, "")
    memory, rates = map(rows_of, done.stdout.strip().split("\n\n"))
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [row[0] for row in (*memory, *rates) if f"| {row[0]} |" not in page] == []
    # Roughly what the page says: of memory that does not depend on how busy the machine is.
    for what, size, _ in memory:
        stated = re.search(rf"\| {re.escape(what)} \| (\d+) \|", page)
        assert stated is not None
        assert float(size) < 1.5 * int(stated[1])
