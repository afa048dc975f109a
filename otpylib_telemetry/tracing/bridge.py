"""Where the context of :func:`~otpylib_telemetry.tracing.span.span` meets that of another tracing API.

Without a bridge, a span costs one look at a name more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from otpylib_telemetry.bus import event_log

if TYPE_CHECKING:
    from otpylib_telemetry.bus.context import Scope
    from otpylib_telemetry.tracing.operation import Operation, Place
    from otpylib_telemetry.tracing.propagation import SpanContext


class ContextBridge(Protocol):
    """Keeps two notions of "the span that is open here" in step. No method raises."""

    def enter(self, place: Place | None, baggage: str) -> Any:
        """Make a place of ours the other API's current span, if there is one; return what ``leave`` needs.

        ``baggage`` is what goes on from here, as far as it came through us.
        """

    def enter_alone(self, place: Place | None, baggage: str) -> Any:
        """Do as :meth:`enter`, and leave everything else of the other API's context behind."""

    def is_inside(self) -> bool:
        """Tell whether the running code is inside of a span of the other API that is open."""

    def here(self) -> Scope | None:
        """Return what the running code is inside of, whoever opened it: whatever is emitted asks."""

    def ended(self, operation: Operation) -> None:
        """Hear that an operation has ended; called where it did, once its record is complete."""

    def leave(self, token: Any) -> None:
        """Undo :meth:`enter`; called in the context in which that was called."""

    def set_aside(self, token: Any) -> Any:
        """Undo :meth:`enter` for a while; return what :meth:`take_up` needs. Called where that was called."""

    def take_up(self, held: Any) -> Any:
        """Undo :meth:`set_aside`, be it in another context; return what :meth:`leave` needs from now on."""

    def around(self, own: SpanContext | None) -> SpanContext | None:
        """Return the innermost span that is open here, whoever opened it."""

    def baggage(self, own: str) -> str:
        """Return the baggage that goes on from here: ours, with what the other API has made of it."""


#: The bridge in force, if any.
installed: ContextBridge | None = None


def install(bridge: ContextBridge) -> None:
    """Put a bridge into force for spans that begin from now on."""
    global installed  # noqa: PLW0603  # there is one
    installed = bridge
    event_log.ask_instead(bridge.here)


def uninstall(bridge: ContextBridge) -> None:
    """Take a bridge out of force, unless it is another by now; its spans still leave through it."""
    global installed  # noqa: PLW0603  # there is one
    if installed is bridge:
        installed = None
        event_log.ask_instead(None)
