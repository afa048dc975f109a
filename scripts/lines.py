"""Counts the library's lines: code, docstrings, comments, blank ones.

Run by ``make lines``. A line of code with a comment is code. A blank line in a docstring is docstring.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
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

_NOT_CODE: Final = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def count(text: str) -> Counter[str]:
    """Return how many lines of each kind a source file has."""
    docstrings = set(_docstring_lines(ast.parse(text)))
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type not in _NOT_CODE:
            code.update(lines)
    code -= docstrings
    comments -= code | docstrings
    known = len(code) + len(docstrings) + len(comments)
    return Counter(
        code=len(code),
        docstrings=len(docstrings),
        comments=len(comments),
        blank=len(text.splitlines()) - known,
    )


def _docstring_lines(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield from range(first.lineno, (first.end_lineno or first.lineno) + 1)


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
