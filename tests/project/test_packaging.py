"""The built distribution, installed alone: what a user gets, with one extra at a time."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.otlp_metrics import points_at
from tests.support.otlp_receiver import GrpcReceiver, HttpReceiver
from tests.support.peers import missing

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
    "client": {"prometheus_client"},
    "meters": {"opentelemetry"},
    "test": {"pytest"},
}

MADE = {"build", "dist", "__pycache__"}
#: The files that say which versions are installed beside the project.
VERSIONS = ["constraints.txt", "constraints-lowest.txt"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def clean_environment():
    """The environment of this process, less what would let the checkout be imported instead of the wheel."""
    unwanted = ("PYTHON", "PIP_CONSTRAINT", "VIRTUAL_ENV", "TELEMETRY_", "OTEL_")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        encoding="utf-8",
        env=clean_environment() | {"PYTHONUTF8": "1"} | options.pop("env", {}),
        **options,
    )
    if done.returncode != 0:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return done.stdout


def left_behind(_, names):
    """What a fresh clone would not have."""
    ours = (".ci", ".gitignore")
    hidden = {name for name in names if name.startswith(".") and name not in ours}
    return hidden | {name for name in names if name in MADE or name.endswith(".egg-info")}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The source distribution and the wheel built from it, in a directory of their own."""
    # Built from a copy: a build leaves things behind, and would pick up what an earlier one left.
    source = shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "copy", ignore=left_behind)
    target = tmp_path_factory.mktemp("dist")
    # The build backend is chosen by the constraints too. pip splits this variable at spaces: hence the copy.
    constraints = {"PIP_CONSTRAINT": str(source / "constraints.txt")}
    run(sys.executable, "-m", "build", source, "--outdir", target, env=constraints)
    return target


@pytest.fixture(scope="module")
def wheel(distributions):
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A function that installs the wheel with one extra into an empty environment and gives its Python."""
    pythons = {}

    def install(extra, versions="constraints.txt", distribution=wheel):
        wanted = (extra, versions, distribution)
        if wanted not in pythons:
            place = tmp_path_factory.mktemp(f"with-{extra or 'nothing'}") / "venv"
            # This environment's pip installs into the new one, which needs none of its own: that is quicker.
            run(sys.executable, "-m", "venv", "--without-pip", place)
            python = place / "bin" / "python"
            what = f"{distribution}[{extra}]" if extra else distribution
            pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile")
            file = ROOT / versions
            run(*pip, "--constraint", file, "--build-constraint", file, what)
            pythons[wanted] = python
        return pythons[wanted]

    return install


@pytest.fixture
def execute_in(installed, tmp_path):
    """A function that runs a program in the environment of one extra; gives what it wrote."""

    def execute(extra, program, **what):
        file = tmp_path / "program.py"
        file.write_text(program, encoding="utf-8")
        # Isolated: neither the working directory nor the user's packages are importable.
        return run(installed(extra, **what), "-I", "-W", "error", file, cwd=tmp_path, timeout=60)

    return execute


def dist_info(contents, name):
    return contents[f"otpylib_telemetry-{PROJECT['version']}.dist-info/{name}"].decode()


def test_the_wheel_says_what_it_is(contents):
    metadata = email.message_from_string(dist_info(contents, "METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("otpylib-telemetry", PROJECT["version"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == "MIT"
    assert set(metadata.get_all("Provides-Extra")) == {*BROUGHT_BY, "all"}
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == PROJECT["authors"][0]["name"]
    assert metadata["Summary"] == PROJECT["description"]
    assert metadata["Keywords"].split(",") == PROJECT["keywords"]
    assert metadata.get_all("Classifier") == PROJECT["classifiers"]
    assert metadata.get_all("Project-URL") == [", ".join(pair) for pair in PROJECT["urls"].items()]
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_description_is_the_readme_with_links_that_work_anywhere(contents):
    description = email.message_from_string(dist_info(contents, "METADATA")).get_payload()
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", description, flags=re.DOTALL))
    assert [target for target in targets if not target.startswith("https://")] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    kept = [line for line in readme.splitlines() if line and "](" not in line]
    assert set(kept) <= set(description.splitlines())
    named = re.findall(r"\(`([^`\s]+\.[a-z]+|LICENSE)`\)", description)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_wheel_holds_the_packages_with_their_types_and_the_licence(contents):
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    held = {name for name in contents if ".dist-info/" not in name}
    assert held == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert dist_info(contents, "licenses/LICENSE") == (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def unpacked(distributions, tmp_path_factory):
    """The source distribution as somebody has it who works with it."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(distributions / f"otpylib_telemetry-{PROJECT['version']}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    return place / f"otpylib_telemetry-{PROJECT['version']}"


