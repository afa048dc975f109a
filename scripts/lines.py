"""Counts the library's lines: code, docstrings, comments, blank ones.

Run by ``make lines``. A line of code with a comment is code. A blank line in a docstring is docstring.
"""

import ast
import sys
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = (
    "otpylib_telemetry",
    "otpylib_telemetry_otel",
    "otpylib_telemetry_prometheus",
    "otpylib_telemetry_mock",
)
KINDS: Final = ("code", "docstrings", "comments", "blank")


def count(text: str) -> Counter[str]:
    """Return how many lines of each kind a source file has."""
    docstrings: set[int] = set()
    strings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.update(_lines_of(first))
        elif isinstance(node, ast.Constant | ast.JoinedStr) and node.end_lineno != node.lineno:
            strings.update(_lines_of(node))
    found = Counter(dict.fromkeys(KINDS, 0))
    for number, line in enumerate(text.splitlines(), 1):
        if number in docstrings:
            found["docstrings"] += 1
        elif line.lstrip().startswith("#") and number not in strings:
            found["comments"] += 1
        else:
            found["code" if line.strip() or number in strings else "blank"] += 1
    return found


def _lines_of(node: ast.expr | ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def folders(root: Path = ROOT) -> dict[str, Counter[str]]:
    """Return the counts by package and by the folders in it."""
    found: dict[str, Counter[str]] = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            folder = str(path.relative_to(root).parent)
            found.setdefault(folder, Counter())
            found[folder] += count(path.read_text(encoding="utf-8"))
    return found


def table(found: dict[str, Counter[str]]) -> str:
    """Return the counts as a table in Markdown, with a last row for all of them."""
    rows = [*found.items(), ("all", sum(found.values(), Counter()))]
    lines = ["| folder | " + " | ".join(KINDS) + " |", "|---|" + "---:|" * len(KINDS)]
    for folder, counts in rows:
        lines.append(f"| `{folder}` | " + " | ".join(f"{counts[kind]:,}" for kind in KINDS) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table(folders(Path(sys.argv[1]) if sys.argv[1:] else ROOT)) + "\n")
