"""What is polled: functions of the application, by the name of the event that each of them makes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otpylib_telemetry.aggregation.metric_spec import Kind
from otpylib_telemetry.meters.observed import Observation, ObservedMetric
from otpylib_telemetry.metrics.elsewhere import elsewhere
from otpylib_telemetry.metrics.event_values import number_of
from otpylib_telemetry.metrics.names import MAX_NAME, metric_name, shortened
from otpylib_telemetry.primitives.fork import after_fork_in_child, new_lock
from otpylib_telemetry.services import starting

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Iterator

#: The section of the poller.
SECTION: Final = "telemetry.poller"

#: Seconds between two polls at least.
SHORTEST: Final = 0.01

#: How many numbers of one call are taken: beyond the series that a metric may have they are of little use.
MOST_NUMBERS: Final = 10_000

#: The measurement that a function has made which returns nothing but a number.
VALUE: Final = "value"

#: What the names of our own metrics begin with, on a page.
_OURS: Final = ("otpylib_",)

#: What becomes a label, of metadata.
_SCALARS: Final = (str, int, float)

#: What a function may return: a number, measurements, pairs of either and metadata, or nothing.
Polled: TypeAlias = (
    "float | Mapping[str, float] | Iterable[tuple[float | Mapping[str, float], Mapping[str, Any]]] | None"
)


class Measured(NamedTuple):
    """What one poll has found: events, each of measurements and metadata, and numbers for the exits.

    ``beyond`` says for each part of what was returned how much of it is left out.
    """

    events: list[tuple[dict[str, float], dict[str, Any]]]
    observations: list[Observation]
    beyond: list[int]


@dataclass(eq=False)
class Poll:
    """One function that is polled.

    Attributes:
        name: The event that is emitted.
        function: What is called.
        interval: Seconds between two calls; None for those of the settings.
        first_delay: Seconds before the first.
        metadata: Goes with every event, and makes the labels.
        unit: Unit of its numbers.
        description: What they say.
        built_in: Whether it is one of our own, which returns :class:`Measured`.
        blocks: Whether a plain function has to be called on a thread.
        due: Set when it is to be called at once.
    """

    name: str
    function: Callable[[], Any]
    interval: float | None = None
    first_delay: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)
    unit: str = ""
    description: str = ""
    built_in: bool = False
    blocks: bool = True

    failures: int = 0
    calls: int = 0
    trouble: str | None = None
    #: Numbers, and pairs, that went beyond the limit; and whether that was said.
    left_out: int = 0
    said_left_out: bool = False
    #: What was found last; empty as long as it fails.
    observations: list[Observation] = field(default_factory=list)
    #: The call under way, which may have been given up.
    pending: asyncio.Future[Any] | None = None

    @property
    def is_async(self) -> bool:
        """Whether it is called on the event loop."""
        called = self.function
        while hasattr(called, "func") and hasattr(called, "args"):  # functools.partial
            called = called.func
        return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
            getattr(type(called), "__call__", None)  # noqa: B004 - what it is, not whether it is there
        )

    def read(self, result: Polled, found: Measured) -> Iterator[None]:
        """Add what a result says to what was found, in small steps, between which whoever reads may pause.

        Raises TypeError or ValueError where it says nothing that can be used.
        """
        for items, metadata in _parts(result, found.beyond):
            numbers: dict[str, float] = {}
            whole = {**self.metadata, **metadata}
            labels = {key: value for key, value in whole.items() if isinstance(value, _SCALARS)}
            found.events.append((numbers, whole))
            for key, value in items:
                number = numbers[key] = _number(value)
                name = self.name if key == VALUE else f"{self.name}.{key}"
                metric = ObservedMetric(
                    Kind.GAUGE,
                    shortened(name, MAX_NAME),
                    metric_name(name),
                    self.unit,
                    self.description,
                    "mostrecent",
                )
                found.observations.append(Observation(metric, number, labels))
                yield
            yield


def _parts(result: Any, beyond: list[int]) -> Iterator[tuple[list[tuple[str, Any]], Mapping[str, Any]]]:
    """Yield keys and values with their metadata, no more than are taken.

    What is to come is copied before: the application may change it while the reader pauses.
    """
    if result is None:
        return
    if not isinstance(result, (list, tuple)):
        yield _items(result, MOST_NUMBERS, beyond), {}
        return
    beyond.append(max(0, len(result) - MOST_NUMBERS))
    room = MOST_NUMBERS
    for each in result[:MOST_NUMBERS]:
        try:
            numbers, metadata = each
            metadata = dict(metadata)
        except (TypeError, ValueError):
            raise TypeError(
                f"expected pairs of numbers and metadata in what it returns, got an item {_shown(each)}"
            ) from None
        if room:
            items = _items(numbers, room, beyond)
            # A mapping without numbers is an event as well.
            room -= len(items)
            yield items, metadata
        else:
            beyond.append(1)


def _items(value: Any, most: int, beyond: list[int]) -> list[tuple[str, Any]]:
    """Return the first measurements of a mapping, or the one that a number is."""
    if not hasattr(value, "items"):
        return [(VALUE, value)]
    items = [(str(key), number) for key, number in islice(value.items(), most)]
    beyond.append(max(0, len(value) - most) if hasattr(value, "__len__") else 0)
    return items


#: By name, what the application has asked for.
_polls: dict[str, Poll] = {}
_lock = new_lock()
_watchers: list[Callable[[], None]] = []


def poll(  # noqa: PLR0913 - what is polled, by name
    name: str,
    function: Callable[[], Polled | Awaitable[Polled]],
    interval: float | None = None,
    *,
    first_delay: float = 0.0,
    metadata: Mapping[str, Any] | None = None,
    unit: str = "",
    description: str = "",
) -> None:
    """Have a function called from time to time, and what it returns emitted as an event and shown as metrics.

    It may be called anywhere: from any thread, before there is a runtime, at import. The poller calls the
    function, wherever an exporter runs; see ``docs/how-to/metrics/poller.md``. A plain function is called on
    a thread, an async one on the event loop; either has ``[telemetry.poller] timeout`` seconds.

    Args:
        name: The event's name, ``shop.queue`` for instance. Another function of that name is replaced.
        function: Returns a number, which is the measurement ``value`` and the gauge ``shop_queue``; or a
            mapping of numbers, of which ``depth`` is the gauge ``shop_queue_depth``; or a list of pairs of
            either and metadata, whose scalars are the labels; or None, where it emits by itself.
        interval: Seconds between two calls; without it ``[telemetry.poller] interval``.
        first_delay: Seconds before the first call.
        metadata: Goes with every event, and makes labels.
        unit: Unit of the numbers, in UCUM: ``By``, ``s``.
        description: What they say, for a person to read.

    Raises:
        TypeError: The name, the unit or the description is no text, the function is none, a number is none,
            or the metadata are no mapping.
        ValueError: The name is empty or one of our own, the interval is shorter than 0.01 s, or the delay is
            negative.
    """
    _check_text("name", name, "the name of an event")
    if not name.strip():
        raise ValueError("name: expected the name of an event, got an empty text")
    if f"{metric_name(name)}_".startswith(_OURS):
        raise ValueError(
            f"name: {name[:MAX_NAME]!r} is among the names of this project's own metrics; choose another"
        )
    _check_text("unit", unit, "a unit as text")
    _check_text("description", description, "a text")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata: expected a mapping, got {type(metadata).__name__}")
    if not callable(function):
        raise TypeError(f"function: expected a function without arguments, got {type(function).__name__}")
    made = Poll(
        name,
        function,
        None if interval is None else _seconds("interval", interval, SHORTEST),
        _seconds("first_delay", first_delay, 0),
        dict(metadata or {}),
        unit,
        description,
    )
    with _lock:
        _polls[name] = made
        elsewhere.begin(name)
    starting.want(SECTION)
    _tell()


def unpoll(name: str) -> bool:
    """Have a function called no more; its series are gone.

    Args:
        name: The name it was given to :func:`poll` under.

    Returns:
        Whether there was one of that name.

    Raises:
        TypeError: The name is no text.
    """
    _check_text("name", name, "the name of an event")
    with _lock:
        found = _polls.pop(name, None)
        if found is not None:
            elsewhere.end(name)
    _tell()
    return found is not None


def polls() -> list[Poll]:
    """Return what the application has asked for."""
    return list(_polls.values())


def when_changed(watcher: Callable[[], None]) -> None:
    """Have a function called, on whatever thread, when there is more or less to poll."""
    _watchers.append(watcher)


def no_longer(watcher: Callable[[], None]) -> None:
    """Undo :func:`when_changed`."""
    if watcher in _watchers:
        _watchers.remove(watcher)


def forget() -> None:
    """Forget everything; for tests, which start from nothing."""
    for name in [*_polls]:
        unpoll(name)
    _watchers.clear()


def _tell() -> None:
    for watcher in [*_watchers]:
        watcher()


def _seconds(what: str, value: Any, least: float) -> float:
    number = None if isinstance(value, bool) else number_of(value)
    if number is None:
        raise TypeError(f"{what}: expected a number of seconds, got {type(value).__name__}")
    if not least <= number < math.inf:
        raise ValueError(f"{what}: expected a number of seconds from {least:g}, got {number!r}")
    return number


def _check_text(what: str, value: object, expected: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what}: expected {expected}, got {type(value).__name__}")


def _number(value: Any) -> float:
    number = number_of(value)
    if number is None:
        raise TypeError(f"what it returns is no number, but {_shown(value)}")
    if not math.isfinite(number):
        raise ValueError(f"what it returns is not finite: {number}")
    return number


def _shown(value: object) -> str:
    return f"of type {type(value).__name__}"


# They belong to pollers of the parent, on event loops that do not run here.
after_fork_in_child(_watchers.clear)
