"""The pytest plugin, in suites of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from otpylib_telemetry import execute
from otpylib_telemetry_mock import assert_emitted
from tests.support import programs

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
ASYNCIO = "pytest_asyncio.plugin"
#: What is imported already where such a suite is run: not the plugins, whose assertions pytest rewrites.
IMPORTED = "otpylib otpylib_telemetry plain pytest"


@pytest.fixture
def suite(pytester, monkeypatch):
    """A function that runs pytest on some files, with our plugin and those that are named."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Where the project is installed, its entry point would load the plugin a second time.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config -p no:cacheprovider\nfilterwarnings = error"
    )

    def run(source, *arguments, plugins=(), imported=IMPORTED, **files):
        pytester.makepyfile(test_suite=source, **files)
        loaded = ["-p", "otpylib_telemetry_mock.pytest_plugin"]
        for plugin in plugins:
            loaded += ["-p", plugin]
        if ASYNCIO in plugins:
            loaded += ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
        done = programs.run(
            ["-m", "pytest", *loaded, *arguments], cwd=pytester.path, timeout=60, about=imported
        )
        lines = (done.stdout.splitlines(), done.stderr.splitlines())
        return pytest.RunResult(done.returncode, *lines, duration=0)

    return run


def test_the_fixture_is_there_without_any_setup_in_this_very_suite(telemetry):
    execute("shop.opened", {"count": 1})
    assert_emitted(telemetry, "shop.opened", {"count": 1})


@pytest.mark.telemetry("db.*")
async def test_the_marker_sets_the_pattern_in_this_very_suite(telemetry):
    execute("shop.opened")
    execute("db.opened")
    assert [event.event_name for event in telemetry.events] == ["db.opened"]


def test_plain_tests_have_a_capture_each(suite):
    result = suite(
        """
        import pytest
        from otpylib_telemetry import execute, list_handlers

        @pytest.mark.parametrize("number", [1, 2, 3])
        def test_each(telemetry, number):
            execute("step", {}, {"test": number})
            assert [event.metadata for event in telemetry.events] == [{"test": number}]

        def test_nothing_is_left():
            assert list_handlers() == []
        """
    )
    result.assert_outcomes(passed=4)


def test_asyncio_tests_have_a_capture_each_and_so_have_the_tasks_and_processes_they_start(suite):
    result = suite(
        """
        import asyncio

        import pytest
        from otpylib import process
        from otpylib.runtime import reset_runtime, set_runtime
        from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

        from otpylib_telemetry import emit, execute
        from otpylib_telemetry_mock import wait_for
        from otpylib_telemetry_mock.ownership import ROOT, current

        @pytest.fixture
        async def runtime():
            backend = AsyncIOBackend()
            await backend.initialize()
            set_runtime(backend)
            yield backend
            await backend.shutdown()
            reset_runtime()

        @pytest.fixture
        async def application(runtime):
            async def body():
                while True:
                    execute("served", {}, {"what": await process.receive()})

            return await process.spawn(body, mailbox=True)

        @pytest.mark.asyncio
        @pytest.mark.parametrize("number", [1, 2])
        async def test_fixture_first(telemetry, application, number):
            assert current.get() is not ROOT
            await process.send(application, number)
            [event] = await wait_for(telemetry, "served")
            assert event.metadata == {"what": number}

        @pytest.mark.asyncio
        @pytest.mark.parametrize("number", [1, 2])
        async def test_fixture_last(application, telemetry, number):
            assert current.get() is not ROOT
            await process.send(application, number)
            [event] = await wait_for(telemetry, "served")
            assert event.metadata == {"what": number}

        @pytest.mark.asyncio
        async def test_tasks(telemetry):
            await asyncio.gather(emit("one"), asyncio.create_task(emit("two")))
            await asyncio.to_thread(execute, "three")
            assert sorted(event.event_name for event in telemetry.events) == ["one", "three", "two"]

        def test_nothing_is_left():
            assert current.get() is ROOT
        """,
        plugins=[ASYNCIO],
    )
    result.assert_outcomes(passed=6)


