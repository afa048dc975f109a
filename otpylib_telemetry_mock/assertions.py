"""Assertions over what was emitted.

Each takes a capture, a :class:`~otpylib_telemetry_mock.MockExporter` or events in a list, as the process form
answers them, and fails with the events that come nearest and what differs.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, TypeAlias, runtime_checkable

from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.phases import Phase, classify
from otpylib_telemetry_mock import failures, text
from otpylib_telemetry_mock.matching import Expectation, check_number, check_text, expectation
from otpylib_telemetry_mock.recording import RecordedEvent, Recording, matches


@runtime_checkable
class _HasEvents(Protocol):
    @property
    def events(self) -> Iterable[Any]: ...


#: Where events are looked for.
Source: TypeAlias = _HasEvents | Iterable[Any]

#: The same, or a function that gives it whenever it is asked; plain or async.
LiveSource: TypeAlias = Source | Callable[[], Source | Awaitable[Source]]

#: Says whether an event is meant.
Where: TypeAlias = Callable[[RecordedEvent], object]

#: Seconds between two looks at a source that does not tell of its own accord.
_POLL = 0.01

#: More than any test has open at a time.
_UNLIMITED = 2**62


def assert_emitted(  # noqa: PLR0913  # each is one way to say which event is meant
    source: Source,
    pattern: str,
    measurements: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    where: Where | None = None,
    count: int | None = None,
    at_least: int | None = None,
    at_most: int | None = None,
) -> list[RecordedEvent]:
    """Assert that an event was emitted.

    An expected value is compared with ``==``. A type there asks for an instance of it, a compiled regular
    expression for a text in which it is found, and a function is asked whether the value is right.

    Args:
        source: A capture, a ``MockExporter``, or events.
        pattern: Shell glob over the event's name; case counts, and ``*`` crosses dots.
        measurements: What its measurements have to contain, among others.
        metadata: What its metadata has to contain, among others.
        where: What else has to be true of it.
        count: How many there have to be, exactly; without any of the three, one or more.
        at_least: How many there have to be at least.
        at_most: How many there may be; one of them has to be there unless ``at_least`` says otherwise.

    Returns:
        The events that match, oldest first.

    Raises:
        AssertionError: There are fewer or more.
    """
    __tracebackhide__ = True
    expected = expectation(pattern, measurements, metadata, where)
    least, most = _bounds(count, at_least, at_most)
    events = _events_of(source)
    found = [event for event in events if expected.accepts(event)]
    if len(found) < least:
        raise AssertionError(_too_few(expected, text.tally(least, most), found, events, source))
    if most is not None and len(found) > most:
        raise AssertionError(_too_many(expected, text.tally(least, most), found))
    return found


def refute_emitted(
    source: Source,
    pattern: str,
    measurements: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    where: Where | None = None,
) -> None:
    """Assert that an event was not emitted.

    Args:
        source: As for :func:`assert_emitted`, and so are the others.
        pattern: See there.
        measurements: See there.
        metadata: See there.
        where: See there.

    Raises:
        AssertionError: It was.
    """
    __tracebackhide__ = True
    expected = expectation(pattern, measurements, metadata, where)
    found = [event for event in _events_of(source) if expected.accepts(event)]
    if found:
        raise AssertionError(_too_many(expected, text.tally(0, 0), found))


async def wait_for(  # noqa: PLR0913  # as in assert_emitted
    source: LiveSource,
    pattern: str,
    measurements: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    where: Where | None = None,
    at_least: int = 1,
    timeout: float = 5.0,  # noqa: ASYNC109  # whoever waits says how long
) -> list[RecordedEvent]:
    """Wait until an event has been emitted; returns at once if it has been already.

    Args:
        source: As for :func:`assert_emitted`; also a function, plain or async, that gives the events anew
            whenever it is asked.
        pattern: As for :func:`assert_emitted`, and so are the next three.
        measurements: See there.
        metadata: See there.
        where: See there.
        at_least: How many have to be there.
        timeout: Seconds to wait.

    Returns:
        The events that match, oldest first.

    Raises:
        AssertionError: They were not there in time.
    """
    __tracebackhide__ = True
    expected = expectation(pattern, measurements, metadata, where)
    check_number("at_least", at_least)
    loop = asyncio.get_running_loop()
    emitted = asyncio.Event()
    deadline = loop.time() + timeout
    with ExitStack() as stack:
        tells = isinstance(source, Recording)
        if isinstance(source, Recording):
            stack.enter_context(source.watched(lambda: _call_soon(loop, emitted.set)))
        while True:
            emitted.clear()
            events = _events_of(await _current(source))
            found = [event for event in events if expected.accepts(event)]
            if len(found) >= at_least:
                return found
            left = deadline - loop.time()
            if left <= 0:
                asked = f"within {timeout:g} s {text.tally(at_least, None)}"
                raise AssertionError(_too_few(expected, asked, found, events, source))
            await _wait(emitted, left if tells else min(left, _POLL))


def assert_spans_balanced(
    source: Source, pattern: str = "*", *, count: int | None = None
) -> list[tuple[RecordedEvent, RecordedEvent]]:
    """Assert that every operation that began has ended, and the other way round.

    Beginnings and endings pair as they do in an exporter: by ``span_id``, else ``correlation_id``, else
    ``request_id``, else within the emitting process. An ending with ``duration_ms`` and without ``span_id``
    needs no beginning, nor does an error of an operation that never begins: that is an event like any other.

    Args:
        source: As for :func:`assert_emitted`.
        pattern: Which operations: a shell glob over the operation, as in ``shop.checkout``, or over the names
            of its events.
        count: How many have to have begun and ended; without it any number, none included.

    Returns:
        The beginning and the ending of each, in the order in which they ended.

    Raises:
        AssertionError: An operation is not balanced.
    """
    __tracebackhide__ = True
    check_text("an operation's pattern", pattern)
    check_number("count", count)
    events = _events_of(source)
    pairs, unended, unbegun = _paired(events, pattern)
    if unended or unbegun:
        operations = len(unended) + len(unbegun)
        headline = (
            f"{text.counted(operations, 'operation')} {'is' if operations == 1 else 'are'} not balanced"
        )
        raise AssertionError(
            failures.message(
                headline,
                failures.listed("began and did not end", unended),
                failures.listed("ended and did not begin", unbegun),
                failures.remarks(_remarks(source)),
            )
        )
    if count is not None and len(pairs) != count:
        found = text.counted(len(pairs), "operation")
        headline = f"expected {text.counted(count, 'operation')} matching {pattern!r}, found {found}"
        endings = failures.listed("ended", [ending for _, ending in pairs])
        raise AssertionError(
            failures.message(headline, endings, failures.names(events), failures.remarks(_remarks(source)))
        )
    return pairs


def _paired(
    events: list[RecordedEvent], pattern: str
) -> tuple[list[tuple[RecordedEvent, RecordedEvent]], list[RecordedEvent], list[RecordedEvent]]:
    """Return the pairs, the beginnings without an ending, and the endings without a beginning."""
    pairs: list[tuple[RecordedEvent, RecordedEvent]] = []
    unbegun: list[RecordedEvent] = []
    beginning: set[str] = set()
    running: OpenOperations[RecordedEvent] = OpenOperations(_UNLIMITED, _UNLIMITED)
    for event in events:
        name = event["event_name"]
        if not isinstance(name, str):
            continue
        operation, phase = classify(name)
        if phase is Phase.NONE or not (matches(operation, pattern) or matches(name, pattern)):
            continue
        if phase is Phase.START:
            beginning.add(operation)
            running.open(operation, event["metadata"], _emitter_of(event), 0, event)
        elif (opened := running.close(operation, event["metadata"], _emitter_of(event))) is not None:
            pairs.append((opened.value, event))
        elif not _stands_alone(event):
            unbegun.append(event)
    missed = [event for event in unbegun if _is_an_ending(event, beginning)]
    return pairs, [opened.value for opened in running.drain()], missed


def _stands_alone(event: RecordedEvent) -> bool:
    return "duration_ms" in event["measurements"] and event["metadata"].get("span_id") is None


def _is_an_ending(event: RecordedEvent, beginning: set[str]) -> bool:
    operation, phase = classify(event["event_name"])
    return phase is Phase.OK or operation in beginning or event["metadata"].get("span_id") is not None


def _emitter_of(event: RecordedEvent) -> object:
    try:
        hash(event.emitter)
    except TypeError:
        return None
    return event.emitter


def _bounds(count: int | None, at_least: int | None, at_most: int | None) -> tuple[int, int | None]:
    for name, given in (("count", count), ("at_least", at_least), ("at_most", at_most)):
        check_number(name, given)
    if count is None:
        return 1 if at_least is None else at_least, at_most
    if at_least is not None or at_most is not None:
        raise ValueError("count says exactly how many: at_least and at_most do not go with it")
    return count, count


def _too_few(
    expected: Expectation, asked: str, found: list[RecordedEvent], events: list[RecordedEvent], source: object
) -> str:
    counted = {id(event) for event in found}
    others = [event for event in events if id(event) not in counted]
    among = f" among {text.counted(len(events))}" if events else ": nothing was emitted"
    return failures.message(
        f"expected {asked} {expected}, found {len(found) or 'none'}{among}",
        failures.listed("found", found),
        failures.nearest(expected, others),
        failures.names(events),
        failures.remarks(_remarks(source)),
    )


def _too_many(expected: Expectation, asked: str, found: list[RecordedEvent]) -> str:
    return failures.message(
        f"expected {asked} {expected}, found {len(found)}", failures.listed("found", found)
    )


def _remarks(source: object) -> list[str]:
    return source.remarks() if isinstance(source, Recording) else []


def _events_of(source: object) -> list[RecordedEvent]:
    events = source.events if isinstance(source, _HasEvents) else source
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Iterable):
        raise TypeError(
            "events are looked for in a capture, a MockExporter or a list of events, "
            f"not in {text.shown(source)}{text.unawaited(source)}"
        )
    return [_as_event(event) for event in list(events)]


def _as_event(item: object) -> RecordedEvent:
    match item:
        case RecordedEvent():
            return item
        case {"event_name": name, **rest}:
            timestamp: Any = rest.get("timestamp", 0.0)
            measurements, metadata = _table(rest.get("measurements")), _table(rest.get("metadata"))
            return RecordedEvent(name, measurements, metadata, timestamp)
        case (str() as name, measurements, metadata, *_):
            return RecordedEvent(name, _table(measurements), _table(metadata), 0.0)
    raise TypeError(
        "an event is a dict with event_name, measurements and metadata, or a tuple of them, "
        f"not {text.shown(item)}"
    )


def _table(details: object) -> dict[str, Any]:
    return dict(details) if isinstance(details, Mapping) else {}


async def _current(source: LiveSource) -> Source:
    if isinstance(source, _HasEvents) or not callable(source):
        return source
    given = source()
    if inspect.isawaitable(given):
        return await given
    return given


async def _wait(emitted: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await emitted.wait()
    except TimeoutError:
        return


def _call_soon(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop is closed: nobody waits any more.
        return