def test_the_source_distribution_has_everything_that_the_repository_has(unpacked):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout.split("\0")
    kept = {name for name in tracked if name and (ROOT / name).exists()}
    assert sorted(name for name in kept if not (unpacked / name).exists()) == []


def test_the_tests_in_the_source_distribution_run(unpacked):
    pytest_there = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    where = {"cwd": unpacked, "env": {"PYTHONPATH": str(unpacked)}}
    fast = ["test_layers.py", "test_repository.py"]
    said = run(
        *pytest_there, "tests/metrics/test_units.py", *(f"tests/project/{name}" for name in fast), **where
    )
    assert " passed" in said.splitlines()[-1]


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
    "client": ["prometheus_client"],
    "test": ["otpylib_telemetry_mock.pytest_plugin"],
}


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("extra", MODULES)
def test_the_wheel_works_with_each_extra_at_the_newest_and_the_lowest_versions(execute_in, extra, versions):
    said = execute_in(extra, WORKS.format(modules=MODULES[extra]), versions=versions)
    assert said.strip() == PROJECT["version"]


@pytest.mark.parametrize("versions", VERSIONS)
def test_so_does_the_source_distribution(execute_in, distributions, versions):
    """With all extras at once: the wheel that was tested with each of them has been built from it."""
    (sdist,) = distributions.glob("*.tar.gz")
    every = [module for modules in MODULES.values() for module in modules]
    said = execute_in("all", WORKS.format(modules=every), versions=versions, distribution=sdist)
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


