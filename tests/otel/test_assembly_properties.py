"""Random traces against what is known about them: the tree they came from, or the rules written plainly."""

import dataclasses
import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from otpylib_telemetry.tracing.phases import classify
from otpylib_telemetry.tracing.propagation import (
    format_span_id,
    format_trace_id,
    format_traceparent,
    parse_span_id,
    parse_trace_id,
    parse_traceparent,
)
from otpylib_telemetry_otel.traces.assembly import Assembler
from tests.support.examples import examples

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
TTL = 300 * SECOND

ENDINGS = ("stop", "success", "error", "exception", "failed")
FAILURES = ("error", "exception", "failed")


# --- Trees: what was emitted is known, and has to come out again -------------------------------------------


@dataclasses.dataclass(eq=False)
class Operation:
    """One operation of a forest, with everything that is true about it."""

    name: str
    parent: Any  # an Operation, or None
    trace: int
    number: int
    ending: str
    duration_ms: float | None
    notes: int
    emitter: Any
    starts_ns: int = 0
    ends_ns: int = 0

    @property
    def ids(self):
        parent = None if self.parent is None else format_span_id(self.parent.number)
        return {
            "trace_id": format_trace_id(self.trace),
            "span_id": format_span_id(self.number),
            "parent_span_id": parent,
        }

    def truth(self):
        length = self.ends_ns - self.starts_ns
        if self.duration_ms is not None:
            length = int(self.duration_ms * MILLISECOND)
        return (
            self.name,
            length,
            self.ending in FAILURES,
            {"opened_by": self.number, "ended_by": self.number},
        )


@st.composite
def forests(draw):
    """A few trees, each a list of operations in which a parent comes before its children."""
    number = itertools.count(1)
    trees = []
    for trace in range(1, draw(st.integers(1, 4)) + 1):
        tree = []
        for _ in range(draw(st.integers(1, 6))):
            tree.append(
                Operation(
                    draw(st.sampled_from(["shop.checkout", "shop.pay", "db.query"])),
                    draw(st.sampled_from([*tree])) if tree else None,
                    trace,
                    next(number),
                    draw(st.sampled_from(ENDINGS)),
                    draw(st.sampled_from([None, 0.5, 20])),
                    draw(st.integers(0, 2)),
                    draw(st.sampled_from(["p", "q", 17])),
                )
            )
        trees.append(tree)
    return trees


def told(operation, phase, ids):
    """The event by which an operation begins or ends, without its time."""
    if phase == "start":
        return (f"{operation.name}.start", {}, {**ids, "opened_by": operation.number}, operation)
    measured = {} if operation.duration_ms is None else {"duration_ms": operation.duration_ms}
    return (
        f"{operation.name}.{operation.ending}",
        measured,
        {**ids, "ended_by": operation.number},
        operation,
    )


def timed(events):
    """Give the events their times, one millisecond apart, and note them on the operations."""
    raw = []
    for at, (name, measured, metadata, operation) in enumerate(events, start=1):
        at_ns = at * MILLISECOND
        if name.endswith(".start"):
            operation.starts_ns = at_ns
        elif classify(name)[0] != name:
            operation.ends_ns = at_ns
        raw.append((name, measured, metadata, at_ns, operation.emitter))
    return raw


@st.composite
def interleaved(draw, programs):
    """Merge several lists, keeping the order within each."""
    queues = [list(reversed(program)) for program in programs if program]
    merged = []
    while queues:
        queue = draw(st.sampled_from(queues))
        merged.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return merged


@st.composite
def any_order(draw, tree, ids_of):
    """The events of a tree as concurrent children emit them: each child begins inside its parent."""
    waiting, begun, events = list(tree), [], []
    while waiting or begun:
        ready = [one for one in waiting if one.parent is None or one.parent in begun]
        may_end = [one for one in begun if not any(child.parent is one for child in waiting)]
        choices = [("start", one) for one in ready] + [("end", one) for one in may_end]
        phase, one = draw(st.sampled_from(choices))
        events.append(told(one, phase, ids_of(one)))
        if phase == "start":
            waiting.remove(one)
            begun.append(one)
        else:
            begun.remove(one)
    return events


def nested(tree, ids_of, operation=None):
    """The events of a tree whose operations run one after the other, each inside its parent."""
    operation = operation or tree[0]
    yield told(operation, "start", ids_of(operation))
    for note in range(operation.notes):
        yield ("note", {"note": note}, ids_of(operation), operation)
    for child in tree:
        if child.parent is operation:
            yield from nested(tree, ids_of, child)
    yield told(operation, "end", ids_of(operation))


