"""Regular expressions that people write: taken only if no text can make them block.

They run on the event loop, and Python's engine cannot be interrupted. So each is tried, before it is taken,
with the texts that are worst for it: what its repetitions repeat, again and again, and then something that
does not fit. They become longer step by step, so that an expression gives itself away long before it blocks.
"""

from __future__ import annotations

import functools
import re
import time
from itertools import islice
from re import _constants as ops  # type: ignore[attr-defined]  # where Python keeps the names of a parsed expression
from re import _parser as parser  # type: ignore[attr-defined]  # likewise
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Characters of a text that an expression is given in one piece.
PIECE: Final = 1_024

_LONGEST: Final = 1_000

#: Seconds one piece may take, of the thread's own time.
_LIMIT: Final = 0.03

#: The lengths tried: each at first, because the time may double with every character.
_LENGTHS: Final = (*range(1, 41), *(50, 64, 96, 128, 192, 256, 384, 512), PIECE)

#: Repetitions looked at, texts tried for each, and characters tried of a set.
_REPEATS, _SAMPLES, _CHARACTERS = 24, 6, 3

_GENERIC: Final = ("a", "0", " ", "-", "a0", "a ", "a.", "a@")


@functools.lru_cache(maxsize=256)
def safe_expression(text: str) -> re.Pattern[str]:
    """Return a regular expression that cannot block.

    Raises:
        ValueError: It is none, it finds something in an empty text, or it takes too long for some texts.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"expected a regular expression of at most {_LONGEST} characters")
    try:
        pattern = re.compile(text)
        tree = parser.parse(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression ({error})") from None
    if pattern.search("") is not None:
        raise ValueError(
            "expected a regular expression that does not match an empty text: it would match all"
        )
    if any(body.getwidth()[0] == 0 for body in _bodies(tree)):
        raise ValueError("expected a regular expression that does not repeat what may be empty")
    for before, pump in islice(dict.fromkeys(_attacks(tree)), _REPEATS * _SAMPLES):
        _try(pattern, before, pump)
    return pattern


def _try(pattern: re.Pattern[str], before: str, pump: str) -> None:
    for length in _LENGTHS:
        for after in ("\x00", "!", ""):
            text = before + pump * (length // len(pump) + 1) + after
            began = time.thread_time()
            for _ in pattern.finditer(text):
                pass
            if time.thread_time() - began > _LIMIT:
                raise ValueError(
                    f"expected a regular expression that is quick for every text; this one takes ever longer "
                    f"for texts such as {(before + pump * 3)[:20]!r}, repeated. Repetitions inside "
                    "repetitions, or one right after another, do that"
                )


def _attacks(tree: Any) -> Iterator[tuple[str, str]]:
    for pump in _GENERIC:
        yield "", pump
    for before, body in islice(_repeats(tree, ""), _REPEATS):
        for sample in islice(_samples(body), _SAMPLES):
            if sample:
                yield before, sample
                yield "", sample


def _repeats(tree: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Yield every repetition: a text that leads to it, and what it repeats."""
    for op, argument in tree:
        for part in _parts(op, argument):
            yield from _repeats(part, before)
        if op in _REPETITIONS:
            yield before, argument[2]
        before += next(_samples([(op, argument)]), "")


def _bodies(tree: Any) -> Iterator[Any]:
    """Yield what is repeated."""
    for op, argument in tree:
        if op in _REPETITIONS and argument[1] > 1:
            yield argument[2]
        for part in _parts(op, argument):
            yield from _bodies(part)


_REPETITIONS: Final = (ops.MAX_REPEAT, ops.MIN_REPEAT, ops.POSSESSIVE_REPEAT)


def _parts(op: Any, argument: Any) -> list[Any]:  # noqa: PLR0911 - one for each kind of part
    if op in _REPETITIONS:
        return [argument[2]]
    if op is ops.SUBPATTERN:
        return [argument[3]]
    if op is ops.BRANCH:
        return list(argument[1])
    if op is ops.ATOMIC_GROUP:
        return [argument]
    if op in {ops.ASSERT, ops.ASSERT_NOT}:
        return [argument[1]]
    if op is ops.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part is not None]
    return []


def _samples(tree: Any) -> Iterator[str]:
    """Yield some texts that a part of an expression matches, or nearly does."""
    several = [list(islice(_of_one(op, argument), _SAMPLES)) or [""] for op, argument in tree]
    for number in range(max((len(each) for each in several), default=0)):
        yield "".join(each[number % len(each)] for each in several)


def _of_one(op: Any, argument: Any) -> Iterator[str]:
    if op is ops.LITERAL:
        yield chr(argument)
    elif op is ops.NOT_LITERAL:
        yield "a" if argument != ord("a") else "b"
    elif op is ops.ANY:
        yield from ("a", " ", "0")
    elif op is ops.IN:
        yield from islice(_of_set(argument), _CHARACTERS)
    elif op in _REPETITIONS:
        for sample in _samples(argument[2]):
            yield sample * max(1, min(argument[0], 4))
    elif op is ops.BRANCH:
        for branch in argument[1]:
            yield from islice(_samples(branch), 2)
    elif op in {ops.SUBPATTERN, ops.ATOMIC_GROUP}:
        yield from _samples(argument[3] if op is ops.SUBPATTERN else argument)


def _of_set(members: Any) -> Iterator[str]:
    if members[0][0] is ops.NEGATE:
        yield from ("a", " ", "0")
        return
    for op, argument in members:
        if op is ops.LITERAL:
            yield chr(argument)
        elif op is ops.RANGE:
            yield chr(argument[0])
        else:
            yield from _CATEGORIES.get(argument, ("a",))


_CATEGORIES: Final = {
    ops.CATEGORY_DIGIT: ("0",),
    ops.CATEGORY_SPACE: (" ",),
    ops.CATEGORY_WORD: ("a", "0"),
    ops.CATEGORY_NOT_DIGIT: ("a", " "),
    ops.CATEGORY_NOT_SPACE: ("a", "0"),
    ops.CATEGORY_NOT_WORD: (" ", "-"),
}
