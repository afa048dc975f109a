"""Values without their secrets, for whoever reads along and is no exporter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.primitives.any_value import Bounds, any_value
from otpylib_telemetry.scrubbing.plan import DEFAULT_PLAN, ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import Scrubber

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How much of an event is shown: whoever reads along reads no more.
_BOUNDS: Final = Bounds(depth=6, width=256, elements=2_048, length=4_096)

_by_default: Final = Scrubber(DEFAULT_PLAN, Counter())


def scrubbed_value(value: Any, scrubber: Scrubber = _by_default) -> Any:
    """Return a value of any kind as plain data without secrets; never raises."""
    return scrubber.value(any_value(value, _BOUNDS))


def strictest(plans: Iterable[ScrubPlan]) -> ScrubPlan:
    """Return the plan that masks what any of these takes out, and what is by default; it keeps nothing."""
    keys: dict[str, None] = {}
    values: dict[str, None] = {}
    for plan in plans:
        keys |= dict.fromkeys(pattern for pattern, _ in plan.keys)
        values |= dict.fromkeys(pattern for pattern, _ in plan.values)
    return ScrubPlan(
        keys=tuple((pattern, None) for pattern in keys), values=tuple((pattern, None) for pattern in values)
    )
