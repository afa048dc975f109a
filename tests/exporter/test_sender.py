"""Batches, breaker and retries, on a clock and dice of the test's own."""

import asyncio

import pytest

from otpylib_telemetry import ExporterCircuitBreaker, ExportError, ExportOutcome
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.collected import Collected
from otpylib_telemetry.exporter.errors import DestinationError, TooLargeError
from otpylib_telemetry.exporter.lease import Lease
from otpylib_telemetry.exporter.retry import LONGEST_DELAY
from otpylib_telemetry.exporter.sender import PROBE_ITEMS, Sender
from otpylib_telemetry.exporter.state import ExporterState
from tests.support.chassis import balance


class Rig:
    """A sender with everything injected; ``script`` has what becomes of the next exports."""

    def __init__(self, **settings):
        self.now = 100.0
        self.dice = 1.0
        self.script = []
        self.sent = []
        self.landed = 0
        self.state = ExporterState("rig")
        self.state.breaker = ExporterCircuitBreaker(
            settings.get("failure_threshold", 5), settings.get("reset_timeout", 60.0), clock=lambda: self.now
        )
        self.state.settings = ExporterSettings(**settings)
        self.sender = Sender(
            Lease(self.state),
            self._batch_ended,
            clock=lambda: self.now,
            dice=lambda: self.dice,
        )
        self.sender.use(self)

    def _batch_ended(self):
        self.landed += 1

    async def export(self, batch):
        self.sent.append(list(batch))
        action = self.script.pop(0) if self.script else None
        if isinstance(action, BaseException):
            raise action
        if isinstance(action, asyncio.Future):
            return await action
        return action

    def put(self, *payloads, weight=1, lane=None):
        for payload in payloads:
            self.state.queue.offer("e", {}, {})
            del payload
        taken = self.state.queue.take(len(payloads))
        items = [(payload, weight) for payload in payloads]
        self.state.invented += len(payloads) * (weight - 1)
        lane_of = None if lane is None else lambda _: lane
        self.state.book(Collected(items=items), len(taken) * weight, 0, lane_of)
        self.check()

    def check(self):
        balance(self.state.books())

    async def send_due(self, **options):
        self.sender.send_due(**options)
        self.check()
        for _ in range(5):
            await asyncio.sleep(0)
        self.check()

    def advance(self, seconds):
        self.now += seconds


async def test_a_full_batch_is_sent_at_once_and_the_rest_waits_for_the_interval():
    rig = Rig(batch_size=3, flush_interval=5.0)
    rig.put(*"abcd")
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["a", "b", "c"]]
    assert rig.sender.next_at() == 105.0
    rig.advance(4.9)
    await rig.send_due()
    assert len(rig.sent) == 1
    rig.advance(0.1)
    await rig.send_due()
    assert rig.sent[1] == ["d"]
    assert rig.state.books()["exported"] == 4


async def test_one_batch_is_under_way_at_a_time():
    rig = Rig(batch_size=1)
    gate = asyncio.get_running_loop().create_future()
    rig.script = [gate]
    rig.put(*"ab")
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["a"]]
    assert rig.state.books()["in_flight"] == 1
    assert rig.sender.next_at() is None
    gate.set_result(None)
    await rig.send_due()
    await rig.send_due()
    assert rig.sent == [["a"], ["b"]]
    assert rig.landed == 2


async def test_force_sends_all_that_waits_in_as_many_batches_as_it_takes():
    rig = Rig(batch_size=2, flush_interval=1000.0)
    rig.put(*"abcde")
    await rig.send_due(force=True)
    for _ in range(3):
        await rig.send_due()
    assert rig.sent == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_failed_batch_keeps_its_place_and_is_retried_with_back_off():
    rig = Rig(batch_size=2, retry_attempts=3)
    rig.script = [OSError("refused"), OSError("refused"), OSError("refused")]
    rig.put(*"abcd")
    waits = []
    while len(rig.sent) < 4:
        await rig.send_due()
        if rig.state.books()["exported"] == 0:
            waits.append(rig.sender.next_at() - rig.now)
            rig.advance(waits[-1])
    assert rig.sent == [["a", "b"]] * 4
    assert waits == [0.5, 1.0, 2.0]
    assert rig.sender.failures == 3
    assert rig.state.books()["exported"] == 2


