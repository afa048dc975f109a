"""The demonstration, run as users run it: a process, judged by its output and its exit status."""

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from rich.console import Console

from examples.shop.claims import Claims
from examples.shop.configuration import copy_to, edit
from examples.shop.load import CROWD, Answer, Load, summary
from examples.shop.pictures import sparkline, waterfall
from examples.shop.processor import Stopwatch, Waited
from examples.shop.receiver import Span
from examples.shop.scrape import quantile
from examples.shop.screen import Screen
from examples.shop.traces import Archive
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
PATIENCE = 240

CLAIMS = (
    "both exporters run, in the shop's tree",
    "each request is one whole trace",
    "failed requests are errors there, others not",
    "a saved edit is in force within 2 seconds",
    "at 0.2, that share of traces arrives",
    "and those arrive whole",
    "every trace with a failure arrives, whole",
    "the new port answers, the old one is closed",
    "every counter goes on where it was",
    "collector dead: the breaker opens",
    "collector dead: what is to be sent waits",
    "collector dead: as many answers as before",
    "collector dead: as fast as before (median)",
    "collector back: the breaker closes",
    "collector back: all that waited arrives",
    "every request was answered as it should be",
    "the metrics count what the customers count",
    "the collector has the very same metrics",
    "every span arrived once (sampling aside)",
    "the ledgers balanced at every look",
    "in the end nothing waits in a queue",
    "and nothing was dropped or rejected",
    "every event the shop emitted was accepted",
    "no error in the log",
)

#: Those about time, which a busy machine keeps from being judged.
TIMED = (
    "a saved edit is in force within 2 seconds",
    "collector dead: as many answers as before",
    "collector dead: as fast as before (median)",
)


#: For half as long, and with a fourth of the customers: what is claimed has to hold with any number.
LITTLE = ("--quick", "--rate", "40")

#: The demonstration as it runs where uvicorn has brought uvloop.
ON_UVLOOP = """
import asyncio, runpy, uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
runpy.run_module("examples.shop", run_name="__main__", alter_sys=True)
"""


