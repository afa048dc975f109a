"""The GenServer that runs any exporter: messages in, to an :class:`~.process.ExporterServer`."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

from otpylib.gen_server.data import NoReply, Reply

from otpylib_telemetry import otp
from otpylib_telemetry.config import otpylib_config, sections
from otpylib_telemetry.config.environment import is_name
from otpylib_telemetry.exporter.process import FAILED, UNKNOWN, ExporterServer
from otpylib_telemetry.services import requests
from otpylib_telemetry.services.section import APPLY, SNAPSHOT

if TYPE_CHECKING:
    from otpylib_telemetry.exporter.base import Exporter

#: Seconds a call may ask to be worked on; anything else is taken for a mistake.
LONGEST_CALL = 3600.0


async def _handle_call(  # noqa: PLR0911  # a message each
    _self: Any, message: Any, from_: Any, state: ExporterServer
) -> Any:
    state.apply()
    if otp.is_request(message, "get_stats"):
        return (Reply(payload=state.runner.stats()), state)
    if otp.is_request(message, "get_config"):
        if state.runner.lifecycle.is_at_rest:
            return (Reply(payload=state.configuration.as_dict()), state)
        state.reply_later(from_, state.settled_configuration())
        return (NoReply(), state)
    for tag, work in (("flush", state.runner.shutdown.flush), ("drain", state.runner.shutdown.drain)):
        if otp.is_request(message, tag, 2):
            try:
                seconds = _seconds(message[1])
            except ValueError as error:
                return (Reply(payload=("error", str(error))), state)
            state.reply_later(from_, work(seconds))
            return (NoReply(), state)
    if otp.is_request(message, "reset_breaker"):
        return (Reply(payload=state.reset_breaker()), state)
    if (answer := requests.answer(message, state)) is not None:
        state.reply_later(from_, answer)
        return (NoReply(), state)
    if type(message) is tuple:
        state.reply_later(from_, state.ask_exporter(message))
        return (NoReply(), state)
    state.state.unknown_messages += 1
    return (Reply(payload=UNKNOWN), state)


async def _handle_cast(_self: Any, message: Any, state: ExporterServer) -> Any:
    if otp.is_request(message, "telemetry", 4) and isinstance(message[1], str):
        state.telemetry(*message[1:])
    elif otp.is_request(message, "config_changed", 4):
        state.changed(*message[1:])
    elif otp.is_request(message, "flush_batch"):
        otp.run_in_background(state.loop, state.runner.shutdown.flush_pending(), name="flush_batch")
    else:
        state.state.unknown_messages += 1
    return (NoReply(), state)


async def _handle_info(_self: Any, message: Any, state: ExporterServer) -> Any:
    if otp.is_request(message, APPLY):
        state.apply()
    elif otp.is_request(message, FAILED, 2):
        raise message[1]
    elif otp.is_request(message, SNAPSHOT, 3):
        state.snapshot(message[1], message[2])
    elif otp.is_request(message, otpylib_config.NOTICE, 2):
        state.noticed(message[1])
    else:
        state.state.unknown_messages += 1
    return (NoReply(), state)


async def _terminate(self: Any, reason: Any, _state: Any) -> None:
    process: ExporterServer | None = getattr(self, "_process", None)
    if process is not None:
        await process.close(reason)


def _seconds(value: object) -> float:
    """Return the seconds a call asks for, whatever was sent in their place."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # An integer too large for a float is no number that anybody meant.
        with contextlib.suppress(OverflowError):
            seconds = float(value)
            if math.isfinite(seconds):
                return min(max(0.0, seconds), LONGEST_CALL)
    raise ValueError("the timeout of flush and drain is a number of seconds")


def exporter_module(  # noqa: PLR0913  # all of them by name
    class_name: str,
    exporter_type: type[Exporter[Any]],
    *,
    name: str,
    section: str,
    module: str,
    doc: str | None = None,
) -> Any:
    """Make the GenServer class that runs an exporter, ready for a child spec.

    Args:
        class_name: The class's own name, for instance ``StatsdExporter``.
        exporter_type: The exporter to run.
        name: The registered name where a child spec gives none, for instance ``statsd_exporter``.
        section: The configuration section, for instance ``telemetry.statsd``.
        module: ``__name__`` of the module the class is assigned in.
        doc: The class's docstring.

    Returns:
        An OTPModule class with the behaviour GEN_SERVER, and the attributes ``exporter_type``,
        ``settings_type``, ``section`` and ``registered_name``.

    Raises:
        pydantic.errors.PydanticSchemaGenerationError: A setting is of a type that cannot be checked.
    """

    async def init(self: Any, arg: Any) -> ExporterServer:
        registered, argument = arg
        process = self._process = ExporterServer(exporter_type, registered, section, argument)
        return process

    cls = otp.server_module(
        class_name,
        {
            "init": init,
            "handle_call": _handle_call,
            "handle_cast": _handle_cast,
            "handle_info": _handle_info,
            "terminate": _terminate,
        },
        default_name=name,
        module=module,
        doc=doc or f"GenServer that runs {exporter_type.__name__}, registered as ``{name}``.",
    )
    # Now, so that a setting of no usable type fails here, and nothing waits when the exporter starts. Types
    # are looked up where the class was written, and not here.
    exporter_type.settings_type.model_rebuild(_parent_namespace_depth=0)
    cls.exporter_type = exporter_type
    cls.settings_type = exporter_type.settings_type
    cls.section = section
    cls.registered_name = name
    sections.declared.add(section.removeprefix("telemetry."))
    return cls


def instance_of(module: Any, name: str) -> Any:
    """Return the GenServer class of a further instance of an exporter.

    It is registered as ``<name>_exporter``, reads the section ``telemetry.<name>``, and has a queue, books
    and a breaker of its own.
    """
    if not is_name(name):
        raise ValueError(
            f"an exporter's name is made of letters, digits, - and _, and begins with a letter; got {name!r}"
        )
    section = f"telemetry.{name}"
    if section == module.section:
        return module
    known = _instances.get((module, name))
    if known is None:
        if name in sections.registered_exporters():
            raise ValueError(
                f"{name!r} is an exporter of its own; an instance of {module.__name__} needs another name"
            )
        class_name = "".join(part.capitalize() for part in name.replace("-", "_").split("_")) + "Exporter"
        known = exporter_module(
            class_name,
            module.exporter_type,
            name=f"{name}_exporter",
            section=section,
            module=module.__module__,
            doc=f"{module.__name__} again, registered as ``{name}_exporter``, configured by ``{section}``.",
        )
        _instances[module, name] = known
    return known


_instances: dict[tuple[Any, str], Any] = {}