async def test_a_partial_batch_that_failed_waits_for_the_back_off_and_not_for_the_interval():
    rig = Rig(batch_size=100, flush_interval=60.0)
    rig.script = [OSError("refused")]
    rig.put("a")
    await rig.send_due(force=True)
    assert rig.sender.next_at() == rig.now + 0.5


async def test_the_back_off_is_jittered_down_to_nothing():
    rig = Rig(batch_size=1)
    rig.dice = 0.0
    rig.script = [OSError("refused")]
    rig.put("a")
    await rig.send_due()
    assert rig.sender.next_at() == rig.now


async def test_attempts_are_limited_per_round_and_then_rest_for_the_interval_and_nothing_is_dropped():
    rig = Rig(batch_size=1, retry_attempts=2, flush_interval=30.0, failure_threshold=100)
    rig.script = [OSError("refused")] * 9
    rig.put("a")
    waits = []
    for _ in range(9):
        await rig.send_due()
        waits.append(rig.sender.next_at() - rig.now)
        rig.advance(waits[-1])
    assert waits == [0.5, 1.0, 30.0] * 3
    await rig.send_due()
    assert rig.state.books()["exported"] == 1
    assert rig.state.books()["dropped"] == {}


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        (7.0, 7.5),
        (0, 0.5),
        (-1, 0.5),
        (float("nan"), 0.5),
        (float("inf"), 0.5),
        (1e12, LONGEST_DELAY + 0.5),
        (10**400, 0.5),
        ("soon", 0.5),
    ],
)
async def test_a_delay_the_server_asks_for_is_honoured_if_it_makes_sense(asked, waited):
    rig = Rig(batch_size=1)
    rig.script = [ExportError("busy", retry_after=asked)]
    rig.put("a")
    await rig.send_due()
    assert rig.sender.next_at() - rig.now == waited


async def test_a_permanent_error_counts_the_batch_as_rejected_and_goes_on_with_the_next():
    rig = Rig(batch_size=2)
    rig.script = [ExportError("malformed", retryable=False)]
    rig.put(*"abcd")
    await rig.send_due()
    assert rig.state.books()["rejected"] == 2
    rig.advance(1)
    await rig.send_due()
    assert rig.sent == [["a", "b"], ["c", "d"]]
    assert rig.state.books()["exported"] == 2


@pytest.mark.parametrize(("refused", "counted"), [(1, 1), (99, 3), (-4, 0), ("two", 0), (None, 0)])
async def test_a_partial_success_counts_what_was_refused_whatever_number_it_gives(refused, counted):
    rig = Rig(batch_size=3)
    rig.script = [ExportOutcome(rejected=refused, message="too old")]
    rig.put(*"abc")
    await rig.send_due()
    assert rig.state.books()["rejected"] == counted
    assert rig.state.books()["exported"] == 3 - counted


async def test_an_outcome_of_the_wrong_kind_is_a_success():
    rig = Rig(batch_size=1)
    rig.script = [True, "fine", object()]
    rig.put(*"abc")
    for _ in range(3):
        await rig.send_due()
    assert rig.state.books()["exported"] == 3
    assert rig.state.books()["in_flight"] == 0


async def test_weights_are_counted_in_events():
    rig = Rig(batch_size=1)
    rig.put("a", "b", weight=5)
    await rig.send_due()
    assert rig.state.books()["exported"] == 5
    assert rig.state.books()["queued"] == 5


async def test_the_breaker_opens_probes_and_closes_while_events_queue():
    rig = Rig(batch_size=1, failure_threshold=2, reset_timeout=60.0, retry_attempts=100)
    rig.script = [OSError("down")] * 3
    rig.put(*"abc")
    await rig.send_due()
    rig.advance(30)
    await rig.send_due()
    assert rig.state.breaker.state == "open"
    assert rig.sender.next_at() == rig.now + 60.0
    rig.advance(59)
    await rig.send_due()
    assert len(rig.sent) == 2
    rig.put(*"de")
    rig.advance(1)
    await rig.send_due()
    assert len(rig.sent) == 3
    assert rig.state.breaker.state == "open"
    rig.advance(60)
    await rig.send_due()
    assert rig.state.breaker.state == "closed"
    for _ in range(4):
        await rig.send_due()
    assert [batch[0] for batch in rig.sent] == ["a", "a", "a", "a", "b", "c", "d", "e"]
    assert rig.state.books()["exported"] == 5


