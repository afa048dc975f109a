"""Random traces: as sealed spans, and as events of an application that knows what is to be seen of them."""

import random
import string
import time
from collections import Counter
from dataclasses import dataclass, field

from otpylib_telemetry import execute, span
from otpylib_telemetry_otel.semantics import SpanLink
from otpylib_telemetry_otel.traces.spans import FinishedSpan, SpanEvent
from tests.support.said import KINDS, told

LETTERS = string.ascii_letters + string.digits + " .-_/äöüß€漢字😀\n\"'\\"
KIND_NAMES = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
FINE = ["stop", "success"]
FAILED = ["error", "exception", "failed"]
#: The attribute by which an operation is found again.
NUMBER = "operation_number"


class Anything:
    """Random spans, the same ones for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self, longest=20):
        return "".join(self.random.choices(LETTERS, k=self.random.randint(1, longest)))

    def value(self):
        draw = self.random
        kinds = [
            lambda: self.text(200),
            lambda: draw.random() < 0.5,
            lambda: draw.randint(-(2**63), 2**63 - 1),
            lambda: draw.uniform(-1e300, 1e300),
            lambda: float("inf"),
        ]
        kind = draw.choice(kinds)
        return tuple(kind() for _ in range(draw.randint(1, 4))) if draw.random() < 0.2 else kind()

    def attributes(self, most=6):
        return {self.text(): self.value() for _ in range(self.random.randint(0, most))}

    def trace(self):
        """A few spans of one trace, each but the first below one of those before it."""
        draw = self.random
        trace_id, spans = draw.getrandbits(128) or 1, []
        for _ in range(draw.randint(1, 4)):
            start = draw.randint(1_600_000_000 * 10**9, 1_900_000_000 * 10**9)
            made = FinishedSpan(
                self.text(40),
                trace_id,
                draw.getrandbits(64) or 1,
                draw.choice(spans).span_id if spans else 0,
                None,
                start,
                self.attributes(),
                end_ns=start + draw.randint(0, 10**12),
                events=[
                    SpanEvent(self.text(), start + draw.randint(0, 10**9), self.attributes(3))
                    for _ in range(draw.randint(0, 2))
                ],
            )
            made.seal()
            made.kind = draw.choice(KIND_NAMES)
            made.scope = draw.choice([None, None, ("shop", "1.2"), ("stock", "")])
            if draw.random() < 0.3:
                made.error, made.message = True, self.text(100)
            if draw.random() < 0.2:
                made.links = [
                    SpanLink(draw.getrandbits(128) or 1, draw.getrandbits(64) or 1, {"why": self.text()})
                ]
            made.dropped_attributes = draw.choice([0, 0, 7])
            spans.append(made)
        return spans


@dataclass
class Operation:
    """What a receiver is to see of one operation.

    Attributes:
        name: The name in its events.
        shown: Its span's name.
        trace: The trace's id; an operation in the same trace; None for a trace of its own.
        parent: The parent's id, or that operation; 0 for none.
        id: Its own id; None where it was not the application's to choose.
        since_ns: When, by the wall clock, it was begun, or ended where it has no start.
        until_ns: When it had been ended.
        duration_ns: How long it took, where the application said so.
        has_start: Whether there was an event for its beginning.
        is_timed_by_us: Whether ``span`` has measured how long it took.
    """

    number: int
    name: str
    shown: str
    trace: object = None
    parent: object = 0
    id: int | None = None
    kind: str = "INTERNAL"
    scope: tuple[str, str] | None = None
    attributes: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    links: list = field(default_factory=list)
    failure: dict | None = None
    since_ns: int = 0
    until_ns: int = 0
    duration_ns: int | None = None
    has_start: bool = True
    is_timed_by_us: bool = False


class Application:
    """Emits random operations in every way there is, and keeps what is to be seen of them.

    ``operations`` has them by number; each carries its own as the attribute :data:`NUMBER`.
    """

    def __init__(self, seed):
        self.anyone = Anything(seed)
        self.random = self.anyone.random
        self.operations = {}
        self.forms = Counter()
        self._names = [f"shop.{self.anyone.text(30)}.{number}" for number in range(200)]

    def trace(self):
        """Emit one to four operations that have to do with each other."""
        form = self.random.choice(
            [self._spans, self._identified, self._correlated, self._called, self._requested, self._ended_only]
        )
        self.forms[form.__name__] += 1
        form(self.random.sample(self._names, self.random.randint(1, 4)))

    # Ways of saying what belongs together.

    def _spans(self, names, around=None):
        """``span``, one in the other."""
        operation, metadata = self._new(names[0])
        operation.trace, operation.parent, operation.is_timed_by_us = around, around or 0, True
        message = self.anyone.text(100) if self.random.random() < 0.3 else None
        try:
            operation.since_ns = time.time_ns()
            with span(operation.name, metadata) as opened:
                context = opened.context
                operation.id = int(context.span_id, 16)
                if around is None:
                    operation.trace = int(context.trace_id, 16)
                operation.attributes["correlation_id"] = context.correlation_id
                self._note(operation, {"span_id": context.span_id})
                if names[1:]:
                    self._spans(names[1:], operation)
                if message is not None:
                    raise LookupError(message)
        except LookupError:
            operation.attributes |= {"error": message, "error_type": "LookupError"}
            operation.failure = {"exception.message": message, "exception.type": "LookupError"}
        operation.until_ns = time.time_ns()

    def _identified(self, names):
        """All three ids given, the way they come out of somebody else's tracing."""
        draw, trace = self.random, self.random.getrandbits(128) or 1
        begun = []
        for name in names:
            operation, metadata = self._new(name)
            operation.trace, operation.id = trace, draw.getrandbits(64) or 1
            ids = {"trace_id": f"{trace:032x}", "span_id": f"{operation.id:016x}"}
            if begun:
                operation.parent = draw.choice(begun)[0]
                ids["parent_span_id"] = f"{operation.parent.id:016x}"
            begun.append((operation, ids))
            self._start(operation, {**metadata, **ids})
        for operation, ids in draw.sample(begun, len(begun)):
            self._note(operation, {"span_id": ids["span_id"]})
            self._end(operation, {"span_id": ids["span_id"]})

    def _correlated(self, names, **root):
        """A correlation id alone: they nest as they are open, whatever the order in which they end."""
        draw, correlation = self.random, {"correlation_id": f"c{len(self.operations)}"}
        still_open = []
        for name in names:
            operation, metadata = self._new(name)
            operation.attributes |= correlation
            given = {}
            if still_open:
                operation.trace = operation.parent = still_open[-1]
            elif root:
                operation.trace, operation.parent = root["caller"]
                given = {"traceparent": root["traceparent"]}
            self._start(operation, {**metadata, **correlation, **given})
            still_open.append(operation)
            self._note(operation, correlation)
            if draw.random() < 0.3 and len(still_open) > 1:
                self._end(still_open.pop(draw.randrange(1, len(still_open))), correlation)
        for operation in draw.sample(still_open, len(still_open)):
            self._end(operation, correlation)

    def _called(self, names):
        """The first called from elsewhere, with a traceparent."""
        caller = (self.random.getrandbits(128) or 1, self.random.getrandbits(64) or 1)
        self._correlated(names, caller=caller, traceparent=f"00-{caller[0]:032x}-{caller[1]:016x}-01")

    def _requested(self, names):
        """Paired by a request id, or by nothing but their name: each is a trace of its own."""
        begun = []
        for name in names:
            operation, metadata = self._new(name)
            key = self.random.choice([{}, {"request_id": operation.number}])
            operation.attributes |= key
            self._start(operation, {**metadata, **key})
            begun.append((operation, key))
        for operation, key in begun:
            self._end(operation, key)

    def _ended_only(self, names):
        """No start, but a duration."""
        operation, metadata = self._new(names[0])
        operation.has_start, operation.since_ns = False, time.time_ns()
        self._end(operation, metadata, must_last=True)

    # The events.

    def _new(self, name):
        """An operation, and the metadata that says what of it is told at its start."""
        draw, number = self.random, len(self.operations)
        metadata = {**self.anyone.attributes(), NUMBER: number}
        operation = self.operations[number] = Operation(number, name, name, attributes=dict(metadata))
        if draw.random() < 0.5:
            operation.kind = draw.choice(KIND_NAMES)
            metadata["span.kind"] = draw.choice([operation.kind, operation.kind.lower()])
        if draw.random() < 0.2:
            operation.shown = metadata["span.name"] = self.anyone.text(40)
        if draw.random() < 0.3:
            operation.scope = draw.choice([("shop", "1.2"), ("stock", "")])
            metadata["otel.scope.name"] = operation.scope[0]
            if operation.scope[1]:
                metadata["otel.scope.version"] = operation.scope[1]
        if draw.random() < 0.2:
            metadata["links"] = [self._link(operation) for _ in range(draw.randint(1, 3))]
        return operation, metadata

    def _link(self, operation):
        draw = self.random
        trace, other, carried = draw.getrandbits(128) or 1, draw.getrandbits(64) or 1, {}
        ids = {"trace_id": f"{trace:032x}", "span_id": f"{other:016x}"}
        form = draw.choice(["header", "pair", "table"])
        if form == "table":
            carried = self.anyone.attributes(2)
        operation.links.append((trace, other, carried))
        match form:
            case "header":
                return f"00-{trace:032x}-{other:016x}-01"
            case "pair":
                return tuple(ids.values())
            case _:
                return {**ids, "attributes": carried}

    def _start(self, operation, metadata):
        operation.since_ns = time.time_ns()
        execute(f"{operation.name}.start", {}, metadata)

    def _note(self, operation, key):
        """Perhaps something happens during an operation."""
        if self.random.random() >= 0.3:
            return
        name, carried = f"shop.note {self.anyone.text()} {operation.number}", self.anyone.attributes(3)
        measured = {"items": self.random.randint(0, 9)}
        shown = {} if "span_id" in key else key
        operation.events.append((name, {**carried, **shown, **measured}))
        execute(name, measured, {**carried, **key})

    def _end(self, operation, key, *, must_last=False):
        draw = self.random
        metadata, measured = self.anyone.attributes(2), {"boxes": draw.randint(0, 9)}
        if must_last or draw.random() < 0.5:
            measured["duration_ms"] = draw.choice([0.0, draw.uniform(0, 1e6), draw.randint(0, 10**6)])
            operation.duration_ns = int(measured["duration_ms"] * 1_000_000)
        operation.attributes |= {**metadata, **measured}
        suffix = draw.choice(FINE)
        if draw.random() < 0.3:
            suffix = draw.choice(FAILED)
            metadata |= self._fail(operation)
        execute(f"{operation.name}.{suffix}", measured, {**metadata, **key})
        operation.until_ns = time.time_ns()

    def _fail(self, operation):
        """What an ending says of a failure."""
        message = self.anyone.text(100)
        if self.random.random() < 0.5:
            operation.failure = {"exception.message": message, "exception.type": "shop.Declined"}
            said = {"error": message, "error_type": "shop.Declined"}
            operation.attributes |= said
            if self.random.random() < 0.5:
                stack = operation.failure["exception.stacktrace"] = f"in sell:\n{message}"
                return {**said, "stacktrace": stack}
            return said
        operation.failure = {"exception.message": message, "exception.type": "ValueError"}
        return {"exception": ValueError(message)}


