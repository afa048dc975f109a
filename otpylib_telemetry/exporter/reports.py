"""What the log says about sending: an outage once, and a backend's remarks from time to time."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.exporter.errors import DestinationError, ExportError
from otpylib_telemetry.exporter.outages import Outages, named
from otpylib_telemetry.primitives.errors import describe, error_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.exporter.lease import Lease

_log = logging.getLogger("otpylib_telemetry")

#: Seconds between two reports of what a backend says about batches it takes.
_REMARK_INTERVAL: Final = 60.0

_FAILS: Final = "%s cannot export%s: %s. %s. Further failures are only counted."
_STILL_FAILS: Final = "%s still does not export%s, for another reason now: %s. %s."


class Reports:
    """Writes what becomes of the attempts of one sender, in their order.

    ``scrub`` takes secrets out of what a backend says.
    """

    def __init__(self, lease: Lease, *, clock: Callable[[], float], scrub: Callable[[str], str]) -> None:
        self._lease = lease
        self._clock = clock
        self._scrub = scrub
        self._outages = Outages()
        # Items refused by a backend that takes the rest, and when its remarks may be told again.
        self._refused_unsaid = 0
        self._remark_at = {True: -math.inf, False: -math.inf}
        # Items that could not be encoded, and when that may be told again.
        self._left_out_unsaid = 0
        self._left_out_at = -math.inf
        # The lanes that failed last for a reason of the destination's.
        self._misdirected: set[str] = set()

    @property
    def trouble(self) -> str | None:
        """What the backend said last, while it is in trouble."""
        return self._outages.trouble

    @property
    def is_misdirected(self) -> bool:
        """Whether the destination is wrong, as far as what it answers tells."""
        return not self._misdirected.isdisjoint(self._outages.troubled)

    def sent(self, lane: str) -> int:
        """Note an attempt; returns the number that :meth:`failed` and :meth:`arrived` know it by."""
        return self._outages.sent(lane)

    def forget(self) -> None:
        """Forget the outage there may be."""
        self._outages.forget()

    def took(self, refused: int, message: str) -> None:
        """Pass on what the backend says about a batch it took, unless it has said such a thing just now."""
        if not refused and not message:
            return
        now = self._clock()
        if now < self._remark_at[refused > 0]:
            self._refused_unsaid += refused
            return
        self._remark_at[refused > 0] = now + _REMARK_INTERVAL
        message = self._scrub(message)
        if not refused:
            _log.warning("%s: the backend takes everything, but says: %s", self._lease.state.name, message)
            return
        _log.warning(
            "%s: the backend refuses items of batches it takes; %s are counted as rejected: %s",
            self._lease.state.name,
            _amount(refused, self._refused_unsaid),
            message or "it gave no reason",
        )
        self._refused_unsaid = 0

    def left_out(self, items: int, why: str) -> None:
        """Say what could not be encoded, unless such a thing was said just now."""
        if not items:
            return
        now = self._clock()
        if now < self._left_out_at:
            self._left_out_unsaid += items
            return
        self._left_out_at = now + _REMARK_INTERVAL
        _log.warning(
            "%s: %s items cannot be encoded and are counted as rejected; the others are sent. The last of "
            "these is %s.",
            self._lease.state.name,
            _amount(items, self._left_out_unsaid),
            self._scrub(why),
        )
        self._left_out_unsaid = 0

    def failed(  # noqa: PLR0913  # what there is to say of a batch
        self,
        lane: str,
        number: int,
        error: Exception,
        items: int,
        *,
        permanent: bool,
        in_doubt: bool = False,
    ) -> None:
        """Say once per outage that the backend is in trouble."""
        is_refusal = isinstance(error, ExportError) and not error.retryable
        said = error_text(error) if isinstance(error, ExportError) else ""
        reason = self._scrub(said or describe(error))
        limit = self._lease.state.queue_limit
        if is_refusal and in_doubt:
            fate = (
                f"Nothing has arrived there yet, so up to {limit} events wait; an item that it refuses again "
                f"and again is counted as rejected"
            )
        elif permanent:
            fate = f"The items of this batch ({items}) are counted as rejected"
        else:
            fate = f"Nothing is lost: up to {limit} events wait, and it is tried again"
        is_misdirected = isinstance(error, DestinationError)
        (self._misdirected.add if is_misdirected else self._misdirected.discard)(lane)
        # Both are answers: who gives them is there.
        began = self._outages.failed(lane, number, reason, is_refusal=is_refusal or is_misdirected)
        if began is not None:
            said = _STILL_FAILS if began.is_more else _FAILS
            _log.warning(said, self._lease.state.name, named((began.lane,)), began.reason, fate)

    def arrived(self, lane: str, number: int, is_idle: Callable[[str], bool]) -> None:
        """Say once that an outage is over; ``is_idle`` tells whether a lane has nothing to send."""
        ended = self._outages.arrived(lane, number, is_idle)
        if ended is not None:
            # At the level of what said that it does not.
            _log.warning(
                "%s exports%s again after %d failed attempts; %d events wait.",
                self._lease.state.name,
                named(ended.lanes),
                ended.failures,
                self._lease.state.left,
            )


def _amount(items: int, unsaid: int) -> str:
    """Tell how many a report is about, and apart from them those before, for another reason perhaps."""
    return f"{items} (and {unsaid} before, not told yet)" if unsaid else str(items)
