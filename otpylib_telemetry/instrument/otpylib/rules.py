"""What is recorded of which actors, as settings say: which servers and messages, and how they are related."""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: How a handled message is related to what its sender was doing: part of it, linked to it, or not at all.
CHILD: Final = "child"
LINK: Final = "link"
NONE: Final = "none"

#: The kinds of messages.
CALL: Final = "call"
CAST: Final = "cast"
INFO: Final = "info"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is recorded.

    Attributes:
        include: Patterns of servers' names or modules; only these are recorded.
        exclude: Patterns of those that are not.
        messages: Patterns of messages' tags; only these are recorded.
        calls: How a call is related to its caller: ``child``, ``link`` or ``none``.
        casts: The same for a cast.
        infos: The same for any other message.
        loop_stall_ms: How long the event loop may stand before that is told, in milliseconds; 0 for never.
        recorder: How many messages each named server remembers for the case that it crashes; 0 for none.
        payloads: Whether it remembers what was in them, too.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    messages: tuple[str, ...] = ("*",)
    calls: str = CHILD
    casts: str = CHILD
    infos: str = CHILD
    loop_stall_ms: float = 100.0
    recorder: int = 20
    payloads: bool = False

    def sees_server(self, *named: str) -> bool:
        """Tell whether a server is recorded, by its name, its module, or whatever else it is known by."""
        return any(map(_matcher(self.include), named)) and not any(map(_matcher(self.exclude), named))

    def sees_message(self, tag: str) -> bool:
        """Tell whether messages of a tag are recorded."""
        return _matcher(self.messages)(tag)

    def relation(self, kind: str) -> str:
        """Return how messages of a kind are related to their senders."""
        return {CALL: self.calls, CAST: self.casts}.get(kind, self.infos)


def checked(options: Mapping[str, Any]) -> Rules:
    """Return rules with these options.

    Raises:
        TypeError: There is no such option, or it is of another type.
        ValueError: There is no such relation, or a number is negative.
    """
    known = {field.name: field.default for field in dataclasses.fields(Rules)}
    return Rules(**{name: _checked(name, value, known) for name, value in options.items()})


def _checked(name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
        raise TypeError(f"there is no option {name!r}{hint}")
    default = known[name]
    if type(default) is tuple:
        words = (value,) if type(value) is str else value
        if not isinstance(words, list | tuple) or not all(type(word) is str for word in words):
            raise TypeError(f"{name}: expected a pattern or a list of them, got {value!r}")
        return tuple(words)
    if type(default) is str:
        if value not in {CHILD, LINK, NONE}:
            raise ValueError(f"{name}: expected 'child', 'link' or 'none', got {value!r}")
        return value
    expected = (bool,) if type(default) is bool else (int, float) if type(default) is float else (int,)
    if type(value) not in expected:
        raise TypeError(f"{name}: expected {expected[-1].__name__}, got {value!r}")
    if value < 0:
        raise ValueError(f"{name}: expected 0 or more, got {value!r}")
    return value


def _matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    given = tuple(patterns)
    if "*" in given:
        return lambda _name: True
    if not given:
        return lambda _name: False
    compiled = re.compile("|".join(fnmatch.translate(pattern) for pattern in given))
    return lambda name: compiled.match(name) is not None


class _InForce:
    """The rules in force; ``generation`` tells whoever remembers what came of them that they changed."""

    __slots__ = ("generation", "rules")

    def __init__(self) -> None:
        self.rules = Rules()
        self.generation = 0


in_force: Final = _InForce()


def put_in_force(rules: Rules) -> None:
    """Go by other rules from now on."""
    if rules != in_force.rules:
        in_force.rules = rules
        in_force.generation += 1
