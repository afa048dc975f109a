"""Ending takes no longer than ``shutdown_timeout`` over real OTLP, and errors arrive before all else.

The time-out is a hard deadline whatever the network does, so here, as an exception, time is asserted. Without
the deadline every end would take ten minutes, the time-out of a request. So the margin can be as wide as a
busy machine needs.
"""

import re
import signal
import threading
import time

import pytest
from otpylib import process
from otpylib.runtime.atoms import SHUTDOWN as SHUT_DOWN

from otpylib_telemetry import otp
from otpylib_telemetry.exporter import registry
from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver, Hang, HttpReceiver, Slow
from otpylib_telemetry_otel import child_spec, start_otel_exporter
from tests.supervision.test_supervision import tree
from tests.support import programs
from tests.support.chassis import runner, up
from tests.support.ledger import stats_of
from tests.support.otlp_ending_app import BATCH, FAILING, SPANS, emit, settings
from tests.support.runtime import in_process
from tests.support.waiting import eventually, wait_until

#: The time-out of the applications that can send nothing.
SHUTDOWN = 0.8

RECEIVERS = {"grpc": GrpcReceiver, "http/protobuf": HttpReceiver}
SITUATIONS = ["refuses", "accepts", "never answers", "hangs in the middle"]

#: Seconds beyond the deadline.
MARGIN = 60.0
#: Seconds after which an application is taken to hang.
PATIENCE = 200
#: The time-out where nothing is waited for but that.
BRIEFLY = 0.4
#: The time-out where some batches are to be sent before.
A_WHILE = 4.0
#: How long the receiver takes for a batch: too long for all of them, and short enough for some.
SLOWLY = 0.4
EVENTS = 2 * SPANS
FAILED = set(range(FAILING - 1, SPANS, FAILING))


def misbehave(receiver, situation):
    """Have a receiver do what a situation is named after."""
    match situation:
        case "refuses":
            receiver.stop()
        case "accepts":
            receiver.stall()
        case "never answers":
            receiver.default = Hang()
        case _:
            # So many bytes a second: it will not have read a request for minutes.
            receiver.throttle(500)


@pytest.fixture(params=RECEIVERS)
def receiver(request):
    with RECEIVERS[request.param]() as running:
        yield running


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_drain_ends_in_time(runtime, receiver, situation):
    misbehave(receiver, situation)
    await start_otel_exporter(settings(receiver.endpoint, receiver.protocol))
    await up("otel_exporter")
    emit()
    began = time.monotonic()
    report = await otp.safe_call("otel_exporter", ("drain", BRIEFLY), timeout=PATIENCE)
    assert time.monotonic() - began < BRIEFLY + MARGIN
    assert (report["exported"], report["left"]) == (0, EVENTS)
    assert report["reason"]
    stats = await stats_of("otel_exporter")
    assert (stats["queued"] + stats["in_flight"], stats["exported"]) == (EVENTS, 0)


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_a_supervisor_that_shuts_down_is_done_in_time(runtime, receiver, situation, caplog):
    misbehave(receiver, situation)
    briefly = settings(receiver.endpoint, receiver.protocol, shutdown_timeout=BRIEFLY)
    pid = await in_process(tree(child_spec(briefly)).start_link, None, "application")
    await up("otel_exporter")
    emit()
    began = time.monotonic()
    await process.send(pid, SHUT_DOWN)
    await eventually(lambda: not process.is_alive(pid) and runner("otel_exporter") is None, PATIENCE)
    assert time.monotonic() - began < BRIEFLY + MARGIN
    assert caplog.text.count(f"{EVENTS} events left") == 1
    books = registry.find("otel_exporter").books()
    assert (books["queued"] + books["in_flight"], books["exported"]) == (EVENTS, 0)


class Application:
    """A run of tests/support/otlp_ending_app.py."""

    def __init__(self, end, receiver, seconds):
        self.end = end
        command = ["-m", "tests.support.otlp_ending_app"]
        self.process = programs.start([*command, end, receiver.endpoint, receiver.protocol, seconds])
        self.seconds = 0.0
        self.said = ""

    def finish(self):
        try:
            self.process.stdout.readline()
            began = time.monotonic()
            if self.end == "sigterm":
                self.process.send_signal(signal.SIGTERM)
            _, self.said = self.process.communicate(timeout=PATIENCE)
            self.seconds = time.monotonic() - began
        finally:
            self.process.kill()

    @property
    def left(self):
        """How many events it says are left."""
        (number,) = re.findall(r"(\d+) events left", self.said)
        return int(number)


@pytest.mark.parametrize(("end", "status"), [("return", 0), ("sigterm", -signal.SIGTERM)])
def test_an_application_that_ends_has_ended_in_time(end, status):
    receivers = {
        (situation, protocol): RECEIVERS[protocol]()
        for situation, protocol in zip(SITUATIONS, [*RECEIVERS, *RECEIVERS], strict=True)
    }
    try:
        for (situation, _), receiver in receivers.items():
            misbehave(receiver, situation)
        running = {key: Application(end, receiver, SHUTDOWN) for key, receiver in receivers.items()}
        threads = [threading.Thread(target=found.finish) for found in running.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for receiver in receivers.values():
            receiver.close()
    for key, found in running.items():
        assert found.process.returncode == status, (key, found.said)
        assert found.seconds < SHUTDOWN + MARGIN, (key, found.said)
        assert found.left == EVENTS, (key, found.said)


# --- errors first -------------------------------------------------------------------------------------------


def arrived_of(receiver):
    """The numbers of the spans that were taken; each once."""
    numbers = [each.attributes["number"] for each in receiver.spans]
    assert len(numbers) == len(set(numbers))
    return set(numbers)


def check_errors_first(receiver, left):
    """Some batches were taken, all errors among them, and the rest is what is said to be left."""
    arrived = arrived_of(receiver)
    assert arrived > FAILED
    assert BATCH <= len(arrived) < SPANS
    # Of a batch that was taken when time was up, the answer may not have been heard.
    assert left - 2 * (SPANS - len(arrived)) in {0, 2 * BATCH}


async def test_all_errors_arrive_where_a_drain_has_time_for_some_batches_only(runtime, receiver):
    receiver.default = Slow(SLOWLY)
    await start_otel_exporter(settings(receiver.endpoint, receiver.protocol))
    await up("otel_exporter")
    emit()
    report = await otp.safe_call("otel_exporter", ("drain", A_WHILE), timeout=PATIENCE)
    await eventually(lambda: not receiver.open_connections)
    check_errors_first(receiver, report["left"])
    assert report["exported"] == EVENTS - report["left"]


@pytest.mark.parametrize("end", ["return", "sigterm"])
def test_all_errors_arrive_where_an_application_ends_with_time_for_some_batches_only(end):
    with GrpcReceiver() as receiver:
        receiver.default = Slow(SLOWLY)
        found = Application(end, receiver, A_WHILE)
        found.finish()
        wait_until(lambda: not receiver.open_connections)
        check_errors_first(receiver, found.left)
