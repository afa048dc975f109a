"""The built distribution, installed alone: what a user gets, with one extra at a time."""

import json

import pytest

from tests.project.conftest import run_alone
from tests.support.distributions import (
    BROUGHT_BY,
    LOWEST,
    NEWEST,
    PACKAGES,
    PROJECT,
    VERSIONS,
    install_with_pip,
    run,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


#: What is there, what each import loads, and whether it works.
WORKS = """
import importlib.metadata, importlib.util, json, sys

def loaded():
    return sorted({{name.partition(".")[0] for name in sys.modules}})

said = {{"there": [name for name in {names!r} if importlib.util.find_spec(name)]}}
import otpylib_telemetry
said["loaded by the bus"] = loaded()
import otpylib_telemetry_mock, otpylib_telemetry_otel, otpylib_telemetry_prometheus
import otpylib_telemetry_mock.exporter, otpylib_telemetry_otel.exporter, otpylib_telemetry_prometheus.exporter
said["loaded by every package"] = loaded()
from otpylib_telemetry_mock import assert_emitted, capture
with capture() as captured, otpylib_telemetry.span("shop.order"):
    otpylib_telemetry.execute("shop.sold", {{"count": 3}})
assert_emitted(captured, "shop.sold", {{"count": 3}})
for module in {modules!r}:
    __import__(module)
said["version"] = otpylib_telemetry.__version__
direct = importlib.metadata.distribution("otpylib-telemetry").read_text("direct_url.json")
said["from"] = json.loads(direct)["url"]
print(json.dumps(said))
"""
NAMES = sorted({name for brought in BROUGHT_BY.values() for name in brought})
#: What the packages import by themselves only when it is needed.
HEAVY = {"opentelemetry", "grpc", "prometheus_client", "aiohttp", "pytest"}
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
    """It brings its own and nothing of the others; neither bus nor packages load what an exporter needs."""
    program = WORKS.format(names=NAMES, modules=MODULES[extra])
    said = json.loads(execute_in(extra, program, versions=versions))
    assert said["version"] == PROJECT["version"]
    assert said["from"].endswith(".whl")
    assert said["there"] == sorted(BROUGHT_BY.get(extra, ()))
    assert "otpylib_telemetry" in said["loaded by the bus"]
    assert not HEAVY & set(said["loaded by the bus"])
    assert set(PACKAGES) <= set(said["loaded by every package"])
    assert not (HEAVY - {"grpc", "prometheus_client"}) & set(said["loaded by every package"])


EVERY = WORKS.format(names=NAMES, modules=[module for modules in MODULES.values() for module in modules])


def test_so_does_the_source_distribution_at_the_lowest(execute_in, sdist):
    """With all extras at once: the wheel that was tested with each of them has been built from it."""
    said = json.loads(execute_in("all", EVERY, versions=LOWEST, distribution=sdist))
    assert said["version"] == PROJECT["version"]
    assert said["from"].endswith(sdist.name)


def test_pip_itself_installs_the_source_distribution_with_everything_at_the_newest(
    installed, sdist, tmp_path
):
    """It builds a wheel first, and looks itself whether all is there that the extras ask for."""
    with installed("all") as python:
        install_with_pip(python, NEWEST, f"{sdist}[all]")
        said = json.loads(run_alone(python, EVERY, tmp_path))
    assert said["version"] == PROJECT["version"]
    assert said["from"].endswith(sdist.name)


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
    with installed("test") as python:
        said = run(python, "-I", "-m", "pytest", "-W", "error", "--fixtures", cwd=tmp_path, timeout=250)
    assert "fixtures defined from otpylib_telemetry_mock.pytest_plugin" in said
