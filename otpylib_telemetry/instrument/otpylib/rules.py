"""What is recorded of which actors, as settings say: which servers and messages, and how they are related."""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
