"""The instrumentor: everything that is replaced in otpylib, switched on and off."""

from __future__ import annotations

import logging
from typing import Any, Final

from otpylib.dynamic_supervisor import core as dynamic_supervisor
from otpylib.gen_server import core as gen_server
from otpylib.gen_statem import core as gen_statem
from otpylib.runtime.backends.asyncio_backend import connection
from otpylib.runtime.backends.asyncio_backend.backend import AsyncIOBackend
from otpylib.runtime.backends.asyncio_backend.connection import AsyncIOConnection
from otpylib.runtime.backends.asyncio_backend.node import AsyncIONode
from otpylib.runtime.backends.asyncio_backend.process import ProcessMailbox
from otpylib.supervisor import core as supervisor

from otpylib_telemetry.instrument.otpylib import (
    calling,
    dead_letters,
    distribution,
    envelope,
    gauges,
    handling,
    identity,
    life,
    mailbox,
    processes,
    recorder,
    stalls,
    statem,
    supervision,
    timers,
)
from otpylib_telemetry.instrument.otpylib.patching import Patch, Patches
from otpylib_telemetry.instrument.otpylib.rules import checked, put_in_force
from otpylib_telemetry.primitives.fork import new_rlock
from otpylib_telemetry.tracing import parts

_log = logging.getLogger("otpylib_telemetry")

_patches: Final = Patches(
    [
        Patch(ProcessMailbox, "send", mailbox.send),
        Patch(ProcessMailbox, "receive", mailbox.receive),
        Patch(AsyncIOBackend, "spawn", processes.spawn),
        Patch(AsyncIOBackend, "register", processes.register),
        Patch(AsyncIOBackend, "unregister", processes.unregister),
        Patch(AsyncIOBackend, "spawn_link", processes.spawn_link),
        Patch(AsyncIOBackend, "exit", life.exit_),
        Patch(AsyncIOBackend, "_notify_exit", life.notify_exit),
        Patch(AsyncIOBackend, "_handle_process_exit", life.handle_process_exit),
        Patch(AsyncIOBackend, "_cleanup_process", life.cleanup_process),
        Patch(AsyncIOBackend, "send", dead_letters.send),
        Patch(AsyncIOBackend, "send_after", timers.send_after),
        Patch(AsyncIOConnection, "send_reg_send", distribution.send_reg_send),
        Patch(AsyncIOConnection, "send_to_pid", distribution.send_to_pid),
        Patch(connection, "encode", distribution.encode),
        Patch(AsyncIONode, "_handle_control", distribution.handle_control),
        Patch(gen_server, "_handle_call", handling.handle_call),
        Patch(gen_server, "_handle_cast", handling.handle_cast),
        Patch(gen_server, "_handle_info", handling.handle_info),
        Patch(gen_server, "_call_from_process", calling.call_from_process),
        Patch(gen_server, "_call_from_outside_process", calling.call_from_outside),
        Patch(gen_statem, "_message_to_event", statem.message_to_event),
        Patch(gen_statem, "_handle_event", statem.handle_event),
        Patch(gen_statem, "_call_from_process", calling.statem_call_from_process),
        Patch(gen_statem, "_call_from_outside_process", calling.statem_call_from_outside),
        Patch(supervisor, "_handle_child_exit", supervision.handle_child_exit),
        Patch(supervisor, "_restart_child", supervision.restart_child),
        Patch(dynamic_supervisor, "_handle_child_exit", supervision.handle_dynamic_exit),
        Patch(dynamic_supervisor, "_start_child", supervision.start_dynamic),
        Patch(dynamic_supervisor, "_handle_add_child", supervision.handle_add_child),
    ]
)
#: What OpenTelemetry's own tools pass to instrumentors.
_OPENTELEMETRY: Final = frozenset(
    {
        "distro",
        "event_logger_provider",
        "logger_provider",
        "meter_provider",
        "raise_exception_on_conflict",
        "skip_dep_check",
        "tracer_provider",
    }
)

_lock: Final = new_rlock()


class OtpylibInstrumentor:
    """Makes otpylib's actors seen, in the manner of OpenTelemetry's instrumentors.

    There is one instrumentation of a program, however many of these are made.
    """

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether the actors are instrumented; the name is that of OpenTelemetry's instrumentors."""
        return _patches.applied

    def instrumentation_dependencies(self) -> tuple[str, ...]:
        """Return what is instrumented, as a requirement."""
        return ("otpylib >= 0.5.18",)

    def instrument(self, **options: Any) -> None:
        """Have messages take along their senders' contexts, and what the actors do be recorded.

        It takes effect for processes that run already, too. Where that is so already, options alone count.

        Args:
            **options: The keys of ``[telemetry.instrument]``, but ``enabled``: ``include``, ``exclude``,
                ``messages``, ``calls``, ``casts``, ``infos``, ``loop_stall_ms``, ``recorder``, ``payloads``.
                Without any, the rules in force stay. What OpenTelemetry passes to every instrumentor is
                ignored.

        Raises:
            TypeError: There is no such option, or it is of another type.
            ValueError: A value that there is not.
        """
        own = {name: value for name, value in options.items() if name not in _OPENTELEMETRY}
        wanted = checked(own) if own else None
        with _lock:
            if wanted is not None:
                put_in_force(wanted)
            if _patches.applied:
                return
            identity.forget_the_dead()
            _patches.apply()
            stalls.watchdog.start()
            parts.when_raised.append(recorder.watch)
            gauges.begin()

    def uninstrument(self, **_options: Any) -> None:
        """Undo :meth:`instrument`: every attribute of otpylib is again the object that it was."""
        with _lock:
            for name in _patches.undo():
                _log.warning(
                    "%s stays as it is: something else has replaced it since otpylib was instrumented.", name
                )
            if recorder.watch in parts.when_raised:
                parts.when_raised.remove(recorder.watch)
            gauges.end()
            recorder.forget_all()
            envelope.unwatch_all()
            stalls.watchdog.stop()
