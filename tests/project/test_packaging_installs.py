"""The built distribution, installed alone: what a user gets, with one extra at a time."""

import json

import pytest

from tests.support.distributions import (
    BROUGHT_BY,
    LOWEST,
    PACKAGES,
    PROJECT,
    VERSIONS,
    install_with_pip,
    run,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


IMPORTS = """
import json, sys
{statements}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def imported_by(execute_in, extra, *modules):
    """The top-level modules that are loaded after importing these."""
    statements = "\n".join(f"import {module}" for module in modules)
    return set(json.loads(execute_in(extra, IMPORTS.format(statements=statements))))


@pytest.mark.parametrize("extra", [None, *BROUGHT_BY])
def test_an_extra_brings_its_own_and_nothing_of_the_others(execute_in, extra):
    program = "import importlib.util\nprint([n for n in {names!r} if importlib.util.find_spec(n)])"
    names = sorted({name for brought in BROUGHT_BY.values() for name in brought})
    found = execute_in(extra, program.format(names=names))
    assert found.strip() == str(sorted(BROUGHT_BY.get(extra, ())))


WORKS = """
import otpylib_telemetry, otpylib_telemetry_mock, otpylib_telemetry_otel, otpylib_telemetry_prometheus
from otpylib_telemetry_mock import assert_emitted, capture
with capture() as captured, otpylib_telemetry.span("shop.order"):
    otpylib_telemetry.execute("shop.sold", {{"count": 3}})
assert_emitted(captured, "shop.sold", {{"count": 3}})
for module in {modules!r}:
    __import__(module)
print(otpylib_telemetry.__version__)
"""
#: What imports all that an extra brings, as we use it.
MODULES = {
    None: [],
    "otel": ["otpylib_telemetry_otel.backend", "otpylib_telemetry_otel.otlp.grpc_transport"],
    "meters": ["otpylib_telemetry.meters.provider", "otpylib_telemetry.meters.streams"],
    "prometheus": ["otpylib_telemetry_prometheus.backend"],
    "admin": ["otpylib_telemetry.admin.aiohttp"],
    "cli": ["otpylib_telemetry.command.main"],
    "client": ["prometheus_client"],
    "poller": ["psutil"],
    "test": ["otpylib_telemetry_mock.pytest_plugin"],
}


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("extra", MODULES)
def test_the_wheel_works_with_each_extra_at_the_newest_and_the_lowest_versions(execute_in, extra, versions):
    said = execute_in(extra, WORKS.format(modules=MODULES[extra]), versions=versions)
    assert said.strip() == PROJECT["version"]


EVERY = [module for modules in MODULES.values() for module in modules]


def test_so_does_the_source_distribution_at_the_lowest(execute_in, sdist):
    """With all extras at once: the wheel that was tested with each of them has been built from it."""
    said = execute_in("all", WORKS.format(modules=EVERY), versions=LOWEST, distribution=sdist)
    assert said.strip() == PROJECT["version"]


@pytest.mark.parametrize("distribution", ["wheel", "sdist"])
def test_pip_itself_installs_everything_at_the_newest(request, execute_in, distribution):
    """The other environments are made by uv, which is quicker."""
    file = request.getfixturevalue(distribution)
    said = execute_in("all", WORKS.format(modules=EVERY), distribution=file, by=install_with_pip)
    assert said.strip() == PROJECT["version"]


@pytest.mark.parametrize("extra", [None, *BROUGHT_BY])
def test_importing_the_bus_loads_no_exporter_library(execute_in, extra):
    loaded = imported_by(execute_in, extra, "otpylib_telemetry")
    assert "otpylib_telemetry" in loaded
    assert not loaded & {"opentelemetry", "grpc", "prometheus_client", "aiohttp", "pytest"}


@pytest.mark.parametrize("extra", [None, *BROUGHT_BY])
def test_every_package_can_be_imported_with_any_extra_or_none(execute_in, extra):
    exporters = [f"{package}.exporter" for package in PACKAGES[1:]]
    loaded = imported_by(execute_in, extra, *PACKAGES, *exporters)
    assert set(PACKAGES) <= loaded
    assert not loaded & {"opentelemetry", "aiohttp", "pytest"}


def test_events_flow_with_no_extra_at_all(execute_in):
    program = """
import asyncio
from otpylib_telemetry import attach, execute
from otpylib_telemetry_mock import MockExporter

async def main():
    mock = MockExporter()
    await attach("mock", "shop.*", mock.handle_telemetry_event)
    execute("shop.sold", {"count": 3}, {"item": "tea"})
    (event,) = mock.events
    print(event["event_name"], event["measurements"], event["metadata"])

execute("nobody.listens", {"count": 1})
asyncio.run(main())
"""
    assert execute_in(None, program).strip() == "shop.sold {'count': 3} {'item': 'tea'}"


def test_the_exporters_are_found_by_their_entry_points(execute_in):
    program = """
from importlib.metadata import entry_points
for entry in sorted(entry_points(group="otpylib_telemetry_exporters"), key=lambda entry: entry.name):
    print(entry.name, entry.load().__name__)
"""
    expected = [
        "datadog DatadogExporter",
        "mock MockExporterServer",
        "otel OtelExporter",
        "prometheus PrometheusExporter",
    ]
    assert execute_in(None, program).splitlines() == expected


def test_the_pytest_plugin_comes_with_the_wheel_and_needs_no_set_up(installed, tmp_path):
    said = run(
        installed("test"), "-I", "-m", "pytest", "-W", "error", "--fixtures", cwd=tmp_path, timeout=250
    )
    assert "fixtures defined from otpylib_telemetry_mock.pytest_plugin" in said
