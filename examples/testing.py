"""Tests of what code emits. The fixture ``telemetry`` comes with the package: there is nothing to set up.

Run it with pytest, or as a script, which does the same.
"""

import subprocess
import sys

import pytest

from otpylib_telemetry import execute, span
from otpylib_telemetry_mock import Capture, assert_emitted, assert_spans_balanced, refute_emitted

# --- the code under test: yours, in a module of its own ----------------------------------------------------


def checkout(order: int, price: float) -> None:
    """Sell something."""
    with span("shop.checkout", {"order": order}):
        if price < 0:
            raise ValueError("a price is never negative")
        execute("shop.sold", {"value": price}, {"order": order})


# --- its tests ---------------------------------------------------------------------------------------------


def test_a_checkout_tells_what_was_sold(telemetry: Capture) -> None:
    """Measurements and metadata are compared with ``==``; entries that are not named may be anything."""
    checkout(order=7, price=12.5)
    assert_emitted(telemetry, "shop.sold", {"value": pytest.approx(12.5)}, {"order": 7}, count=1)
    assert_spans_balanced(telemetry, "shop.*", count=1)


def test_a_refused_checkout_tells_why(telemetry: Capture) -> None:
    """What is returned are the events that match."""
    with pytest.raises(ValueError, match="never negative"):
        checkout(order=7, price=-1)
    [event] = assert_emitted(telemetry, "shop.checkout.error", metadata={"error_type": "ValueError"})
    assert event.metadata["error"] == "a price is never negative"
    refute_emitted(telemetry, "shop.sold")


@pytest.mark.telemetry("shop.sold")
def test_the_marker_says_what_is_captured(telemetry: Capture) -> None:
    """Of all that a test emits, only what matches is held."""
    checkout(order=8, price=20)
    assert [event["event_name"] for event in telemetry.events] == ["shop.sold"]


if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-q", __file__, *sys.argv[1:]]))
