"""Instruments without an exporter: what prometheus_client's collector says of the workers, dead and alive."""

import os
import signal
import subprocess
import textwrap

import pytest
from opentelemetry.metrics import Observation

from otpylib_telemetry.exporter import registry as exporters
from otpylib_telemetry_prometheus import sharing, start_prometheus_exporter
from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
from otpylib_telemetry_prometheus.multiprocess.client_files import ClientFiles, is_client_file
from tests.support import programs
from tests.support.chassis import up
from tests.support.shared_metrics import page, their_page
from tests.support.waiting import eventually, wait_until

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs what forking servers need"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # 3.12 on: forking with threads is tested
]


def number(found, name, **labels):
    """One number of a page."""
    family = name.removesuffix("_total").removesuffix("_count")
    _, _, samples = found.get(family, ("", "", {}))
    return samples.get((name, tuple(sorted({"otel_scope_name": "shop", **labels}.items()))))


class Workers:
    """Children that measure and then do what they are told."""

    def __init__(self, directory, program):
        self.directory = directory
        self._program = textwrap.dedent(
            """
            import json, os, signal, sys, time
            from opentelemetry import metrics
            from otpylib_telemetry_prometheus.meter_provider import PrometheusMeterProvider
            metrics.set_meter_provider(PrometheusMeterProvider())
            meter = metrics.get_meter("shop")
            sales = meter.create_counter("sales")
            """
        ) + textwrap.dedent(program)

    def start(self, *arguments):
        return programs.start(
            ["-c", self._program, *arguments],
            options=("-W", "ignore"),
            cwd=self.directory,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self.directory)},
            stdin=subprocess.PIPE,
        )

    def run(self, *arguments):
        said, _ = (child := self.start(*arguments)).communicate(timeout=120)
        assert child.returncode == 0
        return said


@pytest.mark.process
def test_workers_that_end_at_once_are_counted_and_leave_no_more_files_than_there_were_workers(tmp_path):
    workers = Workers(
        tmp_path,
        """
        sales.add(int(sys.argv[1]), {"item": "tea"})
        meter.create_histogram("took", explicit_bucket_boundaries_advisory=[1, 2]).record(1.5)
        meter.create_up_down_counter("open").add(1)
        meter.create_gauge("depth").set(int(sys.argv[1]))
        """,
    )
    for amount in range(1, 4):
        workers.run(amount)
    found = their_page(tmp_path)
    assert number(found, "sales_total", item="tea") == 6
    assert number(found, "took_count") == 3
    assert number(found, "depth") == 3
    assert number(found, "open") is None
    assert len([*tmp_path.glob("*.db")]) == 3
    # Our own registry has the same, and has nothing twice.
    assert number(page(tmp_path), "sales_total", item="tea") == 6


@pytest.mark.parametrize("how", ["return", "sys.exit", "fork", "multiprocessing", "thread"])
@pytest.mark.process
def test_an_orderly_end_loses_nothing(how, tmp_path):
    workers = Workers(
        tmp_path,
        """
        import multiprocessing, threading
        def sell():
            for _ in range(1000):
                sales.add(1)
        how = sys.argv[1]
        sales.add(1)
        if how == "fork":
            if os.fork() == 0:
                sell()
                sys.exit(3)
            os.wait()
        elif how == "multiprocessing":
            child = multiprocessing.get_context("fork").Process(target=sell)
            child.start()
            child.join()
        elif how == "thread":
            threading.Thread(target=sell).start()
        else:
            sell()
            if how == "sys.exit":
                sys.exit(0)
        """,
    )
    workers.run(how)
    assert number(their_page(tmp_path), "sales_total") == 1001


@pytest.mark.process
def test_a_killed_worker_loses_at_most_the_last_moment_and_its_open_gauges(tmp_path):
    workers = Workers(
        tmp_path,
        """
        sales.add(5)
        meter.create_up_down_counter("open").add(1)
        print("sold", flush=True)
        sys.stdin.readline()
        """,
    )
    first, second = workers.start(), workers.start()
    for child in (first, second):
        child.stdout.readline()
    wait_until(lambda: number(their_page(tmp_path), "open") == 2, 60, "both")
    assert number(their_page(tmp_path), "sales_total") == 10
    first.send_signal(signal.SIGKILL)
    first.communicate()
    # Those that live on clear up after it.
    wait_until(lambda: number(their_page(tmp_path), "open") == 1, 60, "the second")
    second.communicate("end\n", timeout=60)
    found = their_page(tmp_path)
    assert (number(found, "sales_total"), number(found, "open")) == (10, None)


