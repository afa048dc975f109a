"""Handled messages: each is an operation, and runs where its sender was."""

from __future__ import annotations

from asyncio import CancelledError
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otpylib.gen_server import core as gen_server

from otpylib_telemetry.bus import context
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.dispatch import call, is_listened_to
from otpylib_telemetry.instrument.otpylib.envelope import arrived, inbound, nowhere
from otpylib_telemetry.instrument.otpylib.identity import own
from otpylib_telemetry.instrument.otpylib.life import CRASHED, reason_to_end
from otpylib_telemetry.instrument.otpylib.reasons import is_stop
from otpylib_telemetry.instrument.otpylib.recorder import remembering
from otpylib_telemetry.instrument.otpylib.rules import CALL, CAST, CHILD, INFO, NONE
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import parts, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.bus.table import Route
    from otpylib_telemetry.instrument.otpylib.envelope import Envelope
    from otpylib_telemetry.instrument.otpylib.identity import Handled, Identity
    from otpylib_telemetry.tracing.operation import Operation, Place

#: The operation of a handled message.
HANDLE: Final = "otpylib.handle"

_handle_call = gen_server._handle_call  # noqa: SLF001  # what an instrumentor is there for
_handle_cast = gen_server._handle_cast  # noqa: SLF001
_handle_info = gen_server._handle_info  # noqa: SLF001


#: The code of otpylib's own, by which a debugger or the watchdog knows a handled message.
UNTOLD: Final = frozenset(each.__code__ for each in (_handle_call, _handle_cast, _handle_info))

# None of these three is a coroutine function: where there is nothing to do, nothing is in between.


def handle_call(instance: Any, module_class: Any, message: Any, state: Any) -> Awaitable[Any]:
    """Handle a call."""
    if _is_nothing_to_do():
        return _handle_call(instance, module_class, message, state)  # type: ignore[no-any-return]
    given = (instance, module_class, message, state)
    return handled(CALL, message.payload, module_class, _handle_call, given)


def handle_cast(instance: Any, module_class: Any, message: Any, state: Any) -> Awaitable[Any]:
    """Handle a cast."""
    if _is_nothing_to_do():
        return _handle_cast(instance, module_class, message, state)  # type: ignore[no-any-return]
    given = (instance, module_class, message, state)
    return handled(CAST, message.payload, module_class, _handle_cast, given)


def handle_info(instance: Any, module_class: Any, message: Any, state: Any) -> Awaitable[Any]:
    """Handle any other message."""
    if _is_nothing_to_do():
        return _handle_info(instance, module_class, message, state)  # type: ignore[no-any-return]
    return handled(INFO, message, module_class, _handle_info, (instance, module_class, message, state))


def _is_nothing_to_do() -> bool:
    """Tell whether nobody listens, and the message has come from nowhere to nowhere."""
    return (
        innermost.get() is None
        and arrived.get() is None
        and bridge_module.installed is None
        and record.route_of(HANDLE) is None
        # Nor to what has happened before a crash.
        and not is_listened_to(CRASHED)
    )


async def handled(  # noqa: C901, PLR0912  # in one piece, because calls cost
    kind: str,
    payload: Any,
    module_class: Any,
    handle: Callable[..., Awaitable[Any]],
    arguments: tuple[Any, ...],
) -> Any:
    """Have a message handled where its sender was, and record that."""
    identity = own(module_class)
    envelope = arrived.get()
    route = record.route_of(HANDLE)
    if identity is None or (envelope is not None and envelope.quiet):
        return await _pass_on(envelope, handle, arguments)
    found = identity.handled(kind, payload)
    if not found.seen:
        return await _pass_on(envelope, handle, arguments)
    if route is None:
        if identity.recent is not None and is_listened_to(CRASHED):
            handling = _pass_on(envelope, handle, arguments)
            return await remembering(identity, found, payload, envelope, handling)
        return await _pass_on(envelope, handle, arguments)
    place = None if envelope is None else envelope.place
    if place is None or (found.relation == CHILD and not envelope.linked):  # type: ignore[union-attr]  # it has the place
        operation = record.begin(route, HANDLE, found.metadata, place, identity.pid)
    else:
        operation = _apart(route, found, place, identity)
    record.enter_alone(operation)
    try:
        if route.begins:
            call(route.begins, *operation.start_event())
        operation.at_ns = now_ns = monotonic_ns()
        if route.begin_logged:
            record.logged(operation)
        if envelope is not None:
            operation.wait_ms = (now_ns - envelope.sent_ns) / 1e6
        result = await handle(*arguments)
    except BaseException as error:
        # The process ends, and what it sends at its end belongs here.
        why = reason_to_end(identity) if isinstance(error, CancelledError) else ""
        ended = record.end(operation, None if is_stop(error) else error, why)
        innermost.set(inbound(operation))
        if (recent := identity.recent) is not None:
            recent.append(operation if not identity.keeps_payloads else (operation, payload))
        if ended:
            call(ended, *operation.end_event())
        raise
    ended = record.end(operation)
    if (recent := identity.recent) is not None:
        recent.append(operation if not identity.keeps_payloads else (operation, payload))
    if ended:
        call(ended, *operation.end_event())
    return result


def _apart(route: Route, found: Handled, sender: Place, identity: Identity) -> Operation:
    """Begin the operation of a message that is no part of what its sender was doing."""
    operation = record.begin(route, HANDLE, found.metadata, None, identity.pid)
    if found.relation != NONE and sender.is_place:
        parts.add_link(operation, sender.context)
    return operation


async def _pass_on(
    envelope: Envelope | None, handle: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]
) -> Any:
    """Have a message handled where its sender was, and record nothing."""
    if envelope is not None and envelope.place is not None:
        place = inbound(envelope.place)
    elif bridge_module.installed is not None:
        # What another API has there of the server's maker is left, too.
        place = nowhere()
    else:
        if innermost.get() is not None:
            innermost.set(None)
        return await handle(*arguments)
    record.enter_alone(place)
    # Where it raises, the process ends, and what it sends at its end belongs there, too.
    result = await handle(*arguments)
    context.leave(place)
    return result


def is_serving() -> bool:
    """Tell whether the running process is a server, whose handlers are put where they belong."""
    identity = own()
    return identity is not None and identity.serves
