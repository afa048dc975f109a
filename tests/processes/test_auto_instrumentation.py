"""``opentelemetry-instrument``: exporters for programs that have none; they step back for those that do."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from otpylib_telemetry_mock.otlp_receiver.ports import free_port
from tests.support.auto_instrumented import (
    COMMAND,
    DISTRO,
    FLASK,
    UNUSED,
    environment,
    get,
    run,
    run_command,
    write_programs,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.process

TREE = {
    "shop.checkout": None,
    "otpylib.call": "shop.checkout",
    "otpylib.handle": "otpylib.call",
    "shop.payment": "otpylib.handle",
}


@pytest.fixture
def shop(tmp_path):
    """The program of the page that has actors."""
    return (write_programs(tmp_path) / "shop.py").read_text(encoding="utf-8")


def parents(spans):
    """Each span's name with its parent's; every one is there once, and all are of one trace."""
    names = {each.span_id: each.name for each in spans}
    assert len({each.trace_id for each in spans}) == 1
    assert len(names) == len(spans) == len(set(names.values()))
    return {each.name: names.get(each.parent_span_id) for each in spans}


def ended_well(done):
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


# --- programs that do nothing for it ------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_an_endpoint_alone_has_the_actors_of_a_program_exported_as_one_tree(
    tmp_path, shop, otlp_receiver, protocol
):
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp_receiver.endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_SERVICE_NAME": "shop",
    }
    if protocol == "grpc":
        done = run_command(tmp_path, sys.executable, "shop.py", **variables)
    else:
        done = run(tmp_path, shop, **variables)
    ended_well(done)
    assert parents(otlp_receiver.spans) == TREE
    for each in (*otlp_receiver.spans, *otlp_receiver.metrics):
        assert each.resource["service.name"] == "shop"
        assert each.resource["telemetry.auto.version"]
    assert {each.value for each in otlp_receiver.metrics if each.name == "shop.orders.total"} == {1}


def test_the_actors_are_left_out_when_their_instrumentation_is_disabled(tmp_path, shop, otlp_receiver):
    for disabled in ("requests, otpylib", "*"):
        done = run(
            tmp_path,
            shop,
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled,
        )
        ended_well(done)
    assert sorted(each.name for each in otlp_receiver.spans) == ["shop.checkout"] * 2 + ["shop.payment"] * 2


SPANS_AND_LOGS = """
    import logging
    from opentelemetry import metrics, trace
    from otpylib.runtime import get_runtime
    from otpylib_telemetry import span

    assert get_runtime() is None
    logging.basicConfig(level="INFO", format="on the console: %(message)s")
    with trace.get_tracer("shop").start_as_current_span("checkout"):
        metrics.get_meter("shop").create_counter("sold").add(3)
        with span("shop.pay"):
            logging.getLogger("shop").info("out of tea")