def test_what_prometheus_client_has_in_the_same_directory_is_left_alone(tmp_path):
    workers = Workers(
        tmp_path,
        """
        from prometheus_client import Counter, Gauge
        Counter("theirs", "Theirs.").inc(2)
        Gauge("their_depth", "Theirs.", multiprocess_mode="livesum").set(7)
        sales.add(3)
        """,
    )
    for _ in range(2):
        workers.run()
    for found in (their_page(tmp_path), page(tmp_path)):
        assert number(found, "sales_total") == 6
        assert found["theirs"][2] == {("theirs_total", ()): 4}
        assert found["their_depth"][2] == {("their_depth", ()): 14}


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A directory to share in this very process."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    exporters.forget("prometheus_exporter")
    yield tmp_path
    sharing._end_all()
    exporters.forget("prometheus_exporter")


def test_observable_instruments_are_observed_without_anybody_asking(alone):
    provider = PrometheusMeterProvider()
    meter = provider.get_meter("shop")
    meter.create_observable_gauge("stock", [lambda _: [Observation(40, {"item": "tea"})]])
    meter.create_counter("sales").add(1)
    wait_until(lambda: number(their_page(alone), "stock", item="tea") == 40, 60, "a reading")
    provider.shutdown()


def test_files_that_somebody_removes_or_cuts_are_written_again(alone):
    provider = PrometheusMeterProvider()
    sales = provider.get_meter("shop").create_counter("sales")
    sales.add(2)
    wait_until(lambda: number(their_page(alone), "sales_total") == 2, 60, "the first")
    (path,) = alone.glob("counter_*.db")
    path.unlink()
    wait_until(lambda: number(their_page(alone), "sales_total") == 2, 60, "the second")
    os.truncate(path, 64)
    sales.add(1)
    wait_until(
        lambda: path.stat().st_size > 64 and number(their_page(alone), "sales_total") == 3, 60, "the third"
    )
    provider.shutdown()


def test_sums_of_a_predecessor_survive_the_removal_of_their_file(tmp_path):
    first = ClientFiles(tmp_path)
    first.write("counter", '["a", "a_total", {}, ""]', 5)
    first.flush()
    first.close()
    second = ClientFiles(tmp_path)
    second.write("counter", '["b", "b_total", {}, ""]', 1)
    second.flush()
    (path,) = tmp_path.glob("*.db")
    path.unlink()
    assert not second.present()
    second.write("counter", '["b", "b_total", {}, ""]', 1)
    second.flush()
    assert {name: samples for name, (_, _, samples) in their_page(tmp_path).items()} == {
        "a": {("a_total", ()): 5},
        "b": {("b_total", ()): 1},
    }
    second.close()


@pytest.mark.parametrize("content", [b"", b"abc", b"x" * 99, bytes(64)])
def test_a_damaged_file_of_a_predecessor_costs_itself_alone(content, tmp_path, caplog):
    (tmp_path / "counter_otpylib-0.db").write_bytes(content)
    files = ClientFiles(tmp_path)
    files.write("counter", '["b", "b_total", {}, ""]', 1)
    files.flush()
    assert their_page(tmp_path)["b"][2] == {("b_total", ()): 1}
    files.close()


def test_a_gauge_for_each_worker_has_its_process_id(tmp_path):
    files = [ClientFiles(tmp_path) for _ in range(2)]
    for value, each in enumerate(files):
        each.write("gauge_all", '["g", "g", {}, ""]', value)
        each.write("gauge_liveall", '["l", "l", {}, ""]', value)
        each.flush()
    assert all(map(is_client_file, tmp_path.glob("*.db")))
    assert [*their_page(tmp_path)["g"][2]] == [("g", (("pid", str(os.getpid())),))]
    for each in files:
        each.close()
    third = ClientFiles(tmp_path)
    third.bury()
    found = their_page(tmp_path)
    assert "g" in found
    assert "l" not in found
    third.close()


async def test_an_exporter_takes_over_and_gives_back_and_nothing_counts_twice(runtime, alone):
    provider = PrometheusMeterProvider()
    sales = provider.get_meter("shop").create_counter("sales")

    def counted():
        pages = page(alone), their_page(alone)
        return {number(found, "sales_total") for found in pages}

    sales.add(1)
    await eventually(lambda: counted() == {1}, timeout=60)
    await start_prometheus_exporter({"port": 0, "multiprocess_dir": str(alone), "self_metrics": False})
    await up("prometheus_exporter")
    sales.add(1)
    await eventually(lambda: counted() == {2}, timeout=60)
    await exporters.stop_all_for_good()
    sales.add(1)
    await eventually(lambda: counted() == {3}, timeout=60)
    provider.shutdown()