async def test_a_cancelled_export_goes_back_and_is_neither_success_nor_failure():
    rig = Rig(batch_size=2, failure_threshold=1)
    rig.script = [asyncio.get_running_loop().create_future()]
    rig.put(*"ab")
    await rig.send_due()
    (under_way,) = rig.sender._in_flight
    under_way.cancel()
    await asyncio.wait({under_way})
    rig.check()
    assert rig.state.books()["queued"] == 2
    assert rig.sender.failures == 0
    assert rig.state.breaker.state == "closed"
    await rig.send_due()
    assert rig.sent == [["a", "b"], ["a", "b"]]


async def test_a_leaked_cancellation_is_a_failure_with_back_off_and_no_busy_loop():
    rig = Rig(batch_size=1)
    rig.script = [asyncio.CancelledError()]
    rig.put("a")
    await rig.send_due()
    assert rig.sender.failures == 1
    assert rig.state.books()["queued"] == 1
    assert rig.sender.next_at() == rig.now + 0.5


class Panic(BaseException):
    """What native libraries raise when they give up, outside the hierarchy of Exception."""


async def test_a_panic_is_a_failure_with_back_off_and_no_busy_loop(caplog):
    rig = Rig(batch_size=1)
    rig.script = [Panic("index out of bounds")]
    rig.put("a")
    await rig.send_due()
    assert rig.sender.failures == 1
    assert rig.state.books()["queued"] == 1
    assert rig.sender.next_at() == rig.now + 0.5
    assert rig.sender.reports.trouble == "Panic: index out of bounds"
    assert len(caplog.records) == 1


async def test_asyncio_run_does_not_cut_an_export_under_way():
    rig = Rig(batch_size=1)
    rig.script = [asyncio.get_running_loop().create_future()]
    rig.put("a")
    await rig.send_due()
    assert not [task for task in asyncio.all_tasks() if "export" in task.get_name()]
    await rig.sender.abandon(1.0)


async def test_another_exporter_sends_at_once_while_the_old_one_hangs():
    rig = Rig(batch_size=1)
    gate = asyncio.get_running_loop().create_future()
    rig.script = [gate]
    rig.put(*"ab")
    await rig.send_due()
    other = Rig()
    rig.sender.use(other)
    await rig.send_due()
    assert other.sent == [["b"]]
    waiting = asyncio.ensure_future(rig.sender.wait_for(rig))
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set_result(None)
    await waiting
    assert rig.state.books()["exported"] == 2


async def test_the_end_of_an_old_exporter_says_nothing_about_the_new_one():
    rig = Rig(batch_size=1, failure_threshold=1)
    gate = asyncio.get_running_loop().create_future()
    rig.script = [gate]
    rig.put("a")
    await rig.send_due()
    other = Rig()
    rig.sender.use(other)
    gate.set_exception(OSError("old endpoint"))
    await rig.send_due()
    await rig.send_due()
    assert rig.state.breaker.state == "closed"
    assert other.sent == [["a"]]
    assert rig.state.books()["exported"] == 1


async def test_the_breakers_record_survives_another_exporter():
    rig = Rig(batch_size=1, failure_threshold=1)
    rig.script = [OSError("down")]
    rig.put("a")
    await rig.send_due()
    rig.sender.use(None)
    rig.sender.use(rig)
    assert rig.state.breaker.state == "open"


async def test_a_probe_cut_by_a_crash_does_not_block_the_next_one():
    rig = Rig(batch_size=1, failure_threshold=1, reset_timeout=1.0)
    gate = asyncio.get_running_loop().create_future()
    rig.script = [OSError("down"), gate]
    rig.put("a")
    await rig.send_due()
    rig.advance(31)
    await rig.send_due()
    assert rig.state.breaker.state == "half_open"
    other = Rig()
    rig.put("b")
    rig.sender.use(other)
    await rig.send_due()
    assert other.sent == [["b"]]
    gate.set_result(None)
    await rig.send_due()