"""


def on_the_console(done):
    """What the program logged, but for the lines of an exporter that is up, and of which nothing is left."""
    said = [line.removeprefix("on the console: ") for line in done.stderr.splitlines()]
    expected = re.compile(r"\w+_exporter (is up: |was drained, and nothing is left: )")
    return [line for line in said if not expected.match(line)]


def test_spans_measurements_and_log_records_of_a_program_without_otpylib_arrive(tmp_path, otlp_receiver):
    done = run(
        tmp_path,
        SPANS_AND_LOGS,
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
        OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
    )
    assert (done.returncode, on_the_console(done)) == (0, ["out of tea"])
    assert parents(otlp_receiver.spans) == {"checkout": None, "shop.pay": "checkout"}
    (record,) = otlp_receiver.logs
    (pay,) = (each for each in otlp_receiver.spans if each.name == "shop.pay")
    assert (record.body, record.span_id) == ("out of tea", pay.span_id)
    assert {each.value for each in otlp_receiver.metrics if each.name == "sold"} == {3}


def test_pythons_logging_is_exported_only_where_that_is_asked_for(tmp_path, otlp_receiver):
    done = run(tmp_path, SPANS_AND_LOGS, OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint)
    assert (done.returncode, on_the_console(done)) == (0, ["out of tea"])
    assert len(otlp_receiver.spans) == 2
    assert otlp_receiver.logs == []


@pytest.mark.parametrize("how", ["basicConfig", "dictConfig", "force"])
def test_what_a_program_does_to_its_logging_leaves_the_export_in_place(tmp_path, otlp_receiver, how):
    configure = {
        "basicConfig": "logging.basicConfig(level='INFO')",
        "force": "logging.basicConfig(level='INFO', force=True)",
        "dictConfig": """logging.config.dictConfig({
            "version": 1, "root": {"level": "INFO", "handlers": ["all"]},
            "handlers": {"all": {"class": "logging.StreamHandler"}},
        })""",
    }[how]
    program = f"import logging, logging.config\n{configure}\nlogging.getLogger('shop').info('out of tea')"
    done = run(
        tmp_path,
        program,
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
        OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
    )
    assert done.returncode == 0, done.stderr
    assert "out of tea" in done.stderr
    assert [each.body for each in otlp_receiver.logs] == ["out of tea"]


def test_the_standards_names_of_exporters_choose_what_is_started(tmp_path, otlp_receiver):
    program = """
        from otpylib_telemetry import span
        from otpylib_telemetry.exporter import registry
        with span("shop.pay"):
            pass
        print(sorted(each.state.name for each in registry.running()))
    """
    port = free_port()
    for traces, metrics, logs, expected in (
        ("otlp", "prometheus", "none", ["otel_exporter", "prometheus_exporter"]),
        ("none", "prometheus", "none", ["prometheus_exporter"]),
        ("none", "otlp, Prometheus", "none", ["otel_exporter", "prometheus_exporter"]),
        ("none", "none", "none", []),
    ):
        done = run(
            tmp_path,
            program,
            OTEL_TRACES_EXPORTER=traces,
            OTEL_METRICS_EXPORTER=metrics,
            OTEL_LOGS_EXPORTER=logs,
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
            OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
        )
        assert ended_well(done).strip() == str(expected)
    assert [each.name for each in otlp_receiver.spans] == ["shop.pay"]


def test_a_page_for_prometheus_has_what_events_and_the_api_measure(tmp_path):
    port = free_port()
    program = f"""
        import time, urllib.request
        from opentelemetry import metrics
        from otpylib_telemetry import span
        with span("shop.pay"):
            metrics.get_meter("shop").create_counter("sold").add(3)
        for _ in range(600):
            try:
                with urllib.request.urlopen("http://127.0.0.1:{port}/metrics") as page:
                    print(page.read().decode())
                break
            except OSError:
                time.sleep(0.1)
    """
    done = run(
        tmp_path,
        program,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="prometheus",
        OTEL_LOGS_EXPORTER="none",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
    )
    page = ended_well(done)
    assert 'shop_pay_duration_seconds_count{outcome="success"} 1' in page
    assert any(line.startswith("sold_total") and line.endswith(" 3") for line in page.splitlines()), page


def test_nothing_said_means_the_address_of_the_standard(tmp_path):
    program = """
        from otpylib_telemetry.exporter import registry
        print(registry.settings_of("otel_exporter").endpoint)
    """
    for variables, expected in (
        ({}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://localhost:4318"),
        ({"TELEMETRY_OTEL_ENDPOINT": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "None"),
    ):
        assert expected in run(tmp_path, program, **variables).stdout


# --- what it does not start ---------------------------------------------------------------------------------

NOTHING = """
    from opentelemetry import trace
    from otpylib_telemetry.exporter import registry
    print(registry.names(), type(trace.get_tracer_provider()).__name__)
"""


@pytest.mark.parametrize("variable", ["OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE"])
def test_declarative_configuration_is_refused_in_one_line_and_the_program_runs(tmp_path, variable):
    done = run(tmp_path, NOTHING, **{variable: "otel.yaml"})
    assert (done.returncode, done.stdout) == (0, "[] ProxyTracerProvider\n")
    (line,) = done.stderr.splitlines()
    assert f"{variable} is otel.yaml" in line
    assert "exports nothing" in line


def test_switched_off_or_empty_variables_say_nothing(tmp_path, otlp_receiver):
    done = run(tmp_path, NOTHING, OTEL_SDK_DISABLED=" True", OTEL_CONFIG_FILE="x.yaml")
    assert ended_well(done) == "[] ProxyTracerProvider\n"
    done = run(tmp_path, NOTHING, OTEL_CONFIG_FILE="", OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint)
    assert ended_well(done) == "['otel_exporter'] _Provider\n"


#: Each in a fork of one interpreter: what is imported once stays.
MISSING = """
    import os, sys
    from otpylib_telemetry_otel.distro import Configurator

    for module in ("grpc", "aiohttp", "opentelemetry.sdk"):
        if os.fork() == 0:
            if module == "aiohttp":
                os.environ.update(OTEL_METRICS_EXPORTER="prometheus", OTEL_TRACES_EXPORTER="none")
                os.environ.update(OTEL_LOGS_EXPORTER="none")
            sys.modules[module] = None
            Configurator().configure(auto_instrumentation_version="1")
            sys.exit()
        assert os.wait()[1] == 0