class Books:
    """An assembler whose books are checked after every call."""

    def __init__(self, limit=10_000, **options):
        self.assembler = Assembler(
            limit, TTL, itertools.count(10_001).__next__, itertools.count(1_001).__next__, **options
        )
        self.spans = []
        self.accepted = self.unused = self.rejected = self.repeated = self.surplus = 0

    def take(self, events, offset_ns=WALL):
        result = self.assembler.collect(events, offset_ns)
        self.accepted += len(events)
        self.unused += result.unused
        self.rejected += result.rejected
        self.repeated += result.repeated
        self.surplus += result.surplus
        self.add(result.spans)

    def add(self, spans):
        self.spans += spans
        weights = sum(span.weight for span in self.spans)
        assert self.accepted == weights + self.assembler.held + self.unused + self.surplus + self.rejected

    def all_at_once(self, events):
        self.take(events)
        assert (self.rejected, len(self.assembler)) == (0, 0)
        return self.spans


def shown(span):
    """What is to be compared with :meth:`Operation.truth`."""
    own = {key: span.attributes.get(key) for key in ("opened_by", "ended_by")}
    return (span.name, span.end_ns - span.start_ns, span.error, own)


def assert_forest(trees, spans):
    """Every operation is one span, inside the span of its parent, in the trace of its tree."""
    by_operation = {span.attributes["ended_by"]: span for span in spans}
    assert len(by_operation) == len(spans) == sum(map(len, trees))
    for tree in trees:
        for operation in tree:
            span = by_operation[operation.number]
            parent = None if operation.parent is None else by_operation[operation.parent.number]
            assert shown(span) == operation.truth()
            assert span.start_ns == WALL + operation.starts_ns
            assert span.parent_span_id == (0 if parent is None else parent.span_id)
            assert span.trace_id == by_operation[tree[0].number].trace_id
    assert len({span.trace_id for span in spans}) == len(trees)
    assert len({span.span_id for span in spans}) == len(spans)


@given(st.data(), forests())
def test_operations_with_all_ids_come_out_as_they_went_in_whatever_order_they_come_in(data, trees):
    programs = [data.draw(any_order(tree, lambda one: one.ids)) for tree in trees]
    events = data.draw(st.permutations(timed(data.draw(interleaved(programs)))))
    # Ends that bring their duration make a span before their start has come: its metadata is not waited for.
    late = {
        metadata["opened_by"]
        for position, (_, _, metadata, _, _) in enumerate(events)
        if "opened_by" in metadata
        and any(
            earlier[2].get("ended_by") == metadata["opened_by"] and earlier[1]
            for earlier in events[:position]
        )
    }
    books = Books()
    books.all_at_once(events)
    assert books.repeated == len(late)
    for span in books.spans:
        if span.attributes["ended_by"] in late:
            span.attributes = {**span.attributes, "opened_by": span.attributes["ended_by"]}
            (operation,) = [
                one for tree in trees for one in tree if one.number == span.attributes["ended_by"]
            ]
            assert span.end_ns == WALL + operation.ends_ns
            span.start_ns, span.end_ns = (
                WALL + operation.starts_ns,
                WALL + operation.starts_ns + span.end_ns - span.start_ns,
            )
    assert_forest(trees, books.spans)


@given(st.data(), forests())
def test_events_that_come_more_than_once_make_no_more_spans(data, trees):
    programs = [data.draw(any_order(tree, lambda one: one.ids)) for tree in trees]
    events = timed(data.draw(interleaved(programs)))
    for event in data.draw(st.lists(st.sampled_from(events), max_size=10)):
        # Anywhere after the first time.
        events.insert(data.draw(st.integers(events.index(event) + 1, len(events))), event)
    books = Books()
    books.all_at_once(events)
    assert_forest(trees, books.spans)


@given(st.data(), forests())
def test_parent_ids_alone_are_enough_where_the_parent_begins_first(data, trees):
    def ids(operation):
        given_ids = {"span_id": operation.ids["span_id"]}
        if operation.parent is not None:
            given_ids["parent_span_id"] = operation.ids["parent_span_id"]
        return given_ids

    programs = [data.draw(any_order(tree, ids)) for tree in trees]
    books = Books()
    books.all_at_once(timed(data.draw(interleaved(programs))))
    assert_forest(trees, books.spans)


