"""What belongs to an exporter's name, and not to one life of its process.

A process crashes, is killed, is replaced under the same name. Its queue, its books, the items it had ready,
its breaker, what it remembers and the changes made to its configuration stay here for the next one.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus import table
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.exporter.base import DEFAULT_LANE
from otpylib_telemetry.exporter.breaker import ExporterCircuitBreaker
from otpylib_telemetry.exporter.lanes import Batch, Item, Lane, LaneBooks
from otpylib_telemetry.exporter.ledger import Ledger
from otpylib_telemetry.exporter.queue import EventQueue
from otpylib_telemetry.primitives.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.exporter.collected import Collected


_log = logging.getLogger("otpylib_telemetry")

#: Events a queue takes before the exporter's configuration has said how many.
FIRST_CAPACITY = 100_000


#: The part of the queue's limit that an exporter may take up by what it holds back, such as open spans. The
#: rest is for what is finished and for what comes in, however much it holds.
HELD_SHARE = 0.5


class ExporterState:
    """Everything an exporter's process borrows while it lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Tells whoever bears the name that it does so no more; None while nobody does.
        self.void_lease: Callable[[], None] | None = None
        self.queue = EventQueue(FIRST_CAPACITY)
        self.queue_limit = FIRST_CAPACITY
        self.ledger = Ledger()
        self.breaker = ExporterCircuitBreaker(name=name)
        self.memory: dict[str, Any] = {}
        self.configuration: LiveConfig[Any] | None = None
        #: Whether a configuration was ever brought into force; until then, what is accepted is provisional.
        self.configured = False
        #: The settings in force, as far as they are the chassis' own.
        self.settings = ExporterSettings.model_validate({})
        #: The settings the exporter itself was made or changed with last. The breaker's record is about the
        #: backend they name.
        self.applied: ExporterSettings | None = None
        #: Whether one was open with settings that are to be in force: a crash does not change that.
        self.was_open = False
        #: The settings with which one was open last, or that have proved themselves since.
        self.proved: ExporterSettings | None = None
        #: Whether there was nothing to be open, as far as it was known: it was off, or idle.
        self.rested = False
        #: How many processes have borne the name.
        self.lives = 0
        self.unknown_messages = 0
        self.lanes: dict[str, Lane] = {}
        self.lane_books: defaultdict[str, LaneBooks] = defaultdict(LaneBooks)
        self.waiting_events = 0
        self.held_events = 0
        self.in_flight_events = 0
        #: The weight of all items an exporter ever made of no event; of those that wait or are under way; and
        #: the lanes they have to themselves.
        self.produced_weight = 0
        self.produced_held = 0
        self._produced_lanes: set[str] = set()
        #: Events an exporter accounted for without having been given them: a defect, but the books stay true.
        self.invented = 0
        self.left_reported = 0
        #: The trouble that was said last and is not over: state and reason.
        self.last_announced: tuple[str, str] | None = None
        #: Where it was last said to serve or send; None before it works and after it was drained.
        self.place: str | None = None
        self._said = Once()

    def subscribe(self, patterns: tuple[str, ...], *, traces: bool = True) -> None:
        """Have the queue take the events that any of the patterns matches.

        ``traces`` says whether what it gets is told of in traces.
        """
        self.queue.read_log(patterns)
        table.add(self.name, patterns, self.queue.offer, reads_log=True, traces=traces)

    def unsubscribe(self) -> None:
        """Have the queue take no more events; what is queued stays."""
        table.remove(self.name)
        self.queue.leave_log()

    def book(
        self,
        collected: Collected,
        events: int,
        held: int,
        lane_of: Callable[[Any], str] | None = None,
    ) -> None:
        """Enter what became of so many events taken from the queue, and how many are held now.

        ``lane_of`` gives the lane of an item; without it all are of one.
        """
        held = max(0, held)
        unaccounted = events + self.held_events - held - collected.events()
        self.held_events = held
        self.ledger.book(collected)
        self._sort_in(collected.items, lane_of)
        if collected.produced_items:
            self._produced_lanes.update(self._sort_in(collected.produced_items, lane_of))
            weight = weight_of(collected.produced_items)
            self.produced_weight += weight
            self.produced_held += weight
        if unaccounted:
            self._book_miscount(unaccounted)
        self.make_room()

    def _book_miscount(self, unaccounted: int) -> None:
        if unaccounted > 0:
            self.ledger.drop(unaccounted, "unaccounted")
        else:
            self.invented -= unaccounted
        if self._said.is_news("miscount"):
            _log.warning(
                "%s loses count: of the events it was given it accounted for %d %s. The difference is booked "
                "as %s.",
                self.name,
                abs(unaccounted),
                "too few" if unaccounted > 0 else "too many",
                "dropped (unaccounted)" if unaccounted > 0 else "accepted",
            )

    def _sort_in(self, items: list[Item], lane_of: Callable[[Any], str] | None) -> Iterable[str]:
        by_lane = {DEFAULT_LANE: items} if lane_of is None else _by_lane(items, lane_of)
        for name, some in by_lane.items():
            self._put(name, some)
        self.waiting_events += weight_of(items)
        return by_lane

    def _put(self, name: str, items: list[Item]) -> None:
        if items:
            lane = self.lanes.get(name)
            if lane is None:
                lane = self.lanes[name] = Lane(name)
            lane.extend(items)

    def load(self, limit: int, lane: str = DEFAULT_LANE) -> Batch:
        """Take the oldest items of a lane for one export."""
        found = self.lanes.get(lane)
        batch = Batch((), lane) if found is None else found.take(limit)
        weight = weight_of(batch)
        self.waiting_events -= weight
        self.in_flight_events += weight
        self.lane_books[lane].in_flight += len(batch)
        return batch

    def put_back(self, batch: Batch) -> None:
        """Take back a batch that was not delivered: it goes to its place, before all that came after it."""
        weight = weight_of(batch)
        self.lanes.setdefault(batch.lane, Lane(batch.lane)).give_back(batch)
        self.waiting_events += weight
        self.in_flight_events -= weight
        self.lane_books[batch.lane].in_flight -= len(batch)

    def put_first(self, chosen: Callable[[Any], bool]) -> None:
        """Move the chosen payloads to the front of their lanes: time is short."""
        for lane in self.lanes.values():
            lane.put_first(lambda payload: _is(chosen, payload))

    def delivered(
        self, batch: Batch, refused: int = 0, reason: str = "partial_success", unusable: int = 0
    ) -> None:
        """Enter a batch the backend took, save so many of its items; which ones it does not say.

        So many others were ``unusable``, and not sent at all.
        """
        refused, unusable = max(0, refused), max(0, unusable)
        self.lane_books[batch.lane].done(len(batch), {reason: refused, "unusable": unusable})
        rejected = weight_of(batch[:refused])
        left_out = weight_of(batch[refused : refused + unusable])
        weight = weight_of(batch)
        self.in_flight_events -= weight
        if batch.lane in self._produced_lanes:
            self.produced_held -= weight
        self.ledger.reject(rejected, reason)
        self.ledger.reject(left_out, "unusable")
        self.ledger.exported += weight - rejected - left_out
        self.make_room()

    def make_room(self) -> None:
        """Let the queue take what the limit leaves after all that is held behind it, half of it at most.

        Items made of no event are no part of that: whoever makes them sees to it that they do not pile up.
        """
        held = min(self.held_events, int(self.queue_limit * HELD_SHARE))
        taken = held + self.waiting_events + self.in_flight_events - self.produced_held
        self.queue.capacity = max(0, self.queue_limit - taken)

    def limit(self, queue_limit: int) -> None:
        """Take another limit into use; what is held beyond a lower one is kept."""
        self.queue_limit = queue_limit
        self.make_room()

    @property
    def left(self) -> int:
        """Accepted events that are neither exported nor accounted for otherwise."""
        return len(self.queue) + self.held_events + self.waiting_events + self.in_flight_events

    def books(self) -> dict[str, Any]:
        """Return the ledger, true at this moment, whatever other threads offer meanwhile."""
        books = self.ledger.as_dict()
        queued, overflowed = len(self.queue), self.queue.overflowed
        if overflowed:
            books["dropped"]["queue_full"] = overflowed
        return {
            "accepted": self.queue.taken + queued + overflowed + self.produced_weight + self.invented,
            **books,
            "queued": queued + self.held_events + self.waiting_events,
            "in_flight": self.in_flight_events,
        }

    def summary(self) -> dict[str, int]:
        """Return the books in three numbers: events worked on, not exported, exported."""
        books = self.books()
        return {
            "events_processed": books["accepted"] - books["queued"] - books["in_flight"],
            "events_failed": books["rejected"] + sum(books["dropped"].values()),
            "events_exported": books["exported"],
        }

    def disown(self) -> None:
        """Be of no use to anybody any more: this is a forked child, and all of it is its parent's."""
        self.lanes.clear()
        self.lane_books.clear()
        self.waiting_events = self.held_events = self.in_flight_events = self.invented = 0
        self.produced_weight = self.produced_held = 0
        self.queue.leave_log()
        self.queue = EventQueue(0)
        self.ledger = Ledger()


def weight_of(batch: Iterable[Item]) -> int:
    """Return how many events the items are made of."""
    return sum(weight for _, weight in batch)


def _by_lane(items: list[Item], lane_of: Callable[[Any], str]) -> dict[str, list[Item]]:
    lanes: dict[str, list[Item]] = {}
    for item in items:
        try:
            name = lane_of(item[0])
        except Exception:  # noqa: BLE001  # an exporter's defect must not cost its items
            name = DEFAULT_LANE
        lanes.setdefault(name if type(name) is str else DEFAULT_LANE, []).append(item)
    return lanes


def _is(chosen: Callable[[Any], bool], payload: Any) -> bool:
    try:
        return bool(chosen(payload))
    except Exception:  # noqa: BLE001  # an exporter's defect must not cost its items
        return False