STARTS_AN_EXPORTER = """
import asyncio, logging, sys, urllib.request
from otpylib import gen_server, process
from otpylib.runtime import set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
from otpylib_telemetry import execute, span
from {package} import start_{kind}_exporter

logging.basicConfig(stream=sys.stdout)

async def application(done):
    try:
        await start_{kind}_exporter({config!r})
        for _ in range(50):
            stats = await gen_server.call("{kind}_exporter", ("get_stats",), timeout=5)
            if {wanted!r} in repr(stats):
                break
            await asyncio.sleep(0.1)
        print("STATS", stats)
        {then}
    except Exception as error:
        print("ERROR", error)
    done.set()

async def main():
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    done = asyncio.Event()
    await process.spawn(application, args=[done], mailbox=True)
    await asyncio.wait_for(done.wait(), 30)
    tasks = asyncio.all_tasks() - {{asyncio.current_task()}}
    await backend.shutdown()
    if tasks:
        await asyncio.wait(tasks, timeout=10)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "config"),
    [("otel", {"endpoint": "http://127.0.0.1:1"}), ("prometheus", {"port": 0})],
)
def test_an_exporter_without_its_extra_says_which_to_install(execute_in, kind, config):
    wanted = f"otpylib-telemetry[{kind}]"
    package = f"otpylib_telemetry_{kind}"
    said = execute_in(
        None, STARTS_AN_EXPORTER.format(package=package, kind=kind, config=config, wanted=wanted, then="")
    )
    assert wanted in said


SERVES_A_PAGE = """execute("shop.sold", {"count": 3}, {"item": "tea"})
        await gen_server.call("prometheus_exporter", ("flush", 60.0), timeout=6)
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(stats["url"], timeout=5).read())
        print(page.decode())"""


@pytest.mark.parametrize("versions", VERSIONS)
def test_a_page_is_served_with_the_prometheus_extra_alone(execute_in, versions):
    program = STARTS_AN_EXPORTER.format(
        package="otpylib_telemetry_prometheus",
        kind="prometheus",
        config={"port": 0},
        wanted="'state': 'running'",
        then=SERVES_A_PAGE,
    )
    said = execute_in("prometheus", program, versions=versions)
    assert 'shop_sold_total{item="tea"} 3' in said
    assert "otpylib_telemetry_exporter_events_accepted_total" in said
    assert "ERROR" not in said


SENDS_EVERY_SIGNAL = """with span("shop.order"):
            execute("shop.sold", {"count": 3}, {})
        execute("shop.opened", {}, {})
        print(await gen_server.call("otel_exporter", ("flush", 60.0), timeout=15))"""


@pytest.mark.parametrize("versions", VERSIONS)
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_every_signal_is_sent_with_the_otel_extra_alone(execute_in, protocol, versions):
    with (GrpcReceiver if protocol == "grpc" else HttpReceiver)() as receiver:
        program = STARTS_AN_EXPORTER.format(
            package="otpylib_telemetry_otel",
            kind="otel",
            config={"endpoint": receiver.endpoint, "protocol": protocol},
            wanted="'state': 'running'",
            then=SENDS_EVERY_SIGNAL,
        )
        said = execute_in("otel", program, versions=versions)
        assert {request.signal for request in receiver.taken} == {"traces", "logs", "metrics"}, said
        assert {point.name for point in points_at(receiver)} >= {"shop.sold.total", "shop.order.duration"}
        assert [each.name for each in receiver.spans] == ["shop.order"]
    assert "ERROR" not in said


MEASURES = """
try:
    from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
except ModuleNotFoundError as error:
    print(error)
else:
    from otpylib_telemetry.aggregation.exporter_stores import store_of
    PrometheusMeterProvider().get_meter("shop").create_counter("sales").add(1)
    print(store_of("prometheus_exporter").series_count())
"""


def test_the_meter_provider_needs_its_extra_alone_and_says_so(execute_in):
    assert execute_in("meters", MEASURES).strip() == "1"
    assert "pip install 'otpylib-telemetry[meters,prometheus]'" in execute_in(None, MEASURES)


def test_the_pytest_plugin_comes_with_the_wheel_and_needs_no_set_up(installed, tmp_path):
    said = run(installed("test"), "-I", "-m", "pytest", "-W", "error", "--fixtures", cwd=tmp_path, timeout=60)
    assert "fixtures defined from otpylib_telemetry_mock.pytest_plugin" in said


#: What applications have beside us, and what instruments it: their versions move together, and not with ours.
NEIGHBOURS = ("aiohttp", "celery", "django", "fastapi", "flask", "requests")
INSTRUMENTED = ("aiohttp-client", "asyncio", "celery", "django", "fastapi", "flask", "requests")
UNREACHABLE = re.compile(r"from versions: none|onnection|timed out|getaddrinfo", re.IGNORECASE)


def test_it_can_be_installed_beside_popular_packages_and_their_instrumentations(wheel):
    instrumentations = [f"opentelemetry-instrumentation-{name}" for name in INSTRUMENTED]
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed")
    done = subprocess.run(
        [*pip, "--report", "-", f"{wheel}[all]", *NEIGHBOURS, *instrumentations],
        capture_output=True,
        encoding="utf-8",
        env=clean_environment(),
    )
    if done.returncode and UNREACHABLE.search(done.stderr) and "conflict" not in done.stderr:
        missing(f"the package index does not answer: {done.stderr}")
    assert done.returncode == 0, done.stderr
    chosen = {item["metadata"]["name"].lower() for item in json.loads(done.stdout)["install"]}
    assert chosen >= {*NEIGHBOURS, *instrumentations, "otpylib-telemetry", "opentelemetry-sdk"}
