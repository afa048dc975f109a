"""What can be tried of settings before an exporter goes by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that settings name, such as a file or a destination, and how to find out whether it is good.

    Attributes:
        what: What is tried, without anything secret: "traces to http://collector:4317".
        attempt: Tries it, in so many seconds at most; may block. An exception says what is wrong.
        connects: Whether it leaves the process, by the network or by a port; the others read files alone.
        takes: Whether it takes what an exporter with these settings has for itself, such as a port.
    """

    what: str
    attempt: Callable[[float], object]
    connects: bool = False
    takes: bool = False