@given(st.data(), forests())
def test_a_correlation_id_alone_is_enough_for_what_is_nested_in_time(data, trees):
    programs = [list(nested(tree, lambda one: {"correlation_id": f"req-{one.trace}"})) for tree in trees]
    books = Books()
    books.all_at_once(timed(data.draw(interleaved(programs))))
    assert_forest(trees, books.spans)
    notes = {one.number: one.notes for tree in trees for one in tree}
    assert {span.attributes["ended_by"]: len(span.events or ()) for span in books.spans} == notes


@given(st.data(), forests())
def test_each_trace_may_give_what_it_has(data, trees):
    ways = {
        "all ids": lambda one: {**one.ids, "correlation_id": f"req-{one.trace}"},
        "correlation id": lambda one: {"correlation_id": f"req-{one.trace}"},
        "request id below a parent": lambda one: {
            "span_id": one.ids["span_id"],
            "parent_span_id": one.ids["parent_span_id"],
            "request_id": one.trace,
        },
        "traceparent": lambda one: {
            "traceparent": format_traceparent(900 + one.trace, 5),
            "correlation_id": one.trace,
        },
    }
    chosen = [data.draw(st.sampled_from(sorted(ways))) for _ in trees]
    programs = [list(nested(tree, ways[way])) for tree, way in zip(trees, chosen, strict=True)]
    books = Books()
    books.all_at_once(timed(data.draw(interleaved(programs))))
    for tree, way in zip(trees, chosen, strict=True):
        if way == "traceparent":
            roots = [span for span in books.spans if span.attributes["ended_by"] == tree[0].number]
            assert [(span.parent_span_id, span.parent_is_remote) for span in roots] == [(5, True)]
            roots[0].parent_span_id = 0
    assert_forest(trees, books.spans)


@given(st.data(), forests())
def test_without_ids_each_emitter_has_its_own(data, trees):
    for number, tree in enumerate(trees):
        for operation in tree:
            operation.emitter = number
    programs = [list(nested(tree, lambda one: {})) for tree in trees]
    books = Books()
    books.all_at_once(timed(data.draw(interleaved(programs))))
    by_operation = {span.attributes["ended_by"]: shown(span) for span in books.spans}
    assert by_operation == {one.number: one.truth() for tree in trees for one in tree}


@given(st.data(), forests(), st.lists(st.integers(-(10**6) * SECOND, 10**6 * SECOND), min_size=1, max_size=4))
def test_a_clock_that_is_set_over_and_over_changes_neither_durations_nor_order(data, trees, steps):
    programs = [list(nested(tree, lambda one: {"correlation_id": f"req-{one.trace}"})) for tree in trees]
    events = timed(data.draw(interleaved(programs)))
    books = Books()
    for position, event in enumerate(events):
        books.take([event], WALL + steps[position % len(steps)])
    by_operation = {span.attributes["ended_by"]: span for span in books.spans}
    for tree in trees:
        root = by_operation[tree[0].number]
        for operation in tree:
            span = by_operation[operation.number]
            assert shown(span) == operation.truth()
            assert span.start_ns - root.start_ns == operation.starts_ns - tree[0].starts_ns


# --- Rules: any events at all, against the rules in their plainest form -------------------------------------