async def test_emptying_stops_when_the_backend_has_shown_that_it_is_down():
    rig = Rig(batch_size=1, retry_attempts=2, failure_threshold=50)
    rig.script = [OSError("down")] * 50
    rig.put(*"abc")
    await rig.sender.empty(1000.0, last_chance=True)
    assert len(rig.sent) == 3
    rig.check()


async def test_emptying_goes_on_past_batches_the_backend_refuses_for_good():
    rig = Rig(batch_size=1, retry_attempts=0, failure_threshold=50)
    rig.script = [ExportError("bad", retryable=False)] * 5
    rig.put(*"abcdefg")
    await rig.sender.empty(1000.0, last_chance=True)
    books = rig.state.books()
    assert (books["rejected"], books["exported"]) == (5, 2)


async def test_emptying_does_not_wait_for_a_breaker_that_rests_beyond_the_deadline():
    rig = Rig(batch_size=1, failure_threshold=1, reset_timeout=600.0)
    rig.script = [OSError("down")]
    rig.put(*"ab")
    await asyncio.wait_for(rig.sender.empty(30.0, last_chance=False), 60)
    assert len(rig.sent) == 1
    assert rig.state.left == 2


async def test_emptying_does_not_chase_items_that_come_later():
    rig = Rig(batch_size=1)

    class Endless:
        sent = 0

        async def export(self, batch):
            Endless.sent += 1
            rig.put("more")

    rig.put(*"ab")
    rig.sender.use(Endless())
    await asyncio.wait_for(rig.sender.empty(1000.0, last_chance=False), 60)
    assert Endless.sent == 2


async def test_trouble_and_remarks_are_scrubbed_before_they_are_said(caplog):
    rig = Rig(batch_size=1)
    rig.sender = Sender(
        Lease(rig.state),
        rig._batch_ended,
        clock=lambda: rig.now,
        scrub=lambda text: text.replace("sesame", "<redacted>"),
    )
    rig.sender.use(rig)
    rig.script = [OSError("no route to sesame")]
    rig.put("a")
    await rig.send_due()
    assert rig.sender.reports.trouble == "OSError: no route to <redacted>"
    rig.script = [ExportOutcome(message="sesame is deprecated")]
    rig.advance(60)
    await rig.send_due()
    assert "<redacted> is deprecated" in caplog.text
    assert "sesame" not in caplog.text


async def test_trouble_is_said_once_per_outage(caplog):
    rig = Rig(batch_size=1, failure_threshold=100)
    caplog.set_level("INFO", logger="otpylib_telemetry")
    rig.script = [OSError("no route"), OSError("no route"), ExportError("no luck")]
    rig.put("a")
    for _ in range(4):
        await rig.send_due()
        rig.advance(60)
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 3
    assert "OSError: no route" in texts[0]
    assert "still does not export, for another reason now: no luck. Nothing is lost" in texts[1]
    assert "exports again after 3 failed attempts" in texts[2]
    # Whoever has heard of the outage hears of its end.
    assert len({record.levelno for record in caplog.records}) == 1
    assert rig.sender.reports.trouble is None


@pytest.mark.parametrize("what", ["rejected", "unusable"])
async def test_what_came_after_a_report_is_told_apart_from_what_the_next_one_is_about(caplog, what):
    rig = Rig(batch_size=10)
    rig.script = [
        ExportOutcome(count, why) if what == "rejected" else ExportOutcome(unusable=count, why=why)
        for count, why in ((2, "X"), (3, "X"), (4, "Y"), (1, "Z"))
    ]
    for wait in (1, 100, 100, 100):
        rig.put(*"abcdefghij")
        await rig.send_due()
        rig.advance(wait)
    first, second, third = [record.getMessage() for record in caplog.records]
    assert " 2 " in first
    assert " 4 (and 3 before, not told yet) " in second
    assert "Y" in second
    assert " 1 " in third


