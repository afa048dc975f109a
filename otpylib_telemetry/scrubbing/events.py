"""Events and values without their secrets, by the rules that hold where nobody has set anything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.any_value import Bounds, any_value, any_values
from otpylib_telemetry.scrubbing.plan import DEFAULT_PLAN
from otpylib_telemetry.scrubbing.scrubber import Scrubber

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How much of an event is shown: whoever reads along reads no more.
_BOUNDS: Final = Bounds(depth=6, width=256, elements=2_048, length=4_096)

_scrubber: Final = Scrubber(DEFAULT_PLAN, Counter())


def scrubbed_value(value: Any) -> Any:
    """Return a value of any kind as plain data without secrets; never raises."""
    return _scrubber.value(any_value(value, _BOUNDS))


def scrubbed_event(
    measurements: Mapping[str, Any], metadata: Mapping[Any, Any], scrubber: Scrubber | None = None
) -> dict[str, Any]:
    """Return the metadata of an event as plain data without secrets; never raises.

    Args:
        measurements: Its measurements. They are numbers, and no secrets.
        metadata: Its metadata, any objects under any keys.
        scrubber: What scrubs; by default what does so where nobody has set anything.

    Returns:
        Texts, numbers, flags, bytes, tuples and tables of these.
    """
    del measurements
    table, _ = any_values(metadata, _BOUNDS)
    return {**(scrubber or _scrubber).attributes(table)}