class Demo:
    """The running demonstration, and what it has written so far."""

    def __init__(self, *arguments, columns=200, program=("-m", "examples.shop")):
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))
        }
        environment |= {"COLUMNS": str(columns), "PYTHONUTF8": "1"}
        self.lines = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line)
                self._more.notify_all()

    @property
    def output(self):
        with self._more:
            return "".join(self.lines)

    def wait_for(self, text):
        with self._more:
            shown = self._more.wait_for(lambda: any(text in line for line in self.lines), PATIENCE)
        assert shown, f"{text!r} never came:\n{self.output}"

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)

    def end(self):
        """Return the exit status; the output is complete then."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status


@pytest.fixture
def demo():
    running = []

    def start(*arguments, **options):
        running.append(Demo(*arguments, **options))
        return running[-1]

    yield start
    for each in running:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        each.end()
        each.process.stdout.close()


def claims(output):
    """What was claimed, and the mark it got; a wide screen has each on one line."""
    return {text: mark for mark, text in re.findall(r"^([✓✗?]) [ \d] (.*?)  +\S", output, re.MULTILINE)}


def undecided(output):
    """The claims that the machine was too busy for: claims about time, each with how busy it was."""
    found = {text: "?" for text, mark in claims(output).items() if mark == "?"}
    assert found.keys() <= set(TIMED)
    said = " ".join(output.split())
    for text in found:
        words = r" \([^()]+\): other programs kept the shop waiting for a processor, [\d.]+ of [\d.]+ s"
        assert re.search(re.escape(f"cannot be told: {text}") + words, said), output
    return found


@pytest.mark.slow
def test_everything_it_claims_holds(demo):
    running = demo(columns=120)

    status = running.end()
    busy = undecided(running.output)
    assert status == (3 if busy else 0), running.output
    assert claims(running.output) == dict.fromkeys(CLAIMS, "✓") | busy
    assert f"{len(CLAIMS) - len(busy)} of {len(CLAIMS)} held" in running.output
    assert (
        "too busy to tell (exit status 3). Everything else held." if busy else "Everything held."
    ) in running.lines[-1]
    assert "Traceback" not in running.output
    assert "\x1b" not in running.output, "a file is no place for colours and cursor movements"


@pytest.mark.slow
def test_a_claim_that_does_not_hold_is_named_and_is_the_exit_status(demo):
    running = demo(*LITTLE, "--collector-stays-dead")

    assert running.end() == 1, running.output
    busy = undecided(running.output)
    assert claims(running.output) == dict.fromkeys(CLAIMS, "✓") | busy | dict.fromkeys(
        (
            "collector back: the breaker closes",
            "collector back: all that waited arrives",
            "the collector has the very same metrics",
            "every span arrived once (sampling aside)",
            "in the end nothing waits in a queue",
        ),
        "✗",
    )
    assert "did not hold: collector back: the breaker closes (never)" in running.output
    assert "verything" not in running.lines[-1]
    assert "Traceback" not in running.output


@pytest.mark.slow
def test_ctrl_c_in_the_middle_closes_the_shop_without_a_traceback(demo):
    running = demo()
    running.wait_for("1 ·")

    running.interrupt()

    assert running.end() == 130, running.output
    assert running.lines[-1].endswith("interrupted: the shop is closed\n")
    assert "Traceback" not in running.output


@pytest.mark.slow
def test_sigterm_closes_the_shop_as_well(demo):
    running = demo()
    running.wait_for("1 ·")

    running.process.terminate()

    assert running.end() == 143, running.output
    assert "Traceback" not in running.output


@pytest.mark.slow
def test_it_stays_until_ctrl_c_if_asked_to_and_answers_where_it_says_and_all_of_it_holds_on_uvloop(demo):
    running = demo(*LITTLE, "--keep", columns=80, program=("-c", ON_UVLOOP))
    running.wait_for("(OTLP over gRPC)")
    running.wait_for("The shop stays open")
    running.wait_for("edit it, save it")
    addresses = dict(re.findall(r"^  (page|shop|metrics|configuration) +(\S+)", running.output, re.MULTILINE))

    with urllib.request.urlopen(addresses["page"], timeout=10) as page:
        assert b"<title>Telemetry" in page.read()
    with urllib.request.urlopen(f"{addresses['page']}status", timeout=10) as status:
        assert b"prometheus_exporter" in status.read()
    with urllib.request.urlopen(addresses["shop"], timeout=10) as items:
        assert b"kettle" in items.read()
    with urllib.request.urlopen(addresses["metrics"], timeout=10) as metrics:
        assert b"shop_http_request_duration_seconds_bucket" in metrics.read()
    edit(Path(addresses["configuration"]), "telemetry.prometheus", "port", "not a port")
    running.wait_for("telemetry.prometheus.port")
    running.interrupt()

    status = running.end()
    # So narrow a screen has a claim on several lines.
    marks = re.findall(r"^([✓✗?]) [ \d] ", running.output, re.MULTILINE)
    busy = marks.count("?")
    assert status == (3 if busy else 0), running.output
    assert sorted(marks) == ["?"] * busy + ["✓"] * (len(CLAIMS) - busy), running.output
    assert busy <= len(TIMED)
    assert f"{len(CLAIMS) - busy} of {len(CLAIMS)} held" in running.output
    assert "Traceback" not in running.output
    assert not Path(addresses["configuration"]).exists()
    # The addresses are for copying; everything else fits the width.
    copied = tuple(addresses.values())
    assert all(len(line.rstrip("\n")) <= 80 for line in running.lines if not any(a in line for a in copied))


def test_a_taken_port_is_said_in_one_line(demo):
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        server = loop.run_until_complete(asyncio.start_server(lambda *_: None, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        running = demo("--port", str(port))
        status = running.end()
        server.close()
        loop.run_until_complete(server.wait_closed())

    assert status == 2, running.output
    assert "The demonstration cannot run" in running.lines[-1]
    assert str(port) in running.lines[-1]
    assert "Traceback" not in running.output


# --- its verdict: only a claim about time has an excuse, and only on a busy machine -------------------------


def verdict(*claimed):
    """The exit status, and the last lines."""
    claims = Claims()
    for claim in claimed:
        claims.check(*claim)
    screen = Screen(Console(width=200, file=io.StringIO()))
    status = screen.verdict(claims, 30.0)
    return status, screen.console.file.getvalue().splitlines()


BUSY, IDLE = Waited(3.0, 7.0), Waited(0.1, 7.0)


def test_a_claim_about_time_fails_on_an_idle_machine_and_cannot_be_told_on_a_busy_one():
    assert verdict(("fast", False, "9 s", IDLE)) == (1, ["did not hold: fast (9 s)"])
    assert verdict(("fast", False, "9 s", BUSY), ("whole", True, "5 of 5")) == (
        3,
        [
            "cannot be told: fast (9 s): other programs kept the shop waiting for a processor, 3.0 of 7.0 s",
            "This machine is too busy to tell (exit status 3). Everything else held.",
        ],
    )


def test_a_claim_that_holds_on_a_busy_machine_holds():
    assert verdict(("fast", True, "1 s", BUSY)) == (0, ["Everything held. 30 s."])


def test_a_claim_about_anything_else_has_no_excuse():
    status, said = verdict(("whole", False, "4 of 5"), ("fast", False, "9 s", BUSY))

    assert status == 1
    assert said[0] == "did not hold: whole (4 of 5)"
    assert "else held" not in said[-1]


def test_sleeping_is_no_waiting_for_a_processor():
    stopwatch = Stopwatch()
    time.sleep(0.05)

    waited = stopwatch.read()

    assert waited.of >= 0.05
    assert 0 <= waited.seconds < waited.of


async def test_customers_do_not_drown_a_shop_that_hangs():
    hanging = asyncio.Event()

    async def hang(_reader, writer):
        await hanging.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    load = Load(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", rate=100_000)
    load.start()
    try:
        await eventually(lambda: load.sent == CROWD)
        assert load.answers == []
    finally:
        hanging.set()
        await load.stop()
        server.close()
        await server.wait_closed()
    assert len(load.answers) == load.sent
    assert not any(answer.fits for answer in load.answers)


# --- its pure parts: who draws the wrong conclusions from the right numbers demonstrates nothing ------------


def span(name, span_id, parent_id="", start=0, end=10, failed=False):
    return Span(name, "t1", span_id, parent_id, start, end, failed, "", {}, ())


def test_an_edit_changes_one_line_of_one_section(tmp_path):
    path = copy_to(tmp_path, {("telemetry.prometheus", "port"): 1234})
    before = path.read_text().splitlines()

    old, new = edit(path, "telemetry.otel", "sampling_rate", 0.25)

    after = path.read_text().splitlines()
    assert (old, new) == ("sampling_rate = 1.0", "sampling_rate = 0.25")
    assert [line for line in after if line not in before] == ["sampling_rate = 0.25"]
    assert "port = 1234" in after
    with pytest.raises(LookupError, match="no sampling_rate"):
        edit(path, "telemetry.prometheus", "sampling_rate", 0.25)


def test_a_quantile_lies_within_its_bucket_and_below_the_last_bound():
    buckets = [(0.1, 50.0), (0.2, 100.0), (float("inf"), 100.0)]

    assert quantile(0.5, buckets) == pytest.approx(0.1)
    assert quantile(0.75, buckets) == pytest.approx(0.15)
    assert quantile(0.5, [(0.1, 1.0), (float("inf"), 10.0)]) == 0.1


def test_a_span_that_arrives_twice_is_counted_and_a_missing_parent_is_noticed():
    archive = Archive()
    archive.add(
        [span("shop.http.request", "a"), span("shop.checkout", "b", "a"), span("shop.checkout", "b", "a")]
    )

    assert archive.duplicates == 1
    assert archive.traces["t1"].is_whole

    archive.add([span("shop.stock.level", "d", "c")])
    assert not archive.traces["t1"].is_whole


def test_a_waterfall_fits_the_width_and_shows_every_span():
    archive = Archive()
    archive.add(
        [
            span("shop.http.request", "a"),
            span("shop.checkout", "b", "a", 2, 8, failed=True),
            span("shop.x", "c", "b", 8, 30),
        ]
    )
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(waterfall(archive.traces["t1"], 60))
    lines = console.export_text().splitlines()

    assert all(len(line) == 60 for line in lines)
    assert [any(name in line for line in lines) for name in ("http.request", "└ checkout ✗", "└ x")] == [
        True
    ] * 3


def test_a_sparkline_keeps_the_peaks_when_there_is_little_room():
    assert sparkline([0, 0, 8, 0], 2) == "▁█"
    assert sparkline([1], 3) == "  █"


def test_a_summary_of_nothing_is_zero_and_one_of_something_is_in_milliseconds():
    answers = [Answer(float(n), n / 1000, "list", 200, "") for n in range(1, 101)]

    assert summary([], 1.0).count == 0
    assert summary(answers, 50.0).rate == 2.0
    assert summary(answers, 50.0).p95 == pytest.approx(96.0)
