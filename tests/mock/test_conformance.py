"""The conformance suite passes an exporter that is in order, and catches each of those that are not."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from pathlib import Path

import pytest
from pydantic import Field

from otpylib_telemetry import Collected, Exporter, ExportError, ExporterSettings, execute, exporter_module
from otpylib_telemetry_mock.conformance import ExporterConformance

ARRIVED = []


class Settings(ExporterSettings):
    where: str = Field("here", description="Where to; nobody is at home at 'away'.")
    token: str = Field("", description="Secret.", json_schema_extra={"secret": True})


class Sound(Exporter[Settings]):
    """An exporter that is in order: it appends to a list, and holds a file open meanwhile."""

    settings_type = Settings
    file = None

    async def open(self):
        if self.settings.where == "away":
            raise OSError("nobody is at home")
        self.file = Path(os.devnull).open("rb")  # noqa: SIM115 - closed by close()

    async def export(self, batch):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ARRIVED.extend(event.name for event in batch)

    async def close(self):
        if self.file is not None:
            self.file.close()


SoundExporter = exporter_module(
    "SoundExporter", Sound, name="sound_exporter", section="telemetry.sound", module=__name__
)


class OfSound(ExporterConformance):
    exporter = SoundExporter

    @pytest.fixture(autouse=True)
    def _empty(self):
        ARRIVED.clear()

    def changed_settings(self, tmp_path):
        return {"where": "there"}

    def unreachable_settings(self, tmp_path):
        return {"where": "away"}

    def received(self):
        return ARRIVED.count("conformance.orders")


class TestSound(OfSound):
    pass


# --- exporters that are not in order -----------------------------------------------------------------------


class DoesNotOpen(Sound):
    async def open(self):
        raise OSError("no such host")


class LosesOne(Sound):
    def collect(self, events, wall_offset_ns):
        return super().collect(events[1:], wall_offset_ns)


class CountsTwice(Sound):
    def collect(self, events, wall_offset_ns):
        collected = super().collect(events, wall_offset_ns)
        collected.exported = len(events)
        return collected


class ChokesOnValues(Sound):
    def collect(self, events, wall_offset_ns):
        for event in events:
            float(event[1].get("value", 0))
        return super().collect(events, wall_offset_ns)


class NeverGivesUp(Sound):
    def collect(self, events, wall_offset_ns):
        self.kept = [*getattr(self, "kept", []), *events]
        return Collected()

    @property
    def held(self):
        return len(self.kept)


class SendsHalf(Sound):
    async def export(self, batch):
        await super().export(batch[::2])


class SendsTwice(Sound):
    async def export(self, batch):
        await super().export([*batch, batch[0]])


class OneOddItemFailsAll(Sound):
    async def export(self, batch):
        for event in batch:
            str(event.metadata)
        await super().export(batch)


class Blocks(Sound):
    async def export(self, batch):
        time.sleep(0.5)
        await super().export(batch)


class SwallowsCancellation(Sound):
    async def export(self, batch):
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            return
        await super().export(batch)


class TakesNoNotice(Sound):
    """Goes on for a while after it was cancelled."""

    async def export(self, batch):
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)


class StaysLocked(Sound):
    locked = False

    async def export(self, batch):
        while self.locked:
            await asyncio.sleep(0.01)
        self.locked = True
        await super().export(batch)
        self.locked = False


class FeedsItself(Sound):
    async def export(self, batch):
        await super().export(batch)
        execute("sound.flushed", {"count": 1})


class AnswersAnything(Sound):
    def answer(self, request):
        return "ok"


class StatsAreObjects(Sound):
    def stats(self):
        return {"file": self.file, 5: "five"}


class StatsRaise(Sound):
    def stats(self):
        raise RuntimeError("no statistics")


class LogsSecrets(Sound):
    async def open(self):
        logging.getLogger("sound").info("connecting with %s", self.settings.token)
        await super().open()


class TellsSecrets(Sound):
    async def open(self):
        execute("sound.connected", {}, {"token": self.settings.token})
        await super().open()


class BuffersForItself(Sound):
    """Calls events exported that are in a buffer of its own, which nobody else knows."""

    def __init__(self, settings, context):
        super().__init__(settings, context)
        self.buffer = []

    def collect(self, events, wall_offset_ns):
        self.buffer += events
        if len(self.buffer) >= 1000:
            self.send()
        return Collected(exported=len(events))

    def send(self):
        ARRIVED.extend(event[0] for event in self.buffer)
        self.buffer = []


class RefusesChanges(Sound):
    async def apply(self, settings, changed):
        if "where" in changed:
            raise OSError("not now")
        return True


class NeverArrives(Sound):
    async def export(self, batch):
        await asyncio.sleep(3600)


class RejectsWhenAway(Sound):
    async def open(self):
        """Find out when it is too late."""

    async def export(self, batch):
        raise ExportError("nobody is at home", retryable=False)


class LeavesFilesOpen(Sound):
    async def close(self):
        """Leave it open."""


#: What threads of broken exporters wait for: until the test that made them is over.
OVER = threading.Event()


class LeavesThreads(Sound):
    async def open(self):
        await super().open()
        threading.Thread(target=OVER.wait, daemon=True).start()


class LeavesTasks(Sound):
    async def open(self):
        await super().open()
        self.task = asyncio.create_task(asyncio.sleep(60))


class ClosesOnce(Sound):
    async def close(self):
        self.file.close()
        del self.file


SUITE = ExporterConformance
CASES = [
    (DoesNotOpen, SUITE.test_it_opens, r"is degraded \(.*no such host"),
    (LosesOne, SUITE.test_collecting_accounts_for_each_event_once, "of 50 events .* 49 are accounted for"),
    (LosesOne, SUITE.test_every_event_is_accounted_for_and_exported, "dropped: {'unaccounted'"),
    (CountsTwice, SUITE.test_collecting_accounts_for_each_event_once, "100 are accounted for"),
    (ChokesOnValues, SUITE.test_collecting_accounts_for_each_event_once, "float"),
    (ChokesOnValues, SUITE.test_odd_events_cost_only_themselves, "dropped beside odd ones: {'failed'"),
    (NeverGivesUp, SUITE.test_collecting_accounts_for_each_event_once, "still held"),
    (SendsHalf, SUITE.test_every_event_is_accounted_for_and_exported, "the backend has 150"),
    (SendsHalf, SUITE.test_draining_exports_what_is_held, "the backend has 50"),
    (SendsTwice, SUITE.test_every_event_is_accounted_for_and_exported, "sent twice"),
    (
        OneOddItemFailsAll,
        SUITE.test_odd_events_cost_only_themselves,
        "spoil its batch|not so within",
    ),
    (Blocks, SUITE.test_it_leaves_the_event_loop_free, "could run nothing else"),
    (SwallowsCancellation, SUITE.test_exporting_can_be_cancelled_at_any_moment, "as if its 20 events"),
    (TakesNoNotice, SUITE.test_exporting_can_be_cancelled_at_any_moment, "goes on"),
    (StaysLocked, SUITE.test_exporting_can_be_cancelled_at_any_moment, None),
    (FeedsItself, SUITE.test_it_does_not_feed_itself, "sound.flushed"),
    (AnswersAnything, SUITE.test_unknown_messages_are_counted_and_ignored, "answered with 'ok'"),
    (StatsAreObjects, SUITE.test_statistics_are_plain_data, "BufferedReader.*has the key 5"),
    (StatsRaise, SUITE.test_statistics_are_plain_data, "no statistics"),
    (LogsSecrets, SUITE.test_secrets_are_not_shown, "to be seen in logs"),
    (TellsSecrets, SUITE.test_secrets_are_not_shown, "to be seen in an event"),
    (BuffersForItself, SUITE.test_it_survives_a_crash_of_its_process, "the backend has"),
    (BuffersForItself, SUITE.test_it_can_be_disabled_and_enabled_again, "the backend has"),
    (RefusesChanges, SUITE.test_it_is_reconfigured_without_loss, "is degraded|came into force"),
    (NeverArrives, SUITE.test_draining_exports_what_is_held, "draining left 100"),
    (RejectsWhenAway, SUITE.test_a_backend_that_is_away_costs_no_events, "is running|given up"),
    (LeavesFilesOpen, SUITE.test_closing_releases_every_resource, "files and sockets before"),
    (LeavesThreads, SUITE.test_closing_releases_every_resource, "threads before"),
    (LeavesTasks, SUITE.test_closing_releases_every_resource, "tasks before"),
    (ClosesOnce, SUITE.test_closing_is_idempotent, "'close'"),
]


@pytest.mark.parametrize(
    ("broken", "test", "message"),
    CASES,
    ids=[f"{case[0].__name__}-{case[1].__name__[5:25]}" for case in CASES],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exporter_that_is_not_in_order_is_caught(broken, test, message, tmp_path):
    class Conformance(OfSound):
        exporter = exporter_module(
            "BrokenExporter", broken, name="broken_exporter", section="telemetry.broken", module=__name__
        )
        patience = 2.0
        deadline = 1.0
        longest_stall = 0.25

    ARRIVED.clear()
    OVER.clear()
    try:
        with pytest.raises(Exception, match=message) as caught:
            test(Conformance(), tmp_path)
    finally:
        OVER.set()
    assert not isinstance(caught.value, pytest.skip.Exception)


def test_an_exporter_must_be_named(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="set the attribute exporter"):
        ExporterConformance().test_it_opens(tmp_path)


def test_what_cannot_be_tested_is_left_out(tmp_path):
    class Conformance(ExporterConformance):
        exporter = SoundExporter

    with pytest.raises(pytest.skip.Exception, match="unreachable_settings"):
        Conformance().test_a_backend_that_is_away_costs_no_events(tmp_path)
