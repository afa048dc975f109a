"""Which capture an event belongs to, when several are open at the same time.

Captures form a tree: one that is opened inside another is its child, whichever task or process it is opened
in. A context variable says which capture the running code belongs to; tasks inherit it, and so do otpylib
processes.
"""

from __future__ import annotations

import contextlib
import enum
from contextvars import ContextVar
from typing import TYPE_CHECKING

from otpylib_telemetry.primitives.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Generator


class Claim(enum.Enum):
    """What an event is to a capture."""

    MINE = "mine"
    AMBIGUOUS = "ambiguous"
    STRAY = "stray"
    FOREIGN = "foreign"


_lock = new_lock()


class Owner:
    """A node of the tree."""

    __slots__ = ("is_open", "open_children", "parent")

    def __init__(self, parent: Owner | None) -> None:
        self.parent = parent
        self.open_children = 0
        self.is_open = True
        if parent is not None:
            with _lock:
                parent.open_children += 1

    def close(self) -> None:
        """Take it out of the tree; what it owns stays its own."""
        with _lock:
            if self.is_open and self.parent is not None:
                self.is_open = False
                self.parent.open_children -= 1

    def claim(self, emitting: Owner) -> Claim:
        """Tell what an event is to this node."""
        node: Owner | None = emitting
        while node is not None:
            if node is self:
                return Claim.MINE
            node = node.parent
        if not emitting.is_open:
            return Claim.STRAY
        return self._claim_from_above(emitting)

    def _claim_from_above(self, emitting: Owner) -> Claim:
        alone = True
        node = self
        while node is not emitting:
            parent = node.parent
            if parent is None or not parent.is_open:
                return Claim.FOREIGN
            alone = alone and parent.open_children == 1
            node = parent
        return Claim.MINE if alone else Claim.AMBIGUOUS


ROOT = Owner(None)

current: ContextVar[Owner] = ContextVar("otpylib_telemetry_capture", default=ROOT)


@contextlib.contextmanager
def owned_by(owner: Owner) -> Generator[None]:
    """Have what is emitted in the block belong to a node."""
    token = current.set(owner)
    try:
        yield
    finally:
        current.reset(token)


def new_owner() -> Owner:
    """Return a new node below that of the running code, or below the nearest above it that is open."""
    parent = current.get()
    while not parent.is_open and parent.parent is not None:
        parent = parent.parent
    return Owner(parent)
