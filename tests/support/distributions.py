"""The built distributions, and fresh environments with them: made once for all processes of a run."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts import uv

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = [
    "otpylib_telemetry",
    "otpylib_telemetry_otel",
    "otpylib_telemetry_prometheus",
    "otpylib_telemetry_mock",
]
#: What each extra brings; without it none of them is there.
BROUGHT_BY = {
    "otel": {"opentelemetry"},
    "prometheus": {"aiohttp"},
    "admin": {"aiohttp"},
    "cli": set(),
    "client": {"prometheus_client"},
    "poller": {"psutil"},
    "meters": {"opentelemetry"},
    "test": {"pytest"},
}

#: The files that say which versions are installed beside the project.
NEWEST, LOWEST = VERSIONS = ["constraints.txt", "constraints-lowest.txt"]

UV = (sys.executable, "-m", "uv")

MADE = {"build", "dist", "__pycache__"}


def clean_environment():
    """The environment of this process, less what would let the checkout be imported instead of the wheel."""
    unwanted = ("PYTHON", "PIP_CONSTRAINT", "VIRTUAL_ENV", "TELEMETRY_", "OTEL_")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def attempt(*command, **options):
    """Run a program in a clean environment; ``env`` is added to it."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        encoding="utf-8",
        env=clean_environment() | {"PYTHONUTF8": "1"} | options.pop("env", {}),
        **options,
    )


def run(*command, **options):
    """The same; a failure is the test's."""
    done = attempt(*command, **options)
    if done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


@contextlib.contextmanager
def held(tmp_path_factory, name):
    """Let no other process of the run use a directory that all of them share. Gives it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield base / name


def shared(tmp_path_factory, name, make):
    """A directory that ``make`` fills, once for all the processes that share the tests."""
    with held(tmp_path_factory, name) as place:
        finished = place.with_name(f"{name}.finished")
        if not finished.exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            make(place)
            finished.touch()
    return place


def left_behind(_, names):
    """What a fresh clone would not have."""
    ours = (".ci", ".gitignore")
    hidden = {name for name in names if name.startswith(".") and name not in ours}
    return hidden | {name for name in names if name in MADE or name.endswith(".egg-info")}


def build(place):
    """Put the source distribution and the wheel built from it into a directory."""
    # Built from a copy: a build leaves things behind, and would pick up what an earlier one left.
    source = shutil.copytree(ROOT, place / "copy", ignore=left_behind)
    # The build backend is chosen by the constraints too.
    constraints = ("--build-constraint", source / NEWEST)
    with_uv = (*UV, "build", "--quiet", *constraints, "--out-dir", place, source)
    if attempt(*with_uv, env=uv.variables()).returncode != 0:
        # pip splits this variable at spaces: hence the constraints of the copy.
        constraint = {"PIP_CONSTRAINT": str(source / NEWEST)}
        run(sys.executable, "-m", "build", source, "--outdir", place, env=constraint)


def first_with_the_same(extra):
    """Return the first extra, or None, that brings the same packages: one environment is enough for both."""
    optional = PROJECT["optional-dependencies"]
    return next(one for one in (None, *BROUGHT_BY, extra) if optional.get(one, []) == optional.get(extra, []))


def python_of(place):
    return place / "venv" / "bin" / "python"


def install(place, versions, what):
    """Have an environment hold a distribution with an extra, and nothing that these do not need.

    What it has already stays there, with its bytecode. uv takes a tenth of pip's time; pip does it where uv
    cannot.
    """
    venv = (*UV, "venv", "--quiet", "--allow-existing", "--python", sys.executable, place / "venv")
    exact = (*UV, "pip", "install", "--quiet", "--exact", "--python", python_of(place))
    steps = [venv, (*exact, *constrained(versions), what)]
    if any(attempt(*step, env=uv.variables()).returncode != 0 for step in steps):
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", place / "venv")
        install_with_pip(python_of(place), versions, what)


def install_with_pip(python, versions, what):
    """The same as users do it: this environment's pip installs, the new one needs none of its own."""
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile")
    run(*pip, *constrained(versions), what)


def constrained(versions):
    file = ROOT / versions
    return ("--constraint", file, "--build-constraint", file)
