"""``python -O`` leaves assertions out, ``-OO`` docstrings as well: nothing may depend on them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

#: Enough of everything that runs: the bus, supervised exporters, the endpoint, what is sent over OTLP.
TESTS = [
    "tests/bus",
    "tests/supervision/test_lives.py",
    "tests/prometheus/test_endpoint.py",
    "tests/otel/service/test_traces.py",
]


@pytest.mark.process
@pytest.mark.slow
def test_the_tests_pass_where_assertions_are_left_out():
    """Those of the tests themselves stay: pytest writes them as something else. -OO is -O and more."""
    command = [sys.executable, "-OO", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += ["-p", "no:xdist", "-W", "ignore:assertions not in test modules", "-k", "not uvloop", *TESTS]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_here_an_assertion_that_does_not_hold_is_seen_under_the_option(tmp_path):
    (tmp_path / "test_wrong.py").write_text("def test_wrong():\n    assert False\n")
    command = [
        sys.executable,
        "-OO",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore",
        tmp_path,
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    assert subprocess.run(command, env=environment, capture_output=True, timeout=280).returncode == 1
