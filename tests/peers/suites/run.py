"""Runs one suite of somebody else's in a pytest of its own, with our classes in place of theirs."""

import json
import os
import sys
from pathlib import Path

from tests.support import programs
from tests.support.distributions import clean_environment

HERE = Path(__file__).resolve().parent

#: Seconds until a suite counts as hanging.
LIMIT = 280


def outcomes(suite, tests, extra_paths, result, *, left_out=(), only=None):
    """What became of each test: a mapping of its name to ``passed``, ``skipped`` or what it failed with.

    Args:
        suite: The name of the adapter.
        tests: The folder with the tests.
        extra_paths: What has to be importable as well.
        result: A file that does not exist yet.
        left_out: Patterns of the names of tests that are not run.
        only: The names of those that are; None for all.
    """
    # What is called ``tests`` is theirs: it comes before the checkout.
    paths = [HERE, *extra_paths]
    environment = clean_environment() | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONUTF8": "1",
        # Their tests need none of those that are installed here, and what they import.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        # Some tests start a Python by its name.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PEER_SUITE_RESULT": str(result),
        "PEER_SUITE_CHOICE": json.dumps([list(left_out), only]),
    }
    command = [
        *(
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-p",
            "pytest_timeout",
        ),
        *("-p", "adapters.recording", "-p", f"adapters.{suite}", "--timeout=60"),
        *(f"--rootdir={tests}", "-c", os.devnull, "--continue-on-collection-errors", str(tests)),
    ]
    about = f"{programs.APPLICATION} plain pytest"
    done = programs.run(command, env=environment, cwd=tests, timeout=LIMIT, about=about)
    said = f"{done.stdout}\n{done.stderr}"
    if not result.exists():
        raise AssertionError(f"the suite {suite} has not run:\n{said[-5000:]}")
    return json.loads(result.read_text(encoding="utf-8")), said
