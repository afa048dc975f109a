"""GenServers whose ``terminate`` is called, and whose start tells why it failed."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib import gen_server, process
from otpylib.gen_server import core as _gen_server
from otpylib.module import GEN_SERVER

from otpylib_telemetry.otp.own_work import OWN_PROCESS
from otpylib_telemetry.otp.processes import process_record
from otpylib_telemetry.otp.starting import (
    UNNAMED,
    check_startable,
    end_quietly,
    is_taken,
    otp_module,
    spawn_in_new_context,
)
from otpylib_telemetry.otp.tasks import run_in_background

if TYPE_CHECKING:
    from collections.abc import Iterator

_log = logging.getLogger("otpylib_telemetry")

#: Seconds a starting process may take to say that it is up; ours need a few milliseconds.
START_TIMEOUT = 5.0


class _Instance:
    """Takes a module class's place in the server loop, to keep the instance the loop makes."""

    def __init__(self, cls: Any) -> None:
        self.served = cls
        self.__mod_id__ = cls.__mod_id__
        self.made: Any = None

    def __call__(self) -> Any:
        self.made = self.served()
        return self.made


def served_class(given: Any) -> Any:
    """Return the class of a server of ours, whose place in the loop something else takes."""
    return given.served if type(given) is _Instance else given


async def _serve(cls: Any, init_arg: Any, starter: Any) -> None:
    """Run a GenServer's loop, and its ``terminate`` whatever ends it.

    Defects: otpylib never calls ``terminate``; and a CancelledError that leaks out of a handler, though
    nobody cancelled the process, counts as an orderly end, so that no supervisor restarts it.
    """
    instance = _Instance(cls)
    reason: Any = None
    try:
        await _gen_server._gen_server_loop(instance, init_arg, starter)  # noqa: SLF001
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling() == 0:
            reason = RuntimeError("a CancelledError leaked out of a handler")
            raise reason from None
        reason = "shutdown"
        raise
    except gen_server.GenServerExited as stop:
        reason = stop
        raise
    except Exception as error:
        reason = error
        raise
    finally:
        if instance.made is not None:
            try:
                await instance.made.terminate(reason, None)
            except Exception:  # noqa: BLE001  # how it ended must not be hidden behind this
                _log.exception("%s did not end cleanly", cls.__name__)


class _Started(NamedTuple):
    """What a server of ours begins with: the name it is registered under, and its argument."""

    name: str
    argument: Any


async def start_server(cls: Any, init_arg: Any, name: str, *, link: bool) -> Any:
    """Start a GenServer whose ``terminate`` is called, in a context of its own.

    Defects: see :func:`_serve`; a process inherits the context variables of whoever starts it, and with them
    the span that happened to be current; ``gen_server.start`` hides the reason of a failing init behind an
    UnboundLocalError; both start functions work only inside a process. RuntimeError says why a start failed.
    """
    check_startable(name)
    starter = process.self()
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await spawn_in_new_context(_wait_for_init, args=[cls, init_arg, name, ready])
    pid = await ready
    if link and starter is not None:
        await process.link(pid)
    return pid


async def _wait_for_init(cls: Any, init_arg: Any, name: str, ready: asyncio.Future[Any]) -> None:
    """Be the process that a starting server reports to: its report cannot land among other messages."""
    pid: Any = None
    error: str | None = "it was stopped before it was up"
    try:
        arguments = [cls, _Started(str(name), init_arg), process.self()]
        pid = await process.spawn(_serve, args=arguments, name=name, mailbox=True)
        answer = await process.receive(timeout=START_TIMEOUT)
        error = None if answer[0] == "gen_server_init_ok" else f"its init failed with {answer[-1]}"
    except TimeoutError:
        error = f"its init took longer than {START_TIMEOUT:g} s"
    except Exception as trouble:  # noqa: BLE001  # handed to the waiting caller whatever it is
        error = repr(trouble)
    finally:
        if not ready.done() and error is None:
            ready.set_result(pid)
        elif pid is not None:
            # Nobody waits for it any more, or it did not get up: it must not live on unknown to anybody.
            await end_quietly(pid)
        if not ready.done():
            ready.set_exception(RuntimeError(f"{name} did not start: {error}"))


def server_module(name: str, callbacks: dict[str, Any], *, default_name: str, module: str, doc: str) -> Any:
    """Make an OTPModule GenServer class whose ``terminate`` is called.

    Defect: OTPModule accepts callbacks only in the class body, so that no two servers can share them through
    inheritance; and its ``start_link`` runs the loop that never calls ``terminate``.
    """

    async def start_link(cls: Any, init_arg: Any = None, name: Any = None) -> Any:
        return await start_server(cls, init_arg, name or default_name, link=True)

    begin = callbacks["init"]

    async def init(self: Any, arg: Any) -> Any:
        OWN_PROCESS.set(True)
        if type(arg) is not _Started:
            arg = _Started(_adopt(self, default_name), arg)
        return await begin(self, arg)

    return otp_module(name, {**callbacks, "init": init}, GEN_SERVER, start_link, module=module, doc=doc)


def _adopt(server: Any, default_name: str) -> str:
    """Return the name of a server that ``gen_server.start`` or ``start_link`` began, whose loop is otpylib's.

    Defects: see :func:`_serve`. Its ``terminate`` is called when the task has ended.
    """
    task, found = asyncio.current_task(), process_record(process.self())
    if task is not None:
        task.add_done_callback(functools.partial(_terminate_adopted, server))
    if found is not None and found.name is not None:
        return str(found.name)
    name = next(each for each in _names_like(default_name) if not is_taken(each))
    if task is not None:
        UNNAMED[name] = task
    if name != default_name:
        _log.warning(
            "%s was started without a name beside %s: it works as %s, with a queue and books of its own.",
            type(server).__name__,
            default_name,
            name,
        )
    return name


def _names_like(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}_{number}"


def _terminate_adopted(server: Any, task: asyncio.Task[Any]) -> None:
    reason = "shutdown" if task.cancelled() else task.exception()
    loop = task.get_loop()
    if not loop.is_closed():
        run_in_background(loop, server.terminate(reason, None), name=f"end of {type(server).__name__}")