class Model:
    """The rules once more, without indexes, limits of memory, or regard for time."""

    def __init__(self, limit):
        self.limit = limit
        self.trace_ids, self.span_ids = itertools.count(10_001), itertools.count(1_001)
        self.open, self.finished, self.ended, self.early = [], [], {}, {}
        self.unused = self.surplus = self.repeated = 0

    def take(self, event, offset_ns):
        name, measured, metadata, at_ns, emitter = event
        operation, phase = classify(name)
        duration = measured.get("duration_ms")
        if phase.value == "start":
            self.start(operation, metadata, {**metadata, **measured}, at_ns, emitter, offset_ns)
        elif phase.value == "none":
            self.note(event)
        else:
            self.end(operation, event, None if duration is None else duration * MILLISECOND, offset_ns)

    def start(self, operation, metadata, carried, at_ns, emitter, offset_ns):
        label = metadata.get("span_id")
        if label is not None:
            for twin in reversed(self.open):
                if (twin["label"], twin["operation"]) == (label, operation):
                    twin["attributes"] = {**twin["attributes"], **carried}
                    self.surplus += 1
                    return
            if label in self.ended and self.ended[label][0] == operation:
                self.unused += 1
                self.repeated += 1
                return
        span = self.place(operation, metadata, carried, at_ns, offset_ns)
        span["emitter"] = emitter
        ending = self.awaited(operation, metadata, at_ns)
        if ending is None:
            self.open.append(span)
            while len(self.open) > self.limit:
                self.finish(self.open.pop(0), "evicted")
        elif ending["finished"]:
            self.unused += 1
            self.repeated += 1
        else:
            host = ending["host"]
            if host in self.open:
                host["events"].remove(ending["note"])
                host["weight"] -= 1
                span["weight"] = 2
            name, measured, said, ended_ns, _ = ending["event"]
            length = max(ended_ns - at_ns, 0)
            self.close(span, name, {**said, **measured}, length)

    def place(self, operation, metadata, carried, at_ns, offset_ns):
        label = metadata.get("span_id")
        trace = parse_trace_id(metadata.get("trace_id"))
        parent_label = metadata.get("parent_span_id")
        parent = parse_span_id(parent_label)
        caller = parse_traceparent(metadata.get("traceparent"))
        around = None
        if parent_label is not None:
            named = [one for one in self.open if one["label"] == parent_label]
            if named and trace in {None, named[-1]["trace"]}:
                around, parent = named[-1], named[-1]["id"]
            elif parent is not None and not (named and trace is None) and parent_label in self.ended:
                _, known, its_offset = self.ended[parent_label]
                if trace in {None, known}:
                    trace, offset_ns = known, its_offset
        if around is None and (trace is None or parent is None):
            correlation = metadata.get("correlation_id")
            same = [one for one in self.open if correlation is not None and one["correlation"] == correlation]
            if same and caller in {None, same[-1]["caller"]} and trace in {None, same[-1]["trace"]}:
                around = same[-1]
                parent = parent or around["id"]
            elif caller is not None and trace in {None, caller.trace_id}:
                trace, parent = caller.trace_id, parent or caller.span_id
            elif trace is None:
                trace = next(self.trace_ids)
        if around is not None:
            trace, caller = around["trace"], caller or around["caller"]
            offset_ns = around["start"] - around["at"]
        is_used = label in self.ended or any(one["label"] == label for one in self.open)
        own = None if is_used else parse_span_id(label)
        own = own or next(self.span_ids)
        return {
            "operation": operation,
            "label": label,
            "correlation": metadata.get("correlation_id"),
            "request": metadata.get("request_id"),
            "trace": trace,
            "id": own,
            "parent": 0 if parent in {None, own} else parent,
            "caller": caller,
            "at": at_ns,
            "start": at_ns + offset_ns,
            "end": 0,
            "attributes": carried,
            "weight": 1,
            "events": [],
            "error": False,
            "incomplete": None,
        }

    def end(self, operation, event, duration_ns, offset_ns):
        name, measured, metadata, at_ns, emitter = event
        label = metadata.get("span_id")
        found = self.match(operation, metadata, emitter)
        if found is not None:
            self.open.remove(found)
            found["weight"] += 1
            length = max(at_ns - found["at"], 0) if duration_ns is None else duration_ns
            self.close(found, name, {**metadata, **measured}, length)
            return
        if label is not None and label in self.ended and self.ended[label][0] == operation:
            self.unused += 1
            self.repeated += 1
            return
        ending = {"event": event, "finished": duration_ns is not None, "host": None}
        if duration_ns is None:
            ending["host"], ending["note"] = self.note(event)
        else:
            span = self.place(operation, metadata, metadata, at_ns - duration_ns, offset_ns)
            self.close(span, name, {**metadata, **measured}, duration_ns)
            if label is not None:
                return
        keys = ["correlation_id", "request_id"] if label is None else ["span_id"]
        self.early |= {
            (operation, key, metadata[key]): ending for key in keys if metadata.get(key) is not None
        }

    def match(self, operation, metadata, emitter):
        label, correlation, request = (
            metadata.get(f"{key}_id") for key in ("span", "correlation", "request")
        )
        same = [one for one in reversed(self.open) if one["operation"] == operation]
        if label is not None:
            return next((one for one in same if one["label"] == label), None)

        def agrees(one, correlation, request):
            return (correlation is None or one["correlation"] in {None, correlation}) and (
                request is None or one["request"] in {None, request}
            )

        if correlation is not None:
            for one in same:
                if one["correlation"] == correlation:
                    return one
        if request is not None:
            found = next((one for one in same if one["request"] == request), None)
            if found is not None and agrees(found, correlation, None):
                return found
        of_emitter = [one for one in same if one["emitter"] == emitter]
        if of_emitter and agrees(of_emitter[0], correlation, request):
            return of_emitter[0]
        return next(
            (one for one in of_emitter if one["correlation"] is None and one["request"] is None), None
        )

    def awaited(self, operation, metadata, at_ns):
        """The ending that came before this start: the latest under its ids, if these do not disagree."""
        keys = [(key, metadata.get(key)) for key in ("span_id", "correlation_id", "request_id")]
        for key, known in keys:
            found = None if known is None else self.early.get((operation, key, known))
            if found is None:
                continue
            said = found["event"][2]
            agree = all(
                other == "span_id" or None in {its, said.get(other)} or its == said.get(other)
                for other, its in keys
            )
            if key == "span_id" or (at_ns <= found["event"][3] and agree):
                self.early = {place: one for place, one in self.early.items() if one is not found}
                return found
        return None

    def note(self, event):
        name, measured, metadata, at_ns, _ = event
        label, correlation = metadata.get("span_id"), metadata.get("correlation_id")
        hosts = [one for one in self.open if label is not None and one["label"] == label]
        if not hosts:
            hosts = [
                one for one in self.open if correlation is not None and one["correlation"] == correlation
            ]
        if not hosts:
            self.unused += 1
            return None, None
        host = hosts[-1]
        note = [name, host["start"] + max(at_ns - host["at"], 0), {**metadata, **measured}]
        host["events"].append(note)
        host["weight"] += 1
        return host, note

    def close(self, span, name, said, length):
        span["end"] = span["start"] + length
        span["error"] = classify(name)[1].value == "error"
        span["attributes"] = {**span["attributes"], **said}
        self.finish(span, None)

    def finish(self, span, incomplete):
        span["incomplete"] = incomplete
        if span["label"] is not None:
            self.ended[span["label"]] = (span["operation"], span["trace"], span["start"] - span["at"])
        self.finished.append(span)