def test_what_one_test_leaves_running_is_not_seen_by_the_next(suite):
    result = suite(
        """
        import asyncio

        import pytest
        from otpylib_telemetry import execute

        async def straggle():
            while True:
                execute("straggler")
                await asyncio.sleep(0.001)

        @pytest.mark.asyncio(loop_scope="module")
        async def test_first(telemetry):
            global task
            task = asyncio.create_task(straggle())
            await asyncio.sleep(0.01)
            assert telemetry.events

        @pytest.mark.asyncio(loop_scope="module")
        async def test_second(telemetry):
            await asyncio.sleep(0.01)
            assert telemetry.events == []
            assert telemetry.strays > 0
            task.cancel()
        """,
        plugins=[ASYNCIO],
    )
    result.assert_outcomes(passed=2)


def test_bodies_that_run_at_the_same_time_in_threads_and_tasks_do_not_see_each_other(suite):
    result = suite(
        """
        import asyncio
        import threading

        import pytest
        from otpylib_telemetry import execute
        from otpylib_telemetry_mock import capture

        def body(number, barrier, seen):
            with capture() as captured:
                barrier.wait(10)
                for _ in range(100):
                    execute("step", {}, {"test": number})
                barrier.wait(10)
            seen[number] = [event.metadata["test"] for event in captured.events]

        def test_threads(telemetry):
            barrier, seen = threading.Barrier(3), {}
            threads = [
                threading.Thread(target=telemetry.bind(body), args=(n, barrier, seen)) for n in range(3)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert seen == {n: [n] * 100 for n in range(3)}
            assert len(telemetry.events) == 300

        @pytest.mark.asyncio
        async def test_tasks(telemetry):
            barrier, seen = asyncio.Barrier(3), {}

            async def body(number):
                async with capture() as captured:
                    await barrier.wait()
                    for _ in range(100):
                        execute("step", {}, {"test": number})
                        await asyncio.sleep(0)
                    await barrier.wait()
                seen[number] = [event.metadata["test"] for event in captured.events]

            await asyncio.gather(*map(body, range(3)))
            assert seen == {n: [n] * 100 for n in range(3)}
            assert len(telemetry.events) == 300
        """,
        plugins=[ASYNCIO],
    )
    result.assert_outcomes(passed=2)


def test_a_body_that_a_plugin_runs_in_threads_of_its_own_is_captured(suite):
    result = suite(
        """
        from otpylib_telemetry import execute

        def test_body(telemetry):
            execute("step")

        def test_other(telemetry):
            assert telemetry.events == []
        """,
        "-p",
        "in_threads",
        in_threads="""
        import threading

        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_pyfunc_call(pyfuncitem):
            telemetry = pyfuncitem.funcargs["telemetry"]
            threads = [threading.Thread(target=pyfuncitem.obj, args=(telemetry,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(telemetry.events) == (4 if pyfuncitem.name == "test_body" else 0)
            return True
        """,
    )
    result.assert_outcomes(passed=2)


def test_it_works_where_tests_are_spread_over_processes(suite):
    result = suite(
        """
        import pytest
        from otpylib_telemetry import execute

        @pytest.mark.parametrize("number", range(6))
        def test_each(telemetry, number):
            execute("step", {}, {"test": number})
            assert [event.metadata for event in telemetry.events] == [{"test": number}]

        def test_failing(telemetry):
            execute("shop.opened", {"count": 1})
            assert False
        """,
        "-n2",
        plugins=["xdist.plugin"],
    )
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["*Captured telemetry*", "shop.opened  measurements={'count': 1}"])


