"""Programs of the page about auto-instrumentation, run as it says; and the packages it has one install."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
from importlib.metadata import version
from pathlib import Path

from tests.support import peers, programs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/emit/auto-instrumentation.md"
COMMAND = Path(sys.executable).with_name("opentelemetry-instrument")
#: Seconds that pip may take.
INSTALLING = 180


def write_programs(directory):
    """Put the programs of the page into a directory."""
    page = PAGE.read_text(encoding="utf-8")
    for name, text in re.findall(
        r"^```(?:python|javascript) (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    ):
        (directory / name).write_text(text, encoding="utf-8")
    return directory


@functools.cache
def _install(package):
    """Return a directory with a package of OpenTelemetry's contrib, no newer than what is installed of it."""
    release = version("opentelemetry-instrumentation")
    directory = Path(tempfile.gettempdir()) / f"otpylib-telemetry-{package}-{release}-{os.getuid()}"
    if directory.exists():
        return directory, None
    with tempfile.TemporaryDirectory(prefix=package, dir=directory.parent) as fresh:
        made = Path(fresh, "made")
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(made))
        done = subprocess.run(
            [*pip, f"{package}<={release}"], capture_output=True, encoding="utf-8", timeout=INSTALLING
        )
        if done.returncode:
            return None, f"pip cannot install {package}: {done.stderr.strip()[-500:]}"
        if not directory.exists():
            shutil.move(made, directory)
    return directory, None


def path_of(*packages):
    """A ``PYTHONPATH`` with the checkout and these packages; or ``peers.missing``."""
    found = [_install(package) for package in packages]
    for _, complaint in found:
        if complaint is not None:
            peers.missing(complaint)
    return os.pathsep.join(str(directory) for directory, _ in found)


FLASK = ("opentelemetry-instrumentation-flask", "opentelemetry-instrumentation-wsgi")
DISTRO = ("opentelemetry-distro",)


def environment(*packages, **variables):
    """What such a program runs with."""
    unwanted = ("OTEL_", "TELEMETRY_", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    programs = os.pathsep.join([str(COMMAND.parent), kept.get("PATH", "")])
    path = {"PYTHONPATH": path_of(*packages)} if packages else {}
    return {**kept, **path, "PATH": programs, "PYTHONUTF8": "1", **variables}


#: Instrumentations of packages that hardly any program here uses: to import them is a third of its work.
UNUSED = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,requests"}


def run_command(directory, *command, **variables):
    """Run ``opentelemetry-instrument`` with a command until it ends."""
    return subprocess.run(
        [COMMAND, *command],
        cwd=directory,
        env=environment(**UNUSED | variables),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


#: What the interpreter that the command starts does before the program.
INITIALIZE = "from opentelemetry.instrumentation.auto_instrumentation import initialize as _; _()\n"


def run(directory, program, packages=(), **variables):
    """Do the same with a program for Python, without the command and in a fork."""
    return programs.run(
        ["-c", INITIALIZE + textwrap.dedent(program)],
        options=("-W", "error::ResourceWarning"),
        cwd=directory,
        env=environment(*packages, **UNUSED | variables),
        timeout=120,
    )


def get(url):
    """What a server answers; None where that is not 200."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError:
        return None
