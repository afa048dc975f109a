"""``python -m tests.peers.suites``: runs all suites, and brings the list and the page up to date.

What is listed as failing and passes is taken off the list, and the page gets the counts. What fails and is
not listed is only named: it wants a reason, or better a remedy.
"""

import re
import sys
import tempfile
from pathlib import Path

from tests.peers.suites import ratchet, run, sources


def main():
    with tempfile.TemporaryDirectory() as place:
        unpacked = sources.download(Path(place))
        for suite in ratchet.suites().values():
            found, _ = run.outcomes(
                suite.name,
                unpacked[suite.package] / suite.tests,
                [unpacked[sources.UTILS] / "src"],
                Path(place, f"{suite.name}.json"),
                left_out=suite.not_applicable,
            )
            ratchet.EXPECTED.write_text(_shortened(suite, found), encoding="utf-8")
            row = ratchet.row(suite, sources.pinned()[suite.package], found)
            page = re.sub(
                rf"^\| {suite.name} \|.*$", lambda _, row=row: row, _read(ratchet.PAGE), flags=re.MULTILINE
            )
            ratchet.PAGE.write_text(page, encoding="utf-8")
            sys.stdout.write("\n".join([row, *ratchet.surprises(ratchet.suites()[suite.name], found), ""]))


def _shortened(suite, found):
    """The list without what passes. A pattern of several tests is replaced by those of them that fail."""
    text = _read(ratchet.EXPECTED)
    for pattern in suite.failing:
        matched, failing = ratchet.matched(pattern, found)
        if len(failing) < len(matched) or not matched:
            left = ", ".join(f'"{name}"' for name in failing)
            line = rf'(\n *)?"{re.escape(pattern)}"(, |,)?'
            text = re.sub(line, lambda m, left=left: f"{m[1] or ''}{left}{m[2] or ''}" if left else "", text)
    empty = r'\[\[\w+\.failing\]\]\nreason = "[^\n]*"\ncases = \[\s*\]\n\n?'
    return re.sub(empty, "", text)


def _read(path):
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
