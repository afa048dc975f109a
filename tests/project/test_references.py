"""References in docstrings: what a reader is sent to exists under the name he is given."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_ROLE = re.compile(r":(mod|class|func|meth|attr|data|exc):`~?([^`]+)`")


def _module_name(path):
    return ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")


def _source(owner):
    try:
        return inspect.getsource(owner)
    except OSError:  # made by a function, as named tuples are
        return ""


def _has(owner, parts):
    """Whether attributes lead on from there; those of instances count."""
    for part in parts:
        if hasattr(owner, part):
            owner = getattr(owner, part)
            continue
        if not isinstance(owner, type):
            return False
        annotated = any(part in vars(base).get("__annotations__", {}) for base in owner.__mro__)
        return annotated or f"self.{part}" in _source(owner)
    return True


def _is_of(thing, module):
    return isinstance(thing, type) and thing.__module__ == module.__name__


def _is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _resolves(module, kind, target):
    """Whether a name leads somewhere: from a package if it is dotted, else from the module or its classes."""
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    absolute = importlib.util.resolve_name(target, package) if target.startswith(".") else target
    if kind == "mod":
        return _is_module(absolute)
    parts = absolute.split(".")
    own = [module, *(each for each in vars(module).values() if _is_of(each, module))]
    if any(_has(owner, parts) for owner in own):
        return True
    for length in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:length])
        if _is_module(name):
            return _has(importlib.import_module(name), parts[length:])
    return False


def _dead_references(path):
    source = path.read_text()
    roles = list(_ROLE.finditer(source))
    if not roles:
        return []
    module = importlib.import_module(_module_name(path))
    return [
        f"{path.relative_to(_ROOT)}:{source.count(chr(10), 0, role.start()) + 1}: {role.group()}"
        for role in roles
        if not _resolves(module, role.group(1), role.group(2))
    ]


def test_what_docstrings_refer_to_exists():
    sources = sorted(_ROOT.glob("otpylib_telemetry*/**/*.py"))
    assert len(sources) > 100
    assert [line for path in sources for line in _dead_references(path)] == []


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("mod", ".observations"),
        ("mod", "otpylib_telemetry.exporting"),
        ("meth", "otpylib_telemetry.exporter.Exporter.collect"),
        ("meth", "PushedMetricsExporter.take"),
        ("class", "TomlSource"),
    ],
)
def test_a_reference_to_nothing_is_found(kind, target):
    assert not _resolves(importlib.import_module("otpylib_telemetry.metrics.exporting"), kind, target)
