"""Imports go one way: from a part to the parts named before it, and in no circle; type-only imports count."""

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The parts of each package, from the ground up. A part imports only from parts named before it.
LAYERS = {
    "otpylib_telemetry": (
        "version",
        "otp",
        "primitives",
        "bus",
        "tracing",
        "config",
        "scrubbing",
        "services",
        "exporter",
        "aggregation",
        "metrics",
        "self_metrics",
        "meters",
        "instrument",
        "supervision",
        "poller",
        "admin",
        "command",
        "__main__",
    ),
    "otpylib_telemetry_otel": (
        "version",
        "errors",
        "attributes",
        "resources",
        "semantics",
        "traces",
        "metrics",
        "sampling",
        "log_records",
        "api",
        "settings",
        "otlp",
        "sdk",
        "destinations",
        "signals",
        "probes",
        "backend",
        "exporter",
        "presets",
        "installation",
        "own_runtime",
        "set_up",
        "application",
        "service",
        "distro",
    ),
    "otpylib_telemetry_prometheus": (
        "page",
        "exposition",
        "endpoint",
        "mount",
        "client",
        "multiprocess",
        "self_metrics",
        "setting_types",
        "settings",
        "page_maker",
        "push_failures",
        "push",
        "sharing",
        "meter_provider",
        "backend",
        "exporter",
    ),
    "otpylib_telemetry_mock": (
        "settings",
        "recording",
        "ownership",
        "clock",
        "text",
        "exporter",
        "capturing",
        "determinism",
        "forgetting",
        "matching",
        "failures",
        "assertions",
        "otlp_receiver",
        "page_text",
        "exported",
        "pytest_plugin",
        "conformance",
    ),
}

#: The order of the packages: the core knows no exporter, no exporter knows another.
ABOVE_THE_CORE = ("otpylib_telemetry_otel", "otpylib_telemetry_prometheus", "otpylib_telemetry_mock")


def modules(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


KNOWN = {name for package in LAYERS for name, _ in modules(package)}


@functools.cache
def imports(path):
    """Every module that a file imports, wherever the import stands, resolved to a file."""
    return tuple(_imports(path))


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import, which this test does not follow"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in KNOWN else node.module


def part(module):
    return module.split(".")[1] if "." in module else None


@pytest.mark.parametrize("package", LAYERS)
def test_every_part_is_named(package):
    assert {part(name) for name, _ in modules(package)} - {None} == set(LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_every_part_imports_only_from_the_parts_below_it(package):
    order = LAYERS[package]
    wrong = []
    for name, path in modules(package):
        for target in imports(path):
            if target == package and name != package:
                wrong.append(f"{name} imports the façade of its own package")
            if not target.startswith(f"{package}.") or name == package:
                continue
            if order.index(part(target)) > order.index(part(name)):
                wrong.append(f"{name} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("package", LAYERS)
def test_no_two_files_import_each_other_however_indirectly(package):
    graph = {
        name: {target for target in imports(path) if target.startswith(f"{package}.")}
        for name, path in modules(package)
        if name != package
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" -> ".join(f"{one}" for one, _ in pairwise([*circle.args[1], ""])))


@pytest.mark.parametrize("package", LAYERS)
def test_no_package_imports_from_its_neighbours(package):
    neighbours = {other for other in ABOVE_THE_CORE if other != package}
    wrong = [
        f"{name} imports {target}"
        for name, path in modules(package)
        for target in imports(path)
        if target.split(".")[0] in neighbours
    ]
    assert wrong == []
