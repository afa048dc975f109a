"""What a forked child has to do first: it has its parent's memory, but not its threads and event loops."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def after_fork_in_child(function: Callable[[], object]) -> None:
    """Have a function called in every child of this process, in the order of these calls."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)
