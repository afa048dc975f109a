"""State machines: each event is handled where its sender was, however often it is put off.

otpylib sends what an event leads to, its replies say, after the callback has returned: until the next event
the machine stays where it has handled the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib.atom import Atom
from otpylib.gen_statem import core as gen_statem

from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.instrument.otpylib.envelope import arrived, inbound
from otpylib_telemetry.instrument.otpylib.handling import handled
from otpylib_telemetry.instrument.otpylib.mailbox import leave_inbound
from otpylib_telemetry.instrument.otpylib.rules import CALL, CAST, INFO
from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.tracing import parts
from otpylib_telemetry.tracing.operation import Operation, Place
from otpylib_telemetry.tracing.record import enter_alone

if TYPE_CHECKING:
    from otpylib_telemetry.instrument.otpylib.envelope import Envelope

#: What an event that no sender has named is called: the machine has been in one state for so long.
STATE_TIMEOUT: Final = "state_timeout"

_KINDS: Final = {"call": CALL, "cast": CAST}
_RESULTS: Final = (gen_statem.NextState, gen_statem.KeepState, gen_statem.RepeatState, gen_statem.StopState)
_LEVELS: Final = 3

_message_to_event = gen_statem._message_to_event  # noqa: SLF001  # what an instrumentor is there for
_handle_event = gen_statem._handle_event  # noqa: SLF001


class Arrival(str):
    """The type of an event, which remembers in which envelope it came, even while it is postponed.

    otpylib's loop keeps it with the event. No callback gets to see it.
    """

    __slots__ = ("envelope", "event_type")

    event_type: Any
    envelope: Envelope | None

    @property
    def value(self) -> str:
        """As the event types of otpylib have it, for one that is replayed when nothing is instrumented."""
        return str(self)


def message_to_event(message: Any) -> tuple[Any, Any, Any]:
    """Return type, content and caller of the event that a message is."""
    event_type, content, caller = _message_to_event(message)
    if type(event_type) is Arrival:
        # Postponed: it has come long ago.
        arrived.set(event_type.envelope)
        return event_type, content, caller
    if type(event_type) is not gen_statem.EventType:
        # An event that the machine has sent to itself is of whatever type it says.
        return event_type, content, caller
    arrival = Arrival(event_type.value)
    arrival.event_type = event_type
    arrival.envelope = arrived.get()
    return arrival, content, caller


async def handle_event(  # noqa: PLR0913, PLR0917  # otpylib's own
    instance: Any, mode: Any, event_type: Any, content: Any, state_name: Any, state_data: Any, caller: Any
) -> Any:
    """Handle an event, and stay where it was handled."""
    if type(event_type) is Arrival:
        event_type = event_type.event_type
    leave_inbound()
    where: list[Place] = []

    async def handle(*arguments: Any) -> Any:
        place = innermost.get()
        if isinstance(place, Place):
            where.append(place)
        if type(place) is Operation:
            parts.set_attribute(place, "state", name_of(state_name))
        result = await _handle_event(*arguments)
        if not isinstance(result, _RESULTS):
            # The loop would raise this, and the event has failed.
            raise gen_statem.GenStatemBadReturn(result)
        return result

    is_timeout = event_type == gen_statem.EventType.STATE_TIMEOUT
    result = await handled(
        _KINDS.get(event_type, INFO) if isinstance(event_type, str) else INFO,
        STATE_TIMEOUT if is_timeout else content,
        type(instance),
        handle,
        (instance, mode, event_type, content, state_name, state_data, caller),
    )
    if where and where[0].is_place:
        enter_alone(inbound(where[0]))
    return result


def name_of(state: Any) -> str:
    """Return the name of a state; nested ones have several, and none that may be content is told."""
    if type(state) is tuple and all(isinstance(one, str | Atom) for one in state):
        return "/".join(map(tag_of, state[:_LEVELS]))
    return tag_of(state)
