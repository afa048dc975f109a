import enum
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpylib_telemetry.tracing import phases
from otpylib_telemetry.tracing.identifiers import identifier
from otpylib_telemetry.tracing.open_operations import OpenOperations
from otpylib_telemetry.tracing.phases import Phase, classify

SECOND = 1_000_000_000


def book(limit=100, ttl_ns=10 * SECOND):
    return OpenOperations(limit, ttl_ns)


def values(opened):
    return [entry.value for entry in opened]


class TestClassify:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("shop.checkout.start", ("shop.checkout", Phase.START)),
            ("shop.checkout.stop", ("shop.checkout", Phase.OK)),
            ("shop.checkout.success", ("shop.checkout", Phase.OK)),
            ("shop.checkout.error", ("shop.checkout", Phase.ERROR)),
            ("shop.checkout.exception", ("shop.checkout", Phase.ERROR)),
            ("shop.checkout.failed", ("shop.checkout", Phase.ERROR)),
            ("a.start", ("a", Phase.START)),
            ("shop.checkout.retried", ("shop.checkout.retried", Phase.NONE)),
            ("shop.checkout.Start", ("shop.checkout.Start", Phase.NONE)),
            ("start", ("start", Phase.NONE)),
            (".start", (".start", Phase.NONE)),
            ("", ("", Phase.NONE)),
            ("..stop", (".", Phase.OK)),
            ("a.start.", ("a.start.", Phase.NONE)),
        ],
    )
    def test_the_last_part_of_the_name_says_what_the_event_means(self, name, expected):
        assert classify(name) == expected
        assert classify(name) == expected

    def test_names_made_of_data_do_not_fill_the_memory(self):
        for number in range(phases._MEMO_LIMIT + 5):
            classify(f"order.{number}.start")
        assert len(phases.classified) <= phases._MEMO_LIMIT


class Lying:
    @property
    def __class__(self):
        raise RuntimeError("no class")

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None


def made(value):
    """Values that pytest itself trips over are given as their class."""
    return value() if value is Lying else value


class Name(str):
    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    def __hash__(self):
        raise RuntimeError("no hash")


class Level(enum.IntEnum):
    HIGH = 3


class Rude(str):
    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = str.__hash__


def test_a_name_that_cannot_be_compared_does_not_spoil_the_same_name_for_others():
    assert classify(Rude("rude.start")) == ("rude", Phase.START)
    assert classify("rude.start") == ("rude", Phase.START)
    with pytest.raises(TypeError):
        classify(None)


class TestIdentifier:
    @pytest.mark.parametrize("value", ["a", 0, 7, pytest.param(10**5000, id="huge")])
    def test_text_and_whole_numbers_are_identifiers(self, value):
        assert identifier(value) is value

    @pytest.mark.parametrize("value", ["", None, True, 1.5, b"a", [], {}, ("a",), object(), Lying, Name("")])
    def test_everything_else_is_as_good_as_absent(self, value):
        assert identifier(made(value)) is None

    def test_subclasses_become_the_plain_type(self):
        assert type(identifier(Name("a"))) is str
        assert identifier(Name("a")) == "a"
        assert type(identifier(Level.HIGH)) is int

    def test_a_uuid_means_the_same_as_its_text(self):
        value = uuid.UUID(int=5)
        assert identifier(value) == str(value)


