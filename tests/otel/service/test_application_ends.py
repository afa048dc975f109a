"""TelemetryService("my-application") where it is not shut down, shared, made twice, or forked."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from tests.support import programs
from tests.support.telemetry_service import ROOT

pytestmark = pytest.mark.process

#: Whether an end is tried in an interpreter of its own, whose exporter imports at the end what it needs. In a
#: fork all that is there. What hurries past something does so now and then: more than once.
RUNS = (True, False, False)

HEAD = """
import asyncio, logging, multiprocessing, os, signal, sys, threading, time
from otpylib_telemetry import span
from otpylib_telemetry_otel.service import TelemetryService
settings = {{"endpoint": {endpoint!r}, "protocol": {protocol!r}}}

def make(name="my-application", **more):
    return TelemetryService(name, **{{**settings, **more}})

def refused(work):
    try:
        work()
    except RuntimeError as error:
        return str(error)
"""


def run(program, receiver, status=0, protocol="grpc", *, alone=False):
    head = HEAD.format(endpoint=receiver.endpoint, protocol=protocol)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    text = head + textwrap.dedent(program)
    if alone:
        command = [sys.executable, "-W", "ignore", "-c", text]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120, env=kept)
    else:
        done = programs.run(["-c", text], options=("-W", "ignore"), cwd=ROOT, timeout=120, env=kept)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


def names(receiver):
    return sorted(each.name for each in receiver.spans)


ENDS = {
    "normal": ("pass", 0, ""),
    "exit": ("sys.exit(3)", 3, ""),
    "exception": ("raise LookupError('mine')", 1, "LookupError: mine"),
    "loop": ("asyncio.run(asyncio.sleep(0))", 0, ""),
    "exit in a loop": ("async def main(): sys.exit(4)\nasyncio.run(main())", 4, ""),
    "terminated": ("os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)", -signal.SIGTERM, ""),
}


@pytest.mark.parametrize("end", ENDS)
def test_whatever_ends_the_process_what_ended_before_is_exported(otlp_receiver, end):
    last, status, said = ENDS[end]
    program = f"""
tracer = make().initialize_tracing()
for number in range(10):
    with tracer.start_as_current_span("shop.checkout"):
        pass
{last}
"""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outcomes = [*pool.map(lambda alone: run(program, otlp_receiver, status, alone=alone)[1], RUNS)]
    assert names(otlp_receiver) == ["shop.checkout"] * 10 * len(RUNS)
    for each in outcomes:
        assert said in each
        assert "otel_exporter" not in each


def test_threads_that_go_on_after_the_main_one_lose_nothing(otlp_receiver):
    program = """
        tracer = make().initialize_tracing()

        def work():
            threading.main_thread().join()
            for number in range(3):
                with tracer.start_as_current_span("late"):
                    time.sleep(0.1)

        threading.Thread(target=work).start()
    """
    _, said = run(program, otlp_receiver)
    assert (names(otlp_receiver), said) == (["late"] * 3, "")


def test_a_second_of_the_same_name_and_settings_shares_it(otlp_receiver):
    program = """
        first, second = make(), make()
        thread = threading.Thread(target=lambda: first.initialize_tracing())
        thread.start()
        thread.join()
        tracer = second.initialize_tracing()
        second.initialize_logging()
        with tracer.start_as_current_span("both"):
            pass
        print(second.shutdown().report["left"])
        with tracer.start_as_current_span("first alone"):
            logging.getLogger("shop").warning("still here")
        async def third():
            with make() as telemetry, telemetry.initialize_tracing().start_as_current_span("in a loop"):
                pass
        asyncio.run(third())
        print(first.shutdown().report["left"])
        # A thread that has handed over what it exported is given the time to end.
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                thread.join(30)
        print([each.name for each in threading.enumerate()])
    """
    said, _ = run(program, otlp_receiver)
    assert said.split("\n")[:3] == ["0", "0", "['MainThread']"]
    assert names(otlp_receiver) == ["both", "first alone", "in a loop"]
    assert "still here" in [each.body for each in otlp_receiver.logs]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("make('other')", "service_name differs"),
        ("make(batch_size=7, api_key='secret')", "api_key, batch_size differ"),
        ("make(service_version='2')", "resource differs"),
    ],
)
def test_another_one_is_refused_with_advice_that_works(otlp_receiver, other, told):
    program = f"""
        first = make()
        first.initialize_tracing()
        other = {other}
        message = refused(other.initialize_tracing)
        print(message, message == refused(lambda: asyncio.run(asyncio.to_thread(other.initialize_metrics))))
        first.shutdown()
        with other.initialize_tracing().start_as_current_span("advised"):
            pass
    """
    said, _ = run(program, otlp_receiver)
    assert told in said
    assert "TelemetryService('my-application')" in said
    assert "Call shutdown() of that one first" in said
    assert "secret" not in said
    assert said.rstrip().endswith("True")
    assert names(otlp_receiver) == ["advised"]


FORKS = {
    "fork": "pid = os.fork()\nif pid == 0:\n    work()\n    sys.exit(3)\nos.waitpid(pid, 0)",
    "process": (
        "context = multiprocessing.get_context('fork')\n"
        "child = context.Process(target=work)\nchild.start()\nchild.join()"
    ),
    "terminated": (
        "pid = os.fork()\nif pid == 0:\n    work()\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\nos.waitpid(pid, 0)"
    ),
    "shut down": (
        "pid = os.fork()\nif pid == 0:\n    work()\n    telemetry.shutdown()\n    os._exit(0)\n"
        "os.waitpid(pid, 0)"
    ),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("how", FORKS)
def test_a_forked_child_goes_on_with_a_runtime_of_its_own(otlp_receiver, how, protocol):
    program = f"""
telemetry = make()
tracer, meter = telemetry.initialize_tracing(), telemetry.initialize_metrics()
telemetry.initialize_logging()
sold = meter.create_counter("shop.sold")
sold.add(5)
with tracer.start_as_current_span("parent"):
    pass

def work():
    with tracer.start_as_current_span("child"):
        with span("child's own"):
            logging.getLogger("shop").warning("from the child")
    sold.add(1)

{FORKS[how]}
with tracer.start_as_current_span("parent again"):
    pass
"""
    _, said = run(program, otlp_receiver, protocol=protocol)
    assert "otel_exporter" not in said
    assert names(otlp_receiver) == ["child", "child's own", "parent", "parent again"]
    assert {each.resource["service.name"] for each in otlp_receiver.spans} == {"my-application"}
    assert [each.body for each in otlp_receiver.logs if each.body == "from the child"] == ["from the child"]
    assert {each.value for each in otlp_receiver.metrics if each.name == "shop.sold"} == {1, 5}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_one_made_in_a_forked_child_of_an_otpylib_application_works(otlp_receiver):
    program = """
        from otpylib.runtime import set_runtime
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

        async def main():
            backend = AsyncIOBackend()
            await backend.initialize()
            set_runtime(backend)
            if (pid := os.fork()) == 0:
                thread = threading.Thread(target=child)
                thread.start()
                thread.join()
                os._exit(0)
            os.waitpid(pid, 0)
            await backend.shutdown()

        def child():
            with make() as telemetry, telemetry.initialize_tracing().start_as_current_span("child"):
                pass

        asyncio.run(main())
    """
    run(program, otlp_receiver)
    assert names(otlp_receiver) == ["child"]