async def test_a_refusal_that_no_batch_can_cause_waits_and_is_told_apart_until_something_arrives():
    rig = Rig(batch_size=2, failure_threshold=2, retry_attempts=1)
    rig.script = [DestinationError("HTTP 401; wrong key")] * 3 + [OSError("no route")]
    rig.put("a", "b")
    seen = []
    for _ in range(5):
        await rig.send_due()
        seen.append(rig.sender.reports.is_misdirected)
        rig.advance(100)
    assert seen == [True, True, True, False, False]
    assert rig.state.ledger.rejected == 0
    assert rig.sent[-1] == ["a", "b"]
    assert rig.state.left == 0


async def _all_arrives_after(rig, sizes):
    """The rest of 500 items goes side by side as soon as one small batch has arrived."""
    assert [len(batch) for batch in rig.sent] == sizes
    await rig.send_due()
    assert [len(batch) for batch in rig.sent[len(sizes) :]] == [100, 100, 100, 100]
    await rig.send_due(force=True)
    assert [item for batch in rig.sent[len(sizes) - 1 :] for item in batch] == list(map(str, range(500)))
    assert rig.state.ledger.rejected == 0
    assert rig.state.left == 0


async def test_nothing_is_held_up_at_the_start():
    rig = Rig(batch_size=100, concurrency=4)
    rig.put(*map(str, range(500)))
    await rig.send_due()
    assert [len(batch) for batch in rig.sent[:4]] == [100] * 4


async def test_a_backlog_waits_until_a_changed_destination_has_taken_one_small_batch():
    rig = Rig(batch_size=100, concurrency=4)
    rig.put(*map(str, range(500)))
    rig.sender.use(None)
    rig.sender.use(rig, in_doubt=True)
    await rig.send_due()
    await _all_arrives_after(rig, [PROBE_ITEMS])


async def test_a_backlog_waits_until_a_destination_that_refused_all_has_taken_one_small_batch():
    rig = Rig(batch_size=100, concurrency=4, failure_threshold=100)
    rig.script = [DestinationError("HTTP 404; wrong path")] * 5
    rig.put(*map(str, range(500)))
    await rig.send_due()
    # It refuses the small one as well.
    rig.advance(100)
    await rig.send_due()
    rig.advance(100)
    await rig.send_due()
    await _all_arrives_after(rig, [100, 100, 100, 100, PROBE_ITEMS, PROBE_ITEMS])


def in_doubt(items, **settings):
    """A rig whose changed destination has taken nothing yet, with so many items waiting."""
    rig = Rig(**{"batch_size": 100, "concurrency": 4, **settings})
    rig.put(*map(str, range(items)))
    rig.sender.use(None)
    rig.sender.use(rig, in_doubt=True)
    return rig


def refusing(rig, is_refused):
    """A backend that refuses batches for what is in them."""

    async def export(batch):
        rig.sent.append(list(batch))
        if is_refused(batch):
            raise ExportError("HTTP 400", retryable=False)

    rig.export = export