class TestPairing:
    def test_an_ending_finds_its_beginning_by_span_id_whatever_else_differs(self):
        operations = book()
        operations.open("a", {"span_id": "1", "correlation_id": "x"}, "p", 0, "first")
        operations.open("a", {"span_id": "2", "correlation_id": "x"}, "p", 0, "second")
        assert operations.close("a", {"span_id": "1", "correlation_id": "y"}, "q").value == "first"
        assert operations.close("a", {"span_id": "2"}, "q").value == "second"
        assert len(operations) == 0

    def test_a_span_id_that_is_not_open_here_pairs_with_nothing_else(self):
        operations = book()
        operations.open("a", {"correlation_id": "x"}, "p", 0, "other")
        assert operations.close("a", {"span_id": "9", "correlation_id": "x"}, "p") is None
        assert len(operations) == 1

    def test_a_span_id_ends_only_the_operation_of_the_same_name(self):
        operations = book()
        operations.open("outer", {"span_id": "1"}, "p", 0, "outer")
        assert operations.close("inner", {"span_id": "1"}, "p") is None
        assert len(operations) == 1

    def test_correlation_ids_keep_interleaved_operations_apart(self):
        operations = book()
        for key in ("x", "y", "z"):
            operations.open("a", {"correlation_id": key}, "p", 0, key)
        assert [operations.close("a", {"correlation_id": key}, "q").value for key in ("y", "x", "z")] == list(
            "yxz"
        )

    def test_request_ids_do_when_there_is_no_correlation_id(self):
        operations = book()
        operations.open("a", {"request_id": 1}, "p", 0, "one")
        operations.open("a", {"request_id": 2}, "p", 0, "two")
        assert operations.close("a", {"request_id": 1}, "q").value == "one"

    def test_a_beginning_without_the_correlation_id_is_found_by_the_request_id(self):
        operations = book()
        operations.open("a", {"request_id": 1}, "p", 0, "one")
        assert operations.close("a", {"correlation_id": "x", "request_id": 1}, "q").value == "one"

    def test_a_shared_request_id_does_not_pair_different_correlation_ids(self):
        operations = book()
        operations.open("a", {"correlation_id": "x", "request_id": 1}, "p", 0, "one")
        assert operations.close("a", {"correlation_id": "y", "request_id": 1}, "p") is None

    def test_without_ids_the_emitter_decides(self):
        operations = book()
        operations.open("a", {}, "p", 0, "p's")
        operations.open("a", {}, "q", 0, "q's")
        assert operations.close("a", {}, "p").value == "p's"
        assert operations.close("a", {}, "p") is None

    def test_the_last_opened_goes_first(self):
        operations = book()
        for value in (1, 2, 3):
            operations.open("a", {"correlation_id": "x"}, "p", 0, value)
        assert [operations.close("a", {"correlation_id": "x"}, "p").value for _ in range(3)] == [3, 2, 1]

    def test_an_ending_without_ids_ends_a_beginning_that_has_some(self):
        operations = book()
        operations.open("a", {"correlation_id": "x", "request_id": 5}, "p", 0, "one")
        assert operations.close("a", {}, "p").value == "one"

    def test_an_ending_with_ids_ends_a_beginning_that_has_none(self):
        operations = book()
        operations.open("a", {}, "p", 0, "bare")
        operations.open("a", {"correlation_id": "y"}, "p", 0, "y")
        assert operations.close("a", {"correlation_id": "x"}, "p").value == "bare"

    def test_an_ending_never_ends_somebody_elses_operation(self):
        operations = book()
        operations.open("a", {"correlation_id": "y"}, "p", 0, "y")
        assert operations.close("a", {"correlation_id": "x"}, "p") is None

    def test_names_are_kept_apart(self):
        operations = book()
        operations.open("a", {"correlation_id": "x"}, "p", 0, "a")
        assert operations.close("b", {"correlation_id": "x"}, "p") is None

    @pytest.mark.parametrize("odd", [None, True, 1.5, "", b"x", [], Lying])
    def test_an_odd_id_is_as_good_as_none(self, odd):
        odd = made(odd)
        operations = book()
        metadata = {"span_id": odd, "correlation_id": odd, "request_id": odd}
        operations.open("a", metadata, "p", 0, "one")
        assert operations.find(odd) is None
        assert operations.close("a", metadata, "p").value == "one"

    def test_metadata_changed_afterwards_changes_nothing(self):
        operations = book()
        metadata = {"correlation_id": "x"}
        operations.open("a", metadata, "p", 0, "one")
        metadata["correlation_id"] = "y"
        assert operations.close("a", {"correlation_id": "x"}, "q").value == "one"

    def test_an_emitter_that_cannot_be_hashed_pairs_by_ids_only(self):
        operations = book()
        operations.open("a", {"correlation_id": "x"}, [], 0, "one")
        operations.open("a", {}, [], 0, "two")
        operations.open("a", {}, "p", 0, "three")
        assert operations.close("a", {}, "p").value == "three"
        assert operations.close("a", {}, []) is None
        assert operations.close("a", {"correlation_id": "x"}, []).value == "one"
        assert operations.orphaned(lambda emitter: False) == []
        assert values(operations.drain()) == ["two"]

    def test_equal_emitters_are_one_however_many_objects_they_are(self):
        operations = book()
        operations.open("a", {}, (1, "node"), 0, "one")
        operations.open("a", {}, (2, "node"), 0, "two")
        assert operations.close("a", {}, tuple(iter((1, "node")))).value == "one"

    def test_the_emitter_is_looked_up_behind_any_number_of_other_operations(self):
        operations = book(limit=10_000)
        operations.open("a", {}, "p", 0, "first")
        for number in range(1000):
            operations.open("a", {"correlation_id": number}, "q", 0, number)
            operations.open("b", {}, "p", 0, number)
        for number in range(500):
            operations.close("a", {"correlation_id": number}, "q")
        assert operations.close("a", {}, "p").value == "first"
        operations.open("a", {}, "p", 0, "second")
        assert operations.close("a", {}, "p").value == "second"

    def test_one_span_id_may_be_used_by_several_names(self):
        operations = book()
        for name in ("a", "b", "a"):
            operations.open(name, {"span_id": "1"}, "p", 0, name)
        assert operations.close("b", {"span_id": "1"}, "p").value == "b"
        assert operations.close("b", {"span_id": "1"}, "p") is None
        assert operations.close("a", {"span_id": "1"}, "p").value == "a"
        assert len(operations) == 1


