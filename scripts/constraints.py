"""Write constraints.txt anew: the newest versions of everything that fit together.

Run by ``make constraints``. Run ``make test`` afterwards on every supported Python: one file serves them all.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# The versions that the tests pass with, on Python 3.11, 3.12 and 3.13.
# Written by `make constraints`; used by the Makefile and by the test of the built packages.
"""


def resolve() -> dict[str, str]:
    """Ask pip what it would install into an empty environment.

    Returns:
        Versions by normalised distribution name, this project itself left out.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    command = [
        *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
        *("--report", "-", "--group", "dev", ".[all]", *project["build-system"]["requires"]),
    ]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)  # noqa: S603
    report = json.loads(done.stdout)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    found.pop(project["project"]["name"])
    found["pip"] = version("pip")
    return {name.lower().replace("_", "-"): number for name, number in found.items()}


def main() -> None:
    """Replace the file."""
    lines = [f"{name}=={number}\n" for name, number in sorted(resolve().items())]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines), encoding="utf-8")
    sys.stdout.write(f"constraints.txt: {len(lines)} versions\n")


if __name__ == "__main__":
    main()