def test_a_failing_test_shows_what_it_emitted_and_where_the_assertion_stands(suite):
    result = suite(
        """
        from otpylib_telemetry import execute
        from otpylib_telemetry_mock import assert_emitted

        def test_failing(telemetry):
            for number in range(60):
                execute("shop.step", {"count": number})
            execute("shop.checkout", {}, {"order": 7})
            assert_emitted(telemetry, "shop.checkout", metadata={"order": 8})  # here

        def test_silent(telemetry):
            assert False
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            ">*assert_emitted(telemetry*# here",
            "E *AssertionError: expected at least 1 event named 'shop.checkout' * found none among 61 events",
            "E *metadata[[]'order'] is 7, expected 8",
            "*Captured telemetry*",
            "... 11 earlier events",
            "shop.step  measurements={'count': 11}",
            "shop.checkout  metadata={'order': 7}",
            "*Captured telemetry*",
            "nothing was emitted",
        ]
    )
    result.stdout.no_fnmatch_line("*raise AssertionError*")


def test_the_marker_sets_pattern_and_scope(suite):
    result = suite(
        """
        import threading

        import pytest
        from otpylib_telemetry import execute
        from otpylib_telemetry_mock import capture

        @pytest.mark.telemetry("shop.*", max_events=2)
        def test_pattern(telemetry):
            for name in ("shop.a", "db.b", "shop.c", "shop.d"):
                execute(name)
            assert [event.event_name for event in telemetry.events] == ["shop.c", "shop.d"]

        @pytest.mark.telemetry(scope="all")
        def test_scope(telemetry):
            assert telemetry.scope == "all"

        @pytest.mark.telemetry(scope="none")
        def test_mistake(telemetry):
            pass
        """
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*the marker of test_suite.py::test_mistake is not understood: the scope of a capture is 'own' or*"]
    )


def test_a_suite_that_does_not_use_it_is_left_alone(suite):
    result = suite(
        """
        import sys

        import pytest

        @pytest.fixture
        def telemetry():
            return "our own"

        def test_own_fixture(telemetry):
            assert telemetry == "our own"

        def test_failing():
            assert False

        def test_nothing_was_imported():
            imported = {name.split(".")[0] for name in sys.modules}
            assert not imported & {"otpylib", "otpylib_telemetry", "pydantic"}
        """,
        imported="plain pytest",
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.no_fnmatch_line("*Captured telemetry*")


def test_importing_the_plugin_imports_nothing_but_pytest():
    program = (
        "import sys, otpylib_telemetry_mock.pytest_plugin;"
        "print(sorted(n for n in sys.modules if n.startswith(('otpylib', 'pydantic', 'asyncio'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["['otpylib_telemetry_mock',", "'otpylib_telemetry_mock.pytest_plugin']"]


def test_the_fixture_explains_itself(suite):
    result = suite("def test_none(): pass", "--fixtures", "--markers")
    result.stdout.fnmatch_lines(["*@pytest.mark.telemetry(pattern=*"])
    result = suite("def test_none(): pass", "--fixtures")
    result.stdout.fnmatch_lines(["telemetry -- *pytest_plugin.py*", "*What this test emits*"])


def test_odd_names_in_failures_end_no_run_and_every_test_is_reported(suite):
    """A lone surrogate, as in the name of a file, cannot be sent from one process of xdist to another."""
    result = suite(
        """
        import asyncio
        import pytest
        from otpylib_telemetry import attach, emit, execute
        from otpylib_telemetry_mock import assert_emitted, assert_metric, assert_span, assert_spans_balanced
        from otpylib_telemetry_mock import refute_emitted, wait_for

        ODD = ["caf\\udce9", "\\ud83e", "a\\x00b", "a\\x1b[31mb", "a\\nb", "\\ufffe", "\\udc80" * 300]

        class Odd:
            def __repr__(self):
                return "odd \\udce9"
            __str__ = __repr__

        @pytest.mark.parametrize("number", range(len(ODD)))
        def test_name(telemetry, number):
            execute(ODD[number], {"count": Odd(), ODD[number]: 1}, {ODD[number]: ODD[number], "odd": Odd()})
            execute(ODD[number] + ".start", 7, 8)
            assert_emitted(telemetry, ODD[number] + "?", {ODD[number]: ODD[number]})

        @pytest.mark.parametrize("number", range(len(ODD)))
        def test_others(telemetry, number):
            name = ODD[number]
            execute(name)
            execute(name + ".start")
            for check in (
                lambda: refute_emitted(telemetry, "*"),
                lambda: assert_spans_balanced(telemetry),
                lambda: assert_emitted(telemetry, "x", {"a": Odd()}, {name: Odd()}, where=lambda e: Odd()),
                lambda: assert_span([], name),
                lambda: assert_metric('a{b="c"} 1', name),
                lambda: asyncio.run(wait_for(telemetry, name + "?", timeout=0)),
            ):
                with pytest.raises(AssertionError) as failure:
                    check()
                str(failure.value).encode()
            raise failure.value

        def test_handler(telemetry):
            def fail(*_):
                raise ValueError("caf\\udce9")
            asyncio.run(attach("caf\\udce9", "*", fail))
            execute("caf\\udce9")
            assert 0
        """,
        "-n",
        "2",
        plugins=["xdist"],
    )
    result.assert_outcomes(failed=15)
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_receiver_needs_no_setup(suite):
    result = suite(
        """
        import urllib.request
        from otpylib_telemetry_mock.otlp_receiver import HttpStatus

        def test_it(otlp_receiver):
            request = urllib.request.Request(f"{otlp_receiver.endpoint}/v1/traces", data=b"")
            assert urllib.request.urlopen(request).status == 200
            assert [each.signal for each in otlp_receiver.requests] == ["traces"]

        def test_each_has_its_own(otlp_receiver):
            assert otlp_receiver.requests == []
        """
    )
    result.assert_outcomes(passed=2)


#: Two tests that start the same exporter, and each would see what the other left.
SAME_EXPORTER = """
import asyncio
import unittest

import pytest
from otpylib.runtime import reset_runtime, set_runtime
from otpylib.runtime.backends.asyncio_backend import AsyncIOBackend

from otpylib_telemetry import execute, otp
from otpylib_telemetry_mock import assert_metric, forget_exporters
from otpylib_telemetry_mock.otlp_receiver import GrpcStatus, OtlpReceiver
from otpylib_telemetry_otel import start_otel_exporter


async def work(*script, left):
    backend = AsyncIOBackend()
    await backend.initialize()
    set_runtime(backend)
    with OtlpReceiver() as receiver:
        if script:
            receiver.always(*script)
        settings = {"endpoint": receiver.endpoint, "shutdown_timeout": 0.1}
        await start_otel_exporter(settings)
        execute("shop.sold", {"count": 1})
        execute("shop.opened")
        await otp.safe_call("otel_exporter", ("flush", 0.5 if left else 30))
        stats = await otp.safe_call("otel_exporter", ("get_stats",))
        assert bool(stats["queued"] + stats["in_flight"]) == left
        if not left:
            assert_metric(receiver, "shop.sold.total", 1)
            assert [record.event_name for record in receiver.logs] == ["shop.opened"]
        await backend.shutdown()
        reset_runtime()


def test_one(fresh_exporters):
    asyncio.run(work(left=False))


def test_other(fresh_exporters):
    asyncio.run(work(GrpcStatus("UNAVAILABLE"), left=True))


class TestShop(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.addCleanup(forget_exporters)

    async def test_one(self):
        await work(left=False)

    async def test_other(self):
        await work(GrpcStatus("UNAVAILABLE"), left=True)
"""


@pytest.mark.parametrize("order", [("test_one", "test_other"), ("test_other", "test_one")])
def test_tests_of_the_same_exporter_pass_in_any_order(suite, order):
    chosen = [f"test_suite.py::{where}{name}" for where in ("", "TestShop::") for name in order]
    suite(SAME_EXPORTER, "-W", "default", *chosen).assert_outcomes(passed=4)