labels = st.sampled_from([None, None, "mine", format_span_id(1), format_span_id(2)])
tables = st.fixed_dictionaries(
    {},
    optional={
        "span_id": labels,
        "parent_span_id": labels,
        "trace_id": st.sampled_from([None, "mine", format_trace_id(1), format_trace_id(2)]),
        "traceparent": st.sampled_from([None, "mine", format_traceparent(1, 77), format_traceparent(9, 2)]),
        "correlation_id": st.sampled_from([None, "x", "y"]),
        "request_id": st.sampled_from([None, 1, 2]),
        "item": st.integers(0, 3),
    },
)
measurements = st.sampled_from([{}, {}, {"duration_ms": 3}, {"queue": 1}])
names = st.sampled_from(["a.start", "a.start", "a.stop", "a.failed", "b.start", "b.stop", "note"])
jitter = st.integers(-3, 3)
programs = st.lists(st.tuples(names, measurements, tables, jitter, st.sampled_from(["p", "q"])), max_size=40)


@settings(max_examples=examples(400))
@given(programs, st.sampled_from([1, 3, 100]), st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_any_events_at_all_are_assembled_as_the_rules_say(program, limit, hours):
    books, model = Books(limit), Model(limit)
    for position, (name, measured, metadata, late, emitter) in enumerate(program):
        at_ns = (10 + position - late) * MILLISECOND
        # The clock is set to and fro; what is open keeps its own.
        offset_ns = WALL + hours[position % len(hours)] * 3600 * SECOND
        event = (name, measured, metadata, at_ns, emitter)
        books.take([event], offset_ns)
        model.take(event, offset_ns)
    assert (books.unused, books.repeated, books.rejected) == (model.unused, model.repeated, 0)
    assert books.surplus == model.surplus
    assert [compared(span) for span in books.spans] == [expected(span) for span in model.finished]
    assert len(books.assembler) == len(model.open)
    books.add(books.assembler.end_open())
    assert books.assembler.held == 0
    assert len({span.span_id for span in books.spans}) == len(books.spans)


def compared(span):
    events = [[event.name, event.at_ns, dict(event.attributes)] for event in span.events or ()]
    return {
        "operation": span.name,
        "trace": span.trace_id,
        "id": span.span_id,
        "parent": span.parent_span_id,
        "caller": span.caller,
        "start": span.start_ns,
        "end": span.end_ns if span.incomplete is None else 0,
        "attributes": dict(span.attributes),
        "weight": span.weight,
        "events": events,
        "error": span.error,
        "incomplete": span.incomplete,
    }


def expected(span):
    return {key: span[key] for key in compared_keys}


compared_keys = (
    "operation",
    "trace",
    "id",
    "parent",
    "caller",
    "start",
    "end",
    "attributes",
    "weight",
    "events",
    "error",
    "incomplete",
)