"""


def test_a_missing_package_is_named_with_the_extra_that_brings_it(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MISSING)],
        cwd=tmp_path,
        env=environment(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1"),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    extras = re.findall(r"otpylib-telemetry\[(\w+)\]", done.stderr)
    assert (extras, "Traceback" in done.stderr) == (["otel", "prometheus", "otel"], False), done.stderr


# --- programs with exporters of their own -------------------------------------------------------------------

HEAD = """
    import asyncio
    from opentelemetry import trace
    from otpylib import gen_server, process, supervisor
    from otpylib.module import SUPERVISOR, OTPModule
    from otpylib.runtime import set_runtime
    from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend
    import otpylib_telemetry, otpylib_telemetry_otel
    from otpylib_telemetry import otp, span
    from otpylib_telemetry_otel import OtelExporter, service
    from otpylib_telemetry_otel.service import TelemetryService

    def work(count):
        for number in range(count):
            with trace.get_tracer("shop").start_as_current_span("checkout"), span("shop.pay"):
                pass

    async def in_tree(*children):
        class Tree(metaclass=OTPModule, behavior=SUPERVISOR, version="1.0.0"):
            async def init(self, _):
                return list(children), supervisor.options()
            async def terminate(self, _reason, _state):
                pass
        up = asyncio.Event()
        async def application():
            await supervisor.start_link(Tree, name="shop_sup")
            up.set()
            await asyncio.Event().wait()
        await process.spawn(application)
        await up.wait()

    async def taken_over():
        try:
            found = await otp.safe_call("otel_exporter", ("get_config",), timeout=30)
        except Exception:  # one of them ends, and the other is not there yet
            return False
        return found["config"]["service_name"] == "own"

    async def main():
        backend = AsyncIOBackend()
        await backend.initialize()
        set_runtime(backend)
        work(50)
        async with own():
            # What is begun by TelemetryService is not waited for.
            async with asyncio.timeout(60):
                while not await taken_over():
                    await asyncio.sleep(0.01)
            work(100)
        await backend.shutdown()
"""

OWN = {
    "child spec": """
        await in_tree(otpylib_telemetry_otel.child_spec({"service_name": "own"}))
        yield
    """,
    "suite": """
        await in_tree(otpylib_telemetry.child_spec({"otel": {"service_name": "own"}}))
        yield
    """,
    "service": """
        await in_tree(service.child_spec({"service_name": "own"}))
        yield
    """,
    "bare class": """
        await in_tree(supervisor.child_spec(
            id="x", module=OtelExporter, args={"service_name": "own"}, name="otel_exporter"))
        yield
    """,
    "started": """
        await otpylib_telemetry_otel.start_otel_exporter({"service_name": "own"})
        yield
    """,
    "TelemetryService": """
        async with TelemetryService("own") as telemetry:
            telemetry.initialize_tracing()
            yield
    """,
}


def own(text):
    body = textwrap.indent(textwrap.dedent(text), " " * 4)
    run_it = (
        "import contextlib\n@contextlib.asynccontextmanager\nasync def own():\n"
        + body
        + "\nasyncio.run(main())"
    )
    return textwrap.dedent(HEAD) + run_it


@pytest.mark.parametrize("how", OWN)
def test_exporters_of_the_program_take_over_and_nothing_is_sent_twice_or_lost(tmp_path, otlp_receiver, how):
    done = run(
        tmp_path,
        own(OWN[how]),
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
        OTEL_SERVICE_NAME="auto",
    )
    assert done.returncode == 0, done.stderr
    found = [each.name for each in otlp_receiver.spans]
    assert (found.count("checkout"), found.count("shop.pay")) == (150, 150)
    assert len({each.span_id for each in otlp_receiver.spans}) == 300
    assert sum(each.resource["service.name"] == "own" for each in otlp_receiver.spans) >= 200


def test_without_a_runtime_the_program_takes_over_as_well(tmp_path, otlp_receiver):
    program = """
        from otpylib_telemetry import span
        from otpylib_telemetry_otel.service import TelemetryService
        with span("before"):
            pass
        with TelemetryService("own") as telemetry:
            telemetry.initialize_tracing()
            with span("shop.pay"):
                pass
    """
    done = run(tmp_path, program, OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint)
    ended_well(done)
    assert sorted(each.name for each in otlp_receiver.spans) == ["before", "shop.pay"]
    assert {each.resource["service.name"] for each in otlp_receiver.spans if each.name == "shop.pay"} == {
        "own"
    }


# --- several distros ----------------------------------------------------------------------------------------

WHICH = """
    from opentelemetry import trace
    print(type(trace.get_tracer_provider()).__module__.split(".")[0])
