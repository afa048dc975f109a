"""Write the constraints anew: the newest versions that fit together, and the lowest that the project allows.

Run by ``make constraints``. Run ``make test`` afterwards, with each of them, on every supported Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
NEWEST = """\
# The newest versions that the tests pass with, on Python 3.11, 3.12 and 3.13.
# Written by `make constraints`; used by the Makefile and by the test of the built packages.
"""
LOWEST = """\
# The lowest versions that the tests pass with: the lower bound of what the project itself asks for, and the
# newest of all else that goes with it. Written by `make constraints`; used by the test of the built packages,
# and by `make test CONSTRAINTS=constraints-lowest.txt VENV=.venv-lowest`.
"""


def read_project() -> dict[str, Any]:
    """Return what pyproject.toml says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def lower_bounds(project: dict[str, Any]) -> Iterable[str]:
    """Yield a pin for each requirement of the packages and their extras, at its lower bound."""
    extras = project["optional-dependencies"].values()
    for text in {*project["dependencies"], *(each for extra in extras for each in extra)}:
        requirement = Requirement(text)
        for bound in requirement.specifier:
            if bound.operator == ">=":
                yield f"{requirement.name}=={bound.version}\n"


def resolve(pins: Iterable[str] = ()) -> dict[str, str]:
    """Return what pip would install into an empty environment, without this project: versions by name."""
    project = read_project()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.writelines(pins)
        constraints.flush()
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"),
            *("--report", "-", "--constraint", constraints.name, "--group", "dev", ".[all]"),
            *project["build-system"]["requires"],
        ]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)  # noqa: S603
    report = json.loads(done.stdout)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in report["install"]}
    found.pop(project["project"]["name"])
    found["pip"] = version("pip")
    return {canonicalize_name(name): number for name, number in found.items()}


def write(name: str, header: str, versions: dict[str, str]) -> None:
    """Replace one of the files."""
    lines = [f"{distribution}=={number}\n" for distribution, number in sorted(versions.items())]
    (ROOT / name).write_text(header + "".join(lines), encoding="utf-8")
    sys.stdout.write(f"{name}: {len(lines)} versions\n")


def main() -> None:
    """Replace both files."""
    write("constraints.txt", NEWEST, resolve())
    write("constraints-lowest.txt", LOWEST, resolve(sorted(lower_bounds(read_project()["project"]))))


if __name__ == "__main__":
    main()