class TestFind:
    def test_the_innermost_operation_is_found(self):
        operations = book()
        operations.open("outer", {"correlation_id": "x"}, "p", 0, "outer")
        operations.open("inner", {"correlation_id": "x"}, "q", 0, "inner")
        assert operations.find("x").value == "inner"
        operations.close("inner", {"correlation_id": "x"}, "q")
        assert operations.find("x").value == "outer"
        operations.close("outer", {"correlation_id": "x"}, "p")
        assert operations.find("x") is None

    def test_the_outer_one_may_end_first(self):
        operations = book()
        operations.open("outer", {"correlation_id": "x"}, "p", 0, "outer")
        operations.open("inner", {"correlation_id": "x"}, "p", 0, "inner")
        operations.close("outer", {"correlation_id": "x"}, "p")
        assert operations.find("x").value == "inner"

    def test_a_span_id_finds_what_is_open_with_it(self):
        operations = book()
        operations.open("outer", {"span_id": "1"}, "p", 0, "outer")
        operations.open("inner", {"span_id": uuid.UUID(int=1)}, "p", 0, "inner")
        assert operations.find_span("1").value == "outer"
        assert operations.find_span(str(uuid.UUID(int=1))).value == "inner"
        assert operations.find_span("1", "inner") is None
        assert operations.find_span("1", "outer").value == "outer"
        assert operations.find_span([]) is None
        assert operations.find_span("2") is None
        assert set(operations.span_ids) == {"1", str(uuid.UUID(int=1))}

    def test_of_several_with_one_span_id_the_last_is_found(self):
        operations = book()
        for value in ("first", "second"):
            operations.open(value, {"span_id": "1"}, "p", 0, value)
        assert operations.find_span("1").value == "second"
        operations.close("second", {"span_id": "1"}, "p")
        assert operations.find_span("1").value == "first"

    def test_membership_and_order_are_those_of_what_is_open(self):
        operations = book()
        for value in range(3):
            operations.open("a", {"span_id": value}, "p", 0, value)
        ended = operations.close("a", {"span_id": 1}, "p")
        assert ended not in operations
        assert values(operations) == [0, 2]
        assert all(opened in operations for opened in operations)