def without_times(found):
    """What a receiver saw of a span (:func:`tests.support.said.collected`), less when it was."""
    shown = {key: value for key, value in found.items() if key != "times"}
    return {**shown, "events": [(name, carried) for name, _, carried in found["events"]]}


def expected(operation, arrived, default_scope):
    """What a receiver is to see of an operation, :func:`without_times`.

    Args:
        operation: What was emitted.
        arrived: By number, what it saw: ids that were not the application's to choose are looked up there.
        default_scope: The scope of operations that name none.
    """
    failure, own = operation.failure, arrived[operation.number]
    events = [(name, told(carried)) for name, carried in operation.events]
    if failure is not None:
        carried = told(failure)
        if operation.is_timed_by_us:
            # span() writes down where it was raised.
            carried["exception.stacktrace"] = own["events"][-1][-1]["exception.stacktrace"]
            assert carried["exception.stacktrace"][1].startswith("Traceback (most recent call last)")
        events.append(("exception", carried))
    attributes = told(operation.attributes)
    if operation.is_timed_by_us:
        attributes["duration_ms"] = own["attributes"]["duration_ms"]
    return {
        "name": operation.shown,
        "id": operation.id or own["id"],
        "trace": _trace(operation, arrived),
        "parent": _id(operation.parent, arrived),
        "kind": KINDS[operation.kind],
        "status": (0, "") if failure is None else (2, failure["exception.message"]),
        "attributes": attributes,
        "dropped": 0,
        "events": events,
        "links": [(trace, other, told(carried)) for trace, other, carried in operation.links],
        "scope": operation.scope or default_scope,
    }


