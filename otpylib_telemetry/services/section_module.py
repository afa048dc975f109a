"""The GenServer around a :class:`~.section_server.SectionServer`: messages in, to its methods."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config
from otpylib_telemetry.services import requests
from otpylib_telemetry.services.section import APPLY, SNAPSHOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpylib_telemetry.config.settings import SectionSettings
    from otpylib_telemetry.services.section_server import SectionServer


def _answer(message: Any, state: SectionServer) -> Any:
    if otp.is_request(message, "get_stats"):
        return state.stats()
    if otp.is_request(message, "get_config"):
        return state.configuration.as_dict() if state.is_at_rest else state.settled_configuration()
    asked = requests.answer(message, state)
    return state.answer(message) if asked is None else asked


async def _handle_call(_self: Any, message: Any, from_: Any, state: SectionServer) -> Any:
    state.apply()
    answer = _answer(message, state)
    if inspect.isawaitable(answer):
        state.reply_later(from_, answer)
        return (NoReply(), state)
    return (Reply(payload=answer), state)


async def _handle_cast(_self: Any, message: Any, state: SectionServer) -> Any:
    if otp.is_request(message, "config_changed", 4):
        state.changed(*message[1:])
    else:
        state.cast(message)
    return (NoReply(), state)


async def _handle_info(_self: Any, message: Any, state: SectionServer) -> Any:
    if otp.is_request(message, APPLY):
        state.apply()
    elif otp.is_request(message, SNAPSHOT, 3):
        state.snapshot(message[1], message[2])
    elif otp.is_request(message, otpylib_config.NOTICE, 2):
        state.noticed(message[1])
    else:
        state.info(message)
    return (NoReply(), state)


async def _terminate(self: Any, reason: Any, _state: Any) -> None:
    server: SectionServer | None = getattr(self, "_server", None)
    if server is not None:
        await server.close(reason)


def section_module(  # noqa: PLR0913  # all of them by name
    class_name: str,
    settings_type: type[SectionSettings],
    begin: Callable[[str, Any], Awaitable[SectionServer]],
    *,
    name: str,
    section: str,
    module: str,
    doc: str,
) -> Any:
    """Make the GenServer class; ``begin`` makes its state, given the registered name and the argument."""

    async def init(self: Any, arg: Any) -> SectionServer:
        server: SectionServer = await begin(*arg)
        self._server = server
        return server

    callbacks = {
        "init": init,
        "handle_call": _handle_call,
        "handle_cast": _handle_cast,
        "handle_info": _handle_info,
        "terminate": _terminate,
    }
    cls = otp.server_module(class_name, callbacks, default_name=name, module=module, doc=doc)
    cls.settings_type = settings_type
    cls.section = section
    cls.registered_name = name
    return cls
