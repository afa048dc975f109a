"""Fixtures for every test. The helpers behind them are in tests/support."""

import asyncio
import gc
import importlib.util
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, HttpReceiver
from tests.support.fresh import forget_everything, left_behind, logging_state
from tests.support.prometheus_server import PrometheusServer
from tests.support.pushgateway import Pushgateway
from tests.support.rotel import Collector
from tests.support.runtime import running_runtime, start_config_manager

PLUGIN = "otpylib_telemetry_mock.pytest_plugin"

# How long an example takes says how busy the machine is, and nothing about what is tested.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# For `.ci/run` with the lowest versions; what a property is about is looked for with the newest ones.
settings.register_profile("few examples", settings.get_profile("any machine"), max_examples=20)


def pytest_configure(config):
    """Prepare what every test relies on."""
    _listen_to_ctrl_c()
    _register_plugin(config)
    # Without this older versions of pytest-asyncio make a loop of their own, and never close it.
    asyncio.set_event_loop(None)


def _listen_to_ctrl_c():
    """A shell starts what runs in its background deaf to SIGINT, and all that is started from there too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _register_plugin(config):
    """Our own pytest plugin is there even where the project is not installed but only lies there."""
    try:
        found = importlib.util.find_spec(PLUGIN)
    except ModuleNotFoundError:
        found = None
    if found is not None:
        module = importlib.import_module(PLUGIN)
        if not config.pluginmanager.is_registered(module):
            config.pluginmanager.register(module, PLUGIN)


#: What tests are marked with, by where they are and by what they use: ``make check`` leaves these out.
MARKED = {
    "tests/instrument/test_last_resort.py": "process",
    "tests/peers/": "peer",
    "tests/processes/": "process",
    "tests/mock/test_pytest_plugin.py": "process",
    "tests/otel/service/test_programs.py": "process",
    "tests/project/test_benchmarks.py": "process",
    "tests/project/test_examples.py": "process",
    "tests/project/test_neighbours.py": "process",
    "tests/instrument/otpylib/test_nodes.py": "process",
    "tests/project/test_packaging": "process",
    "tests/faults/": "slow",
    "tests/admin/test_fuzz.py": "slow",
}
PEERS = {"collector", "prometheus", "pushgateway"}


#: Tests that wait for each other, because the documentation's programs serve on well-known ports. At the head
#: of all tests one process has them, and the others need not wait.
ONE_AFTER_THE_OTHER = "tests/project/test_docs.py::test_python_runs_as_it_stands"


def pytest_collection_modifyitems(items):
    """Mark what starts a real backend or programs of its own, and what provokes slow faults."""
    items.sort(key=lambda item: not item.nodeid.startswith(ONE_AFTER_THE_OTHER))
    for item in items:
        for where, mark in MARKED.items():
            if item.nodeid.startswith(where):
                item.add_marker(mark)
        if PEERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("peer")


def pytest_collection_finish():
    """Spare the garbage collector what stays to the end: half a million objects, at every full collection."""
    gc.collect()
    gc.freeze()


#: Tests that run on uvloop as well, which uvicorn takes wherever it is installed.
ON_UVLOOP = (
    "tests/prometheus/test_endpoint.py",
    "tests/prometheus/test_serving.py",
    "tests/prometheus/test_mount.py",
    "tests/prometheus/test_push.py",
    "tests/exporter/test_server.py",
    "tests/otel/service/test_actors.py",
    "tests/otel/service/test_traces.py",
    "tests/otel/service/test_metrics.py",
    "tests/otel/service/test_logs.py",
    "tests/otel/test_destinations.py",
    "tests/instrument/test_aiohttp.py",
    "tests/instrument/test_web_in_a_process.py",
    "tests/together/test_both_exits.py",
    "tests/together/test_conformance.py",
    "tests/instrument/otpylib/",
)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item):
    """Run the coroutines of some modules on either event loop."""
    factories = {"asyncio": asyncio.new_event_loop}
    if item.nodeid.startswith(ON_UVLOOP):
        factories["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return factories


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """The environment of the machine must not configure what is under test."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "TELEMETRY_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _nothing_left_over():
    """What the packages keep for as long as the interpreter runs ends with the test."""
    before = logging_state()
    yield
    found = left_behind(before)
    forget_everything()
    assert not found, "left behind: " + "; ".join(found)


@pytest.fixture
async def background_errors():
    """What went wrong in the background of the loop, e.g. in tasks that nobody awaited.

    At the end the test fails for it; a test that provokes such errors asks for this fixture and clears it.
    """
    errors = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    yield errors
    loop.set_exception_handler(None)
    assert not errors, "errors in the background of the event loop:\n" + "\n".join(map(repr, errors))


@pytest.fixture
async def runtime(background_errors):
    """A fresh otpylib backend, set as the runtime; at the end no task may be left over."""
    async with running_runtime() as backend:
        yield backend


@pytest.fixture
def config_manager(runtime):
    """A function that starts a real otpylib-config: ``control = await config_manager(path, interval)``.

    See ``tests.support.runtime.start_config_manager`` for its arguments.
    """
    return start_config_manager


@pytest.fixture
def grpc_receiver():
    """Our OTLP server over gRPC, which fails on command."""
    with GrpcReceiver() as receiver:
        yield receiver


@pytest.fixture
def http_receiver():
    """Our OTLP server over HTTP, which fails on command."""
    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture
def collector(tmp_path):
    """A real collector; ``collector.receiver`` has what came out of it."""
    running = Collector(tmp_path)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def prometheus(tmp_path):
    """A function that starts a real Prometheus: ``server = prometheus("127.0.0.1:9464")``."""
    servers = []

    def start(*targets, **settings):
        server = PrometheusServer(tmp_path / f"prometheus{len(servers)}", *targets, **settings)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def pushgateway(tmp_path):
    """A function that starts a real Pushgateway: ``gateway = pushgateway()``."""
    gateways = []

    def start(**settings):
        gateway = Pushgateway(tmp_path / f"pushgateway{len(gateways)}", **settings)
        gateways.append(gateway)
        gateway.start()
        return gateway

    yield start
    for gateway in gateways:
        gateway.stop()