def wrong_times(operation, found, tolerance_ns):
    """What is wrong with when a span was, and with when its events were; empty if nothing is."""
    start_ns, end_ns = found["times"]
    earliest, latest = operation.since_ns - tolerance_ns, operation.until_ns + tolerance_ns
    wrong = []
    if not earliest <= (start_ns if operation.has_start else end_ns) <= latest:
        wrong.append("it was not then")
    length_ns = operation.duration_ns
    if operation.is_timed_by_us:
        length_ns = int(found["attributes"]["duration_ms"][1] * 1_000_000)
    if length_ns is None and not start_ns <= end_ns <= latest:
        wrong.append("its end was not then")
    if length_ns is not None and end_ns - start_ns != length_ns:
        wrong.append(f"it lasted {length_ns} ns")
    for name, at_ns, _ in found["events"]:
        if name == "exception" and operation.failure is not None:
            if at_ns != end_ns:
                wrong.append("its exception was not its end")
        elif not max(earliest, start_ns) <= at_ns <= latest:
            wrong.append(f"{name!r} did not happen then")
    return wrong


def _trace(operation, arrived):
    match operation.trace:
        case None:
            return arrived[operation.number]["trace"]
        case Operation() as other:
            return _trace(other, arrived)
        case given:
            return given


def _id(given, arrived):
    if isinstance(given, Operation):
        return given.id or arrived[given.number]["id"]
    return given