"""


@pytest.mark.parametrize(
    ("distro", "configurator", "expected"),
    [
        ("otpylib_telemetry", None, "otpylib_telemetry_otel"),
        ("otpylib_telemetry", "otpylib_telemetry", "otpylib_telemetry_otel"),
        (None, "otpylib_telemetry", "otpylib_telemetry_otel"),
        ("distro", "otpylib_telemetry", "otpylib_telemetry_otel"),
        ("distro", "configurator", "opentelemetry"),
        ("otpylib_telemetry", "configurator", "opentelemetry"),
    ],
)
def test_beside_another_distro_the_variables_choose(tmp_path, otlp_receiver, distro, configurator, expected):
    chosen = {"OTEL_PYTHON_DISTRO": distro, "OTEL_PYTHON_CONFIGURATOR": configurator}
    done = run(
        tmp_path,
        WHICH,
        packages=DISTRO,
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


# --- servers ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(directory, *command, packages=(), **variables):
    """Run ``opentelemetry-instrument`` with the command of a server, and end it politely."""
    log = directory / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [COMMAND, *command],
            cwd=directory,
            env=environment(*packages, **variables),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def test_the_command_line_of_the_getting_started_page_gives_one_tree_with_an_actor_behind_flask(tmp_path):
    write_programs(tmp_path)
    port = free_port()
    options = "--traces_exporter console --metrics_exporter console --logs_exporter console"
    command = (*options.split(), "--service_name", "dice-server", "flask", "run", "-p", str(port))
    with served(tmp_path, *command, packages=FLASK) as process:
        rolled = wait_until(lambda: get(f"http://127.0.0.1:{port}/rolldice"), 60, "Flask answers")
        assert int(rolled) in range(1, 7)
        process.terminate()
        assert process.wait(60) == -signal.SIGTERM
    said = (tmp_path / "server.log").read_text(encoding="utf-8")
    spans = {each["name"]: each for each in printed(said) if "parent_id" in each}
    assert set(spans) == {"GET /rolldice", "otpylib.call", "otpylib.handle"}
    assert len({each["context"]["trace_id"] for each in spans.values()}) == 1
    for name, parent in {"otpylib.call": "GET /rolldice", "otpylib.handle": "otpylib.call"}.items():
        assert spans[name]["parent_id"] == spans[parent]["context"]["span_id"]
    assert spans["GET /rolldice"]["parent_id"] is None
    assert {each["resource"]["attributes"]["service.name"] for each in spans.values()} == {"dice-server"}


def printed(text):
    """The objects that console exporters printed among other lines."""
    decoder, at = json.JSONDecoder(), 0
    while (at := text.find("\n{\n", at)) >= 0:
        found, at = decoder.raw_decode(text, at + 1)
        yield found


WORKER_APP = """
    import os
    from opentelemetry import trace

    def app(_environ, start_response):
        with trace.get_tracer("shop").start_as_current_span(f"worker {os.getpid()}"):
            start_response("200 OK", [("Content-Length", "0")])
        return [b""]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
def test_every_worker_of_gunicorn_exports_what_it_does(tmp_path, otlp_receiver):
    """With --preload it is the same: the command sets up in the parent, before there is an application."""
    port = free_port()
    address = ("--bind", f"127.0.0.1:{port}", "--workers", "2", "--chdir", str(tmp_path))
    (tmp_path / "worker_app.py").write_text(textwrap.dedent(WORKER_APP))
    with served(
        tmp_path,
        *("gunicorn", "worker_app:app", *address),
        **UNUSED,
        OTEL_EXPORTER_OTLP_ENDPOINT=otlp_receiver.endpoint,
    ):
        wait_until(lambda: get(f"http://127.0.0.1:{port}/") is not None, 60, "gunicorn answers")
        count = 1

        def both():
            nonlocal count
            get(f"http://127.0.0.1:{port}/")
            count += 1
            return len({each.name for each in otlp_receiver.spans}) == 2

        wait_until(both, 120, "both workers have answered")
    assert len(otlp_receiver.spans) == count


def test_children_of_multiprocessing_and_other_programs_are_instrumented_as_well(tmp_path, otlp_receiver):
    program = """
            import multiprocessing, subprocess, sys
            from opentelemetry import trace

            def work(name):
                with trace.get_tracer("shop").start_as_current_span(name):
                    pass

            if __name__ == "__main__":
                for method in ("spawn", "fork"):
                    child = multiprocessing.get_context(method).Process(target=work, args=[method])
                    child.start()
                    child.join()
                    assert child.exitcode == 0
                subprocess.run([sys.executable, "-c", "import parent; parent.work('program')"], check=True)
                work("parent")
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(program))
    endpoint = otlp_receiver.endpoint
    done = run_command(tmp_path, sys.executable, "parent.py", OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
    assert done.returncode == 0, done.stderr
    assert sorted(each.name for each in otlp_receiver.spans) == ["fork", "parent", "program", "spawn"]