async def test_what_is_rejected_for_what_is_in_it_leaves_a_destination_in_doubt():
    rig = in_doubt(500)
    rig.script = [ExportError("HTTP 400", retryable=False)] * 2
    for _ in range(3):
        await rig.send_due()
        rig.advance(100)
    # It comes back, and others are to show whether anything is taken.
    assert [len(batch) for batch in rig.sent] == [PROBE_ITEMS, PROBE_ITEMS // 2, PROBE_ITEMS // 4]
    await rig.send_due(force=True)
    for _ in range(40):
        await rig.send_due()
    assert rig.state.ledger.rejected == 0
    assert rig.state.books()["exported"] == 500


@pytest.mark.parametrize("poison", [0, 1, 15, 31, 32, 99])
async def test_a_poison_item_in_doubt_is_rejected_by_itself_and_the_others_go(poison):
    rig = in_doubt(100, batch_size=32, concurrency=1)
    refusing(rig, lambda batch: str(poison) in batch)
    rounds = 0
    while rig.state.left and rounds < 200:
        await rig.send_due(force=True)
        rig.advance(100)
        rounds += 1
    # As soon as anything has arrived, a batch is rejected for what is in it as ever.
    assert rig.state.left == 0
    assert 1 <= rig.state.ledger.rejected <= 32
    assert rig.state.ledger.rejected == 1 or poison >= 1
    assert rig.state.books()["exported"] == 100 - rig.state.ledger.rejected


async def test_a_destination_in_doubt_that_refuses_all_gets_little_of_what_waits_and_not_for_ever():
    rig = in_doubt(100, retry_attempts=3)
    refusing(rig, lambda _: True)
    for _ in range(9):
        await rig.send_due(force=True)
        rig.advance(100)
    assert [len(batch) for batch in rig.sent] == [32, 16, 8, 4, 2, 1, 1, 1, 1]
    assert rig.state.ledger.rejected == 1
    for _ in range(8):
        await rig.send_due(force=True)
        rig.advance(100)
    assert rig.state.ledger.rejected == 3
    # A right one gets the rest.
    rig.sender.use(None)
    other = in_doubt(0)
    rig.export = other.export
    rig.sender.use(rig, in_doubt=True)
    for _ in range(20):
        await rig.send_due(force=True)
        rig.advance(100)
    assert sum(map(len, other.sent)) == 97
    assert rig.state.left == 0


async def test_one_item_that_is_refused_in_doubt_is_rejected_when_its_retries_are_used_up():
    rig = in_doubt(1, retry_attempts=2)
    refusing(rig, lambda _: True)
    for _ in range(5):
        await rig.send_due(force=True)
        rig.advance(100)
    assert len(rig.sent) == 3
    assert rig.state.ledger.rejected == 1
    assert rig.state.left == 0


@pytest.mark.parametrize("last_chance", [True, False])
async def test_an_end_in_doubt_does_not_stop_at_a_poison_item(last_chance):
    rig = in_doubt(100)
    rig.dice = 0.0
    refusing(rig, lambda batch: "0" in batch)
    await rig.sender.empty(60.0, last_chance=last_chance)
    assert rig.state.left == 0
    assert (rig.state.ledger.rejected, rig.state.books()["exported"]) == (1, 99)


async def test_an_end_in_doubt_is_an_end_where_all_is_refused():
    rig = in_doubt(100)
    refusing(rig, lambda _: True)
    await asyncio.wait_for(rig.sender.empty(60.0, last_chance=True), 30)
    assert len(rig.sent) < 20
    assert rig.state.left == 99


async def test_what_a_destination_in_doubt_refuses_is_told_once(caplog):
    rig = in_doubt(100)
    refusing(rig, lambda _: True)
    for _ in range(20):
        await rig.send_due(force=True)
        rig.advance(100)
    [told] = [record.getMessage() for record in caplog.records]
    assert told == (
        "rig cannot export: HTTP 400. Nothing has arrived there yet, so up to 100000 events wait; an item "
        "that it refuses again and again is counted as rejected. Further failures are only counted."
    )


async def test_after_an_outage_one_small_batch_goes_first():
    rig = Rig(batch_size=100, failure_threshold=1, retry_attempts=1, reset_timeout=10)
    rig.put("first")
    await rig.send_due(force=True)
    rig.script = [OSError("no route")]
    rig.put(*map(str, range(100)))
    await rig.send_due()
    rig.advance(100)
    await rig.send_due()
    assert [len(batch) for batch in rig.sent] == [1, 100, PROBE_ITEMS]


async def test_a_lane_whose_probes_fail_does_not_keep_the_others_from_theirs():
    rig = Rig(batch_size=1, failure_threshold=1, retry_attempts=1, reset_timeout=10)
    rig.script = [OSError("no route")] * 2
    rig.put("a", lane="spans")
    await rig.send_due()
    rig.put("b", lane="logs")
    rig.advance(100)
    await rig.send_due()
    assert rig.sent == [["a"], ["b"]]


def too_large_beyond(rig, items):
    """A backend that takes so many items at once and no more."""

    async def export(batch):
        rig.sent.append(list(batch))
        if len(batch) > items:
            raise TooLargeError("HTTP 413 Content Too Large")

    rig.export = export


async def test_a_batch_that_is_too_large_is_halved_until_it_goes_and_nothing_is_waited_for():
    rig = Rig(batch_size=8)
    too_large_beyond(rig, 3)
    rig.put(*"abcdefgh")
    for _ in range(8):
        await rig.send_due()
    assert ["".join(batch) for batch in rig.sent] == ["abcdefgh", "abcd", "ab", "cd", "ef", "gh"]
    assert rig.state.books()["exported"] == 8
    assert rig.state.breaker.failure_count == 0
    assert rig.now == 100.0


async def test_the_next_batch_is_tried_whole_again():
    rig = Rig(batch_size=4)
    rig.script = [TooLargeError("too large")]
    rig.put(*"abcdefgh")
    for _ in range(6):
        await rig.send_due()
    assert ["".join(batch) for batch in rig.sent] == ["abcd", "ab", "cd", "efgh"]


async def test_one_item_that_is_too_large_by_itself_is_rejected_for_that_reason_and_the_others_go():
    rig = Rig(batch_size=4)

    async def export(batch):
        rig.sent.append(list(batch))
        if "c" in batch:
            raise TooLargeError("too large")

    rig.export = export
    rig.put(*"abcdef", weight=2)
    for _ in range(12):
        await rig.send_due()
        rig.advance(5)
    assert ["".join(batch) for batch in rig.sent] == ["abcd", "ab", "cd", "c", "d", "ef"]
    assert rig.state.books()["rejected"] == 2
    assert rig.state.books()["exported"] == 10
    assert rig.state.ledger.rejected_for == {"too_large": 2}


async def test_a_batch_in_pieces_ends_with_the_backend_it_was_too_large_for():
    rig = Rig(batch_size=4)
    rig.script = [TooLargeError("too large")]
    rig.put(*"abcd")
    await rig.send_due()
    other = Rig()
    rig.sender.use(other)
    await rig.send_due()
    assert other.sent == [["a", "b", "c", "d"]]


async def test_a_piece_that_fails_for_another_reason_is_retried_as_it_is():
    rig = Rig(batch_size=4)
    rig.script = [TooLargeError("too large"), OSError("down")]
    rig.put(*"abcd")
    for _ in range(5):
        await rig.send_due()
        rig.advance(1)
    assert ["".join(batch) for batch in rig.sent] == ["abcd", "ab", "ab", "cd"]


async def test_emptying_goes_on_in_pieces():
    rig = Rig(batch_size=8, retry_attempts=0)
    too_large_beyond(rig, 1)
    rig.put(*"abcdefgh")
    await rig.sender.empty(30.0, last_chance=True)
    assert rig.state.books()["exported"] == 8


async def test_rejections_are_counted_by_reason():
    rig = Rig(batch_size=2)
    rig.script = [ExportError("malformed", retryable=False), ExportOutcome(1, "too old")]
    rig.put(*"abcd")
    await rig.send_due()
    rig.advance(1)
    await rig.send_due()
    assert rig.state.books()["rejected"] == 3
    assert rig.state.ledger.rejected_for == {"refused": 2, "partial_success": 1}


async def test_what_a_backend_says_about_batches_it_takes_is_passed_on_once_a_minute(caplog):
    rig = Rig(batch_size=1)
    rig.script = [ExportOutcome(1, "too old")] * 3 + [ExportOutcome(0, "use the other port")] * 2 + [None]
    rig.put(*"abcdef")
    for _ in range(6):
        await rig.send_due()
    texts = [record.getMessage() for record in caplog.records]
    assert len(texts) == 2
    assert "items of batches it takes; 1 are counted" in texts[0]
    assert texts[0].endswith(": too old")
    assert texts[1].endswith("takes everything, but says: use the other port")
    rig.advance(60)
    rig.script = [ExportOutcome(1)]
    rig.put("g")
    await rig.send_due()
    assert (
        "items of batches it takes; 1 (and 2 before, not told yet) are counted"
        in caplog.records[-1].getMessage()
    )
    assert caplog.records[-1].getMessage().endswith("it gave no reason")
