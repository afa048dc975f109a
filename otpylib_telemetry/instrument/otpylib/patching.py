"""Attributes of a library replaced by ours, and put back.

What is put back is the very same object, so that nothing tells afterwards that anything was there.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

#: The attribute was inherited, or not there at all.
_ABSENT: Final = object()


class Patch(NamedTuple):
    """One attribute of a module or a class, and what stands there instead."""

    owner: Any
    name: str
    replacement: Any


class Patches:
    """Some attributes that are replaced all together, or not at all."""

    def __init__(self, patches: list[Patch]) -> None:
        self._patches = patches
        self._replaced: list[tuple[Patch, Any]] = []
        #: What somebody else had put around ours when it was undone.
        self._around: dict[tuple[int, str], Any] = {}

    @property
    def applied(self) -> bool:
        """Whether they are in force."""
        return bool(self._replaced)

    def apply(self) -> None:
        """Replace the attributes; nothing happens where they are already."""
        if self._replaced:
            return
        for patch in self._patches:
            present = vars(patch.owner).get(patch.name, _ABSENT)
            if self._around.pop((id(patch.owner), patch.name), _ABSENT) is present:
                # Ours is inside of it, and would be lost together with it.
                continue
            setattr(patch.owner, patch.name, patch.replacement)
            self._replaced.append((patch, present))

    def undo(self) -> list[str]:
        """Put back what was there; return what somebody else has replaced since, which stays as it is."""
        foreign = []
        while self._replaced:
            patch, present = self._replaced.pop()
            now = vars(patch.owner).get(patch.name, _ABSENT)
            if now is not patch.replacement:
                self._around[id(patch.owner), patch.name] = now
                foreign.append(f"{getattr(patch.owner, '__name__', patch.owner)}.{patch.name}")
            elif present is _ABSENT:
                delattr(patch.owner, patch.name)
            else:
                setattr(patch.owner, patch.name, present)
        return foreign
