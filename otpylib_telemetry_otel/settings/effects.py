"""What a change of settings would do to connections and spans, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpylib_telemetry_otel.settings.places import places

if TYPE_CHECKING:
    from otpylib_telemetry_otel.settings.model import OtelSettings


def told_effects(
    before: OtelSettings, after: OtelSettings, changed: frozenset[str], *, in_place: frozenset[str]
) -> list[str]:
    """Return them."""
    told: list[str] = []
    if changed - in_place:
        told.append(f"connections are closed and made anew, and what waits is sent on them: {places(after)}")
        if places(before) != places(after):
            told.append(f"as it is: {places(before)}")
    if "sampling_rate" in changed:
        told.append(
            f"of the traces that begin from now on {after.sampling_rate:g} are kept, of those so far "
            f"{before.sampling_rate:g}"
        )
    if series := changed & type(after).keys_with("remakes", "series"):
        told.append(f"series that {', '.join(sorted(series))} change begin again")
    return told
