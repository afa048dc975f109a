"""Handled messages: each is an operation, and runs where its sender was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib.gen_server import core as gen_server

from otpylib_telemetry.bus import context
from otpylib_telemetry.bus.context import innermost
from otpylib_telemetry.bus.dispatch import call_and_await
from otpylib_telemetry.instrument.otpylib.envelope import arrived, inbound, nowhere
from otpylib_telemetry.instrument.otpylib.identity import own
from otpylib_telemetry.instrument.otpylib.rules import CALL, CAST, CHILD, INFO, LINK
from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.tracing import bridge as bridge_module
from otpylib_telemetry.tracing import parts, record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.instrument.otpylib.envelope import Envelope
    from otpylib_telemetry.instrument.otpylib.identity import Handled, Identity
    from otpylib_telemetry.tracing.operation import Operation, Place

#: The operation of a handled message.
HANDLE: Final = "otpylib.handle"

_handle_call = gen_server._handle_call  # noqa: SLF001  # what an instrumentor is there for
_handle_cast = gen_server._handle_cast  # noqa: SLF001
_handle_info = gen_server._handle_info  # noqa: SLF001


async def handle_call(instance: Any, module_class: Any, message: Any, state: Any) -> Any:
    """Handle a call."""
    return await handled(
        CALL, message.payload, module_class, _handle_call, (instance, module_class, message, state)
    )


async def handle_cast(instance: Any, module_class: Any, message: Any, state: Any) -> Any:
    """Handle a cast."""
    return await handled(
        CAST, message.payload, module_class, _handle_cast, (instance, module_class, message, state)
    )


async def handle_info(instance: Any, module_class: Any, message: Any, state: Any) -> Any:
    """Handle any other message."""
    return await handled(INFO, message, module_class, _handle_info, (instance, module_class, message, state))


async def handled(
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
    if identity is None or route is None or (envelope is not None and envelope.quiet):
        return await _pass_on(envelope, handle, arguments)
    tag = tag_of(payload)
    found = identity.handled(kind, tag)
    if not found.seen:
        return await _pass_on(envelope, handle, arguments)
    operation = _begun(identity, envelope, found, route)
    try:
        if route.begins:
            await call_and_await(route.begins, *operation.start_event())
        result = await handle(*arguments)
    except BaseException as error:
        # The process ends, and what it sends at its end belongs here.
        ended = record.end(operation, None if is_stop(error) else error)
        innermost.set(inbound(operation))
        if ended and isinstance(error, Exception):
            await call_and_await(ended, *operation.end_event())
        raise
    ended = record.end(operation)
    if ended:
        await call_and_await(ended, *operation.end_event())
    return result


def _begun(identity: Identity, envelope: Envelope | None, found: Handled, route: Any) -> Operation:
    """Begin the operation of a message, at the place of its sender or linked to it."""
    place: Place | None = None
    link: Place | None = None
    if envelope is not None and (sender := envelope.place) is not None:
        if found.relation == CHILD and not envelope.linked:
            place = sender
        elif sender.is_place and found.relation in {CHILD, LINK}:
            link = sender
    operation = record.begin(route, HANDLE, found.metadata, place, identity.pid)
    if link is not None:
        parts.add_link(operation, link.context)
    record.enter_alone(operation)
    record.started(operation)
    if envelope is not None:
        operation.wait_ms = (operation.at_ns - envelope.sent_ns) / 1e6
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


def is_stop(error: BaseException) -> bool:
    """Tell whether a server's own loop raised it because its handler had asked to be stopped."""
    if type(error) is not gen_server.GenServerExited:
        return False
    # Raised two calls below whoever caught it; one from a handler comes from deeper down.
    trace = error.__traceback__
    return trace is not None and trace.tb_next is not None and trace.tb_next.tb_next is None


def is_serving() -> bool:
    """Tell whether the running process is a server, whose handlers are put where they belong."""
    identity = own()
    return identity is not None and identity.serves
