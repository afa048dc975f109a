"""A pytest plugin that writes down what became of each test, and leaves out what is not to be run."""

import ast
import json
import os
from fnmatch import fnmatchcase
from pathlib import Path

_found = {}


class _Ours:
    """Whether code of ours has taken part in the test that runs."""

    took_part = False


def take_part():
    """Say that code of ours takes part."""
    _Ours.took_part = True


def pytest_runtest_setup():
    _Ours.took_part = False


def pytest_ignore_collect(collection_path, config):
    """Do not even import a file that is left out as a whole."""
    if not (collection_path.is_file() and collection_path.is_relative_to(config.rootpath)):
        return None
    left_out, _ = _choice()
    name = collection_path.relative_to(config.rootpath).as_posix()
    if any(fnmatchcase(f"{name}::", each) for each in left_out):
        _count(collection_path, name)
        return True
    return None


def pytest_collection_modifyitems(items, config):
    left_out, only = _choice()
    gone = [
        item
        for item in items
        if any(fnmatchcase(item.nodeid, each) for each in left_out)
        or (only is not None and item.nodeid not in only)
    ]
    _found.update((item.nodeid, "left out") for item in gone)
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


def _choice():
    return json.loads(os.environ["PEER_SUITE_CHOICE"])


def _count(path, name):
    """Count the tests of a file by its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test"):
            _found[f"{name}::{node.lineno}"] = "left out"


def pytest_runtest_logreport(report):
    name = report.nodeid
    if report.failed:
        # Of several failures of one test, such as those of subtests, the first says enough.
        if not _found.get(name, "").startswith("failed"):
            _found[name] = f"failed: {_first_line(report)}"
    elif report.skipped:
        _found.setdefault(
            name, f"skipped: {report.longrepr[2] if isinstance(report.longrepr, tuple) else ''}"
        )
    elif report.when == "call":
        _found.setdefault(name, "passed" if _Ours.took_part else "untouched")


def pytest_collectreport(report):
    if report.failed:
        _found[report.nodeid] = f"failed: cannot be imported: {str(report.longrepr)[-300:]}"


def pytest_sessionfinish():
    place = Path(os.environ["PEER_SUITE_RESULT"])
    place.write_text(json.dumps(_found, indent=1), encoding="utf-8")


def _first_line(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    said = crash.message if crash is not None else str(report.longrepr)
    return " ".join(said.split())[:300]