class TestGivingUp:
    def test_the_oldest_go_when_there_are_too_many(self):
        operations = book(limit=2)
        assert not operations.open("a", {}, "p", 0, 1)
        assert not operations.open("a", {}, "p", 1, 2)
        assert values(operations.open("a", {}, "p", 2, 3)) == [1]
        operations.limit = 1
        assert values(operations.open("a", {}, "p", 3, 4)) == [2, 3]
        assert operations.close("a", {}, "p").value == 4
        assert operations.close("a", {}, "p") is None

    def test_what_is_overdue_goes_and_what_is_not_stays(self):
        operations = book(ttl_ns=10)
        operations.open("a", {"correlation_id": "x"}, "p", 0, "old")
        operations.open("a", {"correlation_id": "y"}, "p", 5, "young")
        assert operations.overdue(9) == []
        assert values(operations.overdue(10)) == ["old"]
        assert operations.find("x") is None
        operations.ttl_ns = 1
        assert values(operations.overdue(11)) == ["young"]

    def test_what_the_dead_left_behind_goes(self):
        operations = book()
        for emitter in ("p", "q", "p"):
            operations.open("a", {}, emitter, 0, emitter)
        asked = []

        def alive(emitter):
            asked.append(emitter)
            return emitter == "q"

        assert values(operations.orphaned(alive)) == ["p", "p"]
        assert asked == ["p", "q"]
        assert len(operations) == 1

    def test_drain_empties_the_book(self):
        operations = book()
        for value in range(3):
            operations.open("a", {"correlation_id": "x", "span_id": str(value)}, "p", 0, value)
        assert values(operations.drain()) == [0, 1, 2]
        assert len(operations) == 0
        assert operations.find("x") is None

    def test_nothing_remains_of_what_ended(self):
        operations = book(limit=5)
        for number in range(50):
            metadata = {"correlation_id": number % 7, "request_id": number % 3, "span_id": str(number % 11)}
            operations.open("a", metadata if number % 2 else {}, number % 4, number, number)
            if number % 3 == 0:
                operations.close("a", {"correlation_id": number % 7}, number % 4)
        operations.drain()
        left = [getattr(operations, name) for name in operations.__slots__]
        assert not any(table for table in left if isinstance(table, dict))
        assert sum(isinstance(table, dict) for table in left) == 5


ids = st.sampled_from([None, "1", "2", "3"])
steps = st.lists(
    st.tuples(st.booleans(), st.sampled_from("ab"), ids, ids, ids, st.sampled_from("pq")), max_size=60
)


def expected_match(entries, operation, span_id, correlation_id, request_id, emitter):
    """The rules once more, as plainly as can be: look through everything, last opened first."""
    same = [entry for entry in reversed(entries) if entry["operation"] == operation]
    if span_id is not None:
        return next((entry for entry in same if entry["span_id"] == span_id), None)

    def agrees(entry, key, given):
        return given is None or entry[key] in {None, given}

    if correlation_id is not None:
        for entry in same:
            if entry["correlation_id"] == correlation_id:
                return entry
    if request_id is not None:
        found = next((entry for entry in same if entry["request_id"] == request_id), None)
        if found is not None and agrees(found, "correlation_id", correlation_id):
            return found
    by_emitter = [entry for entry in same if entry["emitter"] == emitter]
    for entry in by_emitter[:1]:
        if agrees(entry, "correlation_id", correlation_id) and agrees(entry, "request_id", request_id):
            return entry
    bare = [entry for entry in by_emitter if entry["correlation_id"] is None and entry["request_id"] is None]
    return bare[0] if bare else None


@given(steps)
def test_any_sequence_pairs_as_the_rules_say(sequence):
    operations = book(limit=1000)
    entries = []
    for number, (opens, operation, span_id, correlation_id, request_id, emitter) in enumerate(sequence):
        given_ids = {"span_id": span_id, "correlation_id": correlation_id, "request_id": request_id}
        metadata = {key: value for key, value in given_ids.items() if value is not None}
        if opens:
            operations.open(operation, metadata, emitter, number, number)
            entries.append({"operation": operation, "emitter": emitter, "value": number, **given_ids})
        else:
            expected = expected_match(entries, operation, span_id, correlation_id, request_id, emitter)
            found = operations.close(operation, metadata, emitter)
            assert (found and found.value) == (expected and expected["value"])
            if expected is not None:
                entries.remove(expected)
        assert len(operations) == len(entries)
        for key in ("1", "2", "3"):
            innermost = operations.find(key)
            under = [entry["value"] for entry in entries if entry["correlation_id"] == key]
            assert (None if innermost is None else innermost.value) == (under[-1] if under else None)
