"""What a message is, told without a comparison that could fail."""

from __future__ import annotations

from typing import Any

from otpylib.runtime.atoms import DOWN, EXIT


def down_pid(message: Any) -> Any | None:
    """Return the pid a DOWN message is about, or None for any other message.

    Defect: DOWN comes in two shapes, ``(DOWN, ref, process, pid, reason)`` and ``(DOWN, ref, pid, reason)``,
    and references collide, so that only the pid can be trusted.
    """
    match message:
        case (tag, _, _, pid, _) if tag is DOWN:
            return pid
        case (tag, _, pid, _) if tag is DOWN:
            return pid
        case _:
            return None


def exit_sender(message: Any) -> Any | None:
    """Return who sent an EXIT message, or None for any other message.

    Defect: otpylib's supervisor traps exits and then ignores them, so that a nested one outlives the tree.
    """
    match message:
        case (tag, sender, _) if tag is EXIT:
            return sender
        case _:
            return None


def is_request(message: Any, tag: str, size: int = 1) -> bool:
    """Tell whether a message is a tuple of ``size`` that begins with ``tag``, whatever it is made of.

    Defect: a message whose ``__eq__`` raises kills a server that compares it.
    """
    return type(message) is tuple and len(message) == size and type(message[0]) is str and message[0] == tag
