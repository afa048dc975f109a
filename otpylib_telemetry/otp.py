"""Every workaround for otpylib 0.5.18 and otpylib-config 0.2.9, each with the defect it answers.

No other module uses a private name of either library. tests/test_otp.py asserts each defect, so that a fixed
release fails there and tells which of these can go.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib import gen_server, process
from otpylib.atom import core as _atoms
from otpylib.gen_server import core as _gen_server
from otpylib.module import GEN_SERVER, SUPERVISOR, OTPModule
from otpylib.process import api as _process_api
from otpylib.runtime import get_runtime as _set_runtime
from otpylib.runtime import registry as _registry
from otpylib.runtime.atoms import DOWN, EXIT, SHUTDOWN
from otpylib.runtime.backends.asyncio_backend import backend as _backend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

_log = logging.getLogger("otpylib_telemetry")

#: Seconds a starting process may take to say that it is up; ours need a few milliseconds.
START_TIMEOUT = 5.0

_current_process = _backend._current_process  # noqa: SLF001  # see current_emitter

# asyncio keeps only weak references to tasks.
_background: set[asyncio.Task[Any]] = set()


#: Returns the pid of the running otpylib process, None outside of any: a part of :func:`current_emitter`, for
#: whoever has to save the call.
current_process = _current_process.get


def current_emitter(
    _process: Callable[[], Any] = current_process, _thread: Callable[[], int] = threading.get_ident
) -> object:
    """Return who is emitting: the pid of the running otpylib process, or else the thread's identifier.

    No defect but a cost: ``process.self()`` says the same through two calls and a global, which is ten times
    as much on the one path where that counts.
    """
    return _process() or _thread()


#: Whether what runs is telemetry's own work, of which telemetry does not tell.
_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("otpylib_telemetry_quiet", default=False)


def be_quiet() -> None:
    """Say that what runs in this context from now on is telemetry's own work."""
    _quiet.set(True)


def is_quiet() -> bool:
    """Tell whether what runs is telemetry's own work, of which telemetry does not tell."""
    return _quiet.get()


def process_record(pid: Any) -> Any:
    """Return what otpylib itself knows of a process of the present runtime; None where there is none.

    Defect: ``process_info`` tells neither what a process runs nor its mailbox.
    """
    runtime = get_runtime()
    return None if runtime is None else runtime._processes.get(pid)  # noqa: SLF001


#: Whether what runs is a process of telemetry, or was begun by one.
_own_process: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "otpylib_telemetry_own_process", default=False
)


def is_own_process() -> bool:
    """Tell whether what runs is a process of telemetry; its tasks in the background are none."""
    return _own_process.get()


#: The name of the process that hears what otpylib itself says: an Atom, which is no string of the same text.
LOGGER = _backend.LOGGER


async def start_logger() -> Any:
    """Start a process that bears the name of the logger and does nothing with what it gets; its pid."""
    return await _spawn_in_new_context(_receive_for_ever, name=LOGGER, mailbox=True)


async def _receive_for_ever() -> None:
    _own_process.set(True)
    while True:
        await process.receive()


def overhear(pid: Any, hear: Callable[[Any], bool]) -> Callable[[], None]:
    """Have ``hear`` called with each message to a process, in its sender's context; what returns undoes it.

    What ``hear`` returns True for does not get into the mailbox. Defect: mailboxes have no limit, and
    otpylib says up to three things for each message that anybody sends.
    """
    mailbox = process_record(pid).mailbox
    before = mailbox.__dict__.get("send")

    async def send(message: Any) -> None:
        if hear(message):
            return
        # Not that of the class as it was: it is another one while actors are instrumented.
        await (type(mailbox).send(mailbox, message) if before is None else before(message))

    mailbox.send = send

    def undo() -> None:
        if mailbox.__dict__.get("send") is send:
            del mailbox.send
            if before is not None:
                mailbox.send = before

    return undo


def process_records() -> list[tuple[Any, Any]]:
    """Return what otpylib itself knows of every process of the present runtime, each with its name or None.

    To be called on the loop of the runtime. Defect: as for :func:`process_record`.
    """
    runtime = get_runtime()
    if runtime is None:
        return []
    names = {pid: name for name, pid in runtime._name_registry.items()}  # noqa: SLF001  # as above
    return [(each, each.name or names.get(pid)) for pid, each in runtime._processes.items()]  # noqa: SLF001  # as above


def timers() -> int:
    """Return how many timers of the present runtime are set. Defect: nothing public tells."""
    runtime = get_runtime()
    return 0 if runtime is None else len(runtime.timing_wheel.timer_index)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


#: The runtimes that exist for the thread of their loop alone, by that thread's identifier.
_private: dict[int, Any] = {}


def get_runtime() -> Any | None:
    """Return the runtime for whoever asks: that of this thread alone, or else the one that is set."""
    return _private.get(threading.get_ident()) or _set_runtime()


@contextlib.contextmanager
def private_runtime(backend: Any) -> Iterator[None]:
    """Have a runtime on this thread that no other thread sees.

    Defect: there is one runtime in a program, and whoever sets one takes the place of the other's. Telemetry
    that runs beside an application must neither be there for its ``get_runtime`` nor lose its own by its
    ``set_runtime``.
    """
    thread = threading.get_ident()
    _private[thread] = backend
    _process_api.get_runtime = get_runtime
    try:
        yield
    finally:
        del _private[thread]
        if not _private:
            _process_api.get_runtime = _set_runtime


class _Inherited:
    """The runtime that the parent of a forked process had: its loop does not run here."""

    runtime: Any = None


def _after_fork() -> None:
    """Begin a forked child.

    Defect: locks that other threads held in the parent stay taken, and ``get_runtime`` would wait for ever.
    """
    for lock in (_registry._backend_lock, _registry._distribution_lock, _atoms._table._creation_lock):  # noqa: SLF001
        lock._at_fork_reinit()  # noqa: SLF001  # as the standard library does
    _private.clear()
    _Inherited.runtime = _set_runtime()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_inherited() -> bool:
    """Tell whether the runtime that is set is that of the parent of this forked process."""
    return _Inherited.runtime is not None and get_runtime() is _Inherited.runtime


#: How many processes are remembered after their end.
_MAX_ENDED = 4_096

_reasons: dict[Any, str] = {}


def note_end(pid: Any, reason: str | None) -> None:
    """Remember why a process has ended, for whoever finds something of it left open; None: it begins."""
    if reason is None:
        # Another runtime has given out the same.
        _reasons.pop(pid, None)
        return
    if len(_reasons) >= _MAX_ENDED:
        _reasons.pop(next(iter(_reasons)), None)
    _reasons[pid] = reason


def reason_of_end(emitter: object) -> str | None:
    """Return why a process has ended; None where nobody has told."""
    try:
        return _reasons.get(emitter)
    except TypeError:  # no process, and nothing that can be looked up
        return None


def is_running(emitter: object) -> bool:
    """Tell whether an ``emitter`` may still emit; a thread is always taken to be alive."""
    if isinstance(emitter, int):
        return True
    for runtime in (_set_runtime(), _private.get(threading.get_ident())):
        found = None if runtime is None else runtime._processes.get(emitter)  # noqa: SLF001  # as for OwnProcess
        # The very same: another runtime gives out equal pids.
        if found is not None and found.pid is emitter:
            return True
    return False


def _outside_any_process() -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(_current_process.set, None)
    context.run(be_quiet)
    return context


async def safe_call(target: Any, payload: Any, timeout: float = 5.0) -> Any:  # noqa: ASYNC109  # gen_server.call's own name
    """Call a GenServer without losing the caller's own messages.

    Defect: ``gen_server.call`` made from a process throws away every other message that arrives while it
    waits. It is made here from a task that is no process, which otpylib answers through a bridge.
    """
    call = gen_server.call(target, payload, timeout=timeout)
    return await asyncio.create_task(call, context=_outside_any_process())


def step_outside() -> contextvars.Token[Any] | None:
    """Have the running code, and the tasks it makes, be in no process; return what :func:`step_back` needs.

    Defect: a task made inside a process passes for that process, and so does all that a server does that was
    started inside one. Each ``gen_server.call`` there waits for its reply in the mailbox of the process, in
    which it finds the replies to others, and throws them away.
    """
    return None if _current_process.get() is None else _current_process.set(None)


def step_back(token: contextvars.Token[Any] | None) -> None:
    """Undo :func:`step_outside`; in another context there is nothing to undo."""
    if token is not None:
        with contextlib.suppress(ValueError):
            _current_process.reset(token)


class OwnProcess:
    """The process that is running, as its callbacks, background tasks and threads reach it later.

    Defects: a pid is a number that the next runtime gives out again, and a name is borne by whoever comes
    next, so that a message or an exit signal may reach another process; ``process.send`` is a coroutine, and
    from another thread it does not wake the loop; ``process.send_after`` counts ticks of 10 ms that it does
    not catch up with, and comes twice as late on a busy loop. This is the process itself: what comes too late
    for it comes to nobody.
    """

    def __init__(self) -> None:
        pid, runtime = process.self(), get_runtime()
        if pid is None or runtime is None:
            raise RuntimeError("only an otpylib process has a mailbox of its own")
        self.pid = pid
        self.loop = asyncio.get_running_loop()
        self._runtime = runtime
        self._process = runtime._processes[pid]  # noqa: SLF001  # there is no other way to it than by its number

    @property
    def in_runtime(self) -> bool:
        """Whether its runtime is still the one that is set; else what it starts would belong to another."""
        return get_runtime() is self._runtime

    def post(self, message: Any) -> None:
        """Put a message into its mailbox, from any thread; a process that has ended is no error."""
        # The loop may be closed: there is no process left to be told.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver, message, context=contextvars.Context())

    def post_later(self, seconds: float, message: Any) -> asyncio.TimerHandle:
        """Put a message into its mailbox after a while."""
        return self.loop.call_later(seconds, self._deliver, message, context=contextvars.Context())

    async def receive(self) -> Any:
        """Take the next message out of its mailbox."""
        return await self._process.mailbox.receive()

    def end(self) -> None:
        """End it so that no supervisor takes it for a crash."""
        if self._process.task is not None:
            self._process.task.cancel()

    def _deliver(self, message: Any) -> None:
        # Woken in a runtime that is set no more, otpylib's loop would go on to read the mailbox of whoever
        # has its pid in the present one.
        if self.in_runtime:
            run_in_background(self.loop, self._process.mailbox.send(message))


#: When the time is up that the call under way has; see :func:`within`.
_end: contextvars.ContextVar[float] = contextvars.ContextVar("otpylib_telemetry_end")


def run_in_background(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any],
    *,
    name: str | None = None,
    outlasting: bool = False,
) -> asyncio.Task[Any]:
    """Start a task that nobody awaits, outside any process and with nobody's context variables.

    Defect: a task made inside a process passes for that process, and keeps the span of whoever made it. An
    exception is logged. ``outlasting`` as for :func:`outlast`.
    """
    task = loop.create_task(work, name=name, context=contextvars.Context())
    if outlasting:
        outlast(task)
    _background.add(task)
    task.add_done_callback(_finished)
    return task


def outlast(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Have ``asyncio.run`` not cancel a task at its end; the caller must see to the task's end.

    An export that is cut off may have arrived or not, and would be sent twice.
    """
    asyncio._unregister_task(task)  # noqa: SLF001  # asyncio documents it
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _background.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("A background task of otpylib-telemetry failed: %s", task.get_name(), exc_info=error)


def down_pid(message: Any) -> Any | None:
    """Return the pid a DOWN message is about, or None for any other message.

    Defect: DOWN comes in two shapes, ``(DOWN, ref, process, pid, reason)`` and ``(DOWN, ref, pid, reason)``,
    and references collide, so that only the pid can be trusted.
    """
    match message:
        case (tag, _, _, pid, _) if tag is DOWN:
            return pid
        case (tag, _, pid, _) if tag is DOWN:
            return pid
        case _:
            return None


def exit_sender(message: Any) -> Any | None:
    """Return who sent an EXIT message, or None for any other message.

    Defect: otpylib's supervisor traps exits and then ignores them, so that a nested one outlives the tree.
    """
    match message:
        case (tag, sender, _) if tag is EXIT:
            return sender
        case _:
            return None


def task_of(pid: Any) -> asyncio.Task[Any] | None:
    """Return the asyncio task of a process.

    Defect: nothing tells when a process that was cancelled has finished its clean-up.
    """
    runtime = get_runtime()
    found = None if runtime is None else runtime._processes.get(pid)  # noqa: SLF001
    return None if found is None else found.task


def is_request(message: Any, tag: str, size: int = 1) -> bool:
    """Tell whether a message is a tuple of ``size`` that begins with ``tag``, whatever it is made of.

    Defect: a message whose ``__eq__`` raises kills a server that compares it.
    """
    return type(message) is tuple and len(message) == size and type(message[0]) is str and message[0] == tag


async def persist(task: asyncio.Task[Any], seconds: float) -> bool:
    """Wait for clean-up to end, whoever cancels the waiting meanwhile, but never longer than ``seconds``.

    Defect: ``backend.shutdown()`` cancels every process and awaits none; when the main coroutine then
    returns, asyncio cancels them all again, in the middle of their clean-up. At the limit the task is
    cancelled. Returns whether it came to its end.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not task.done() and (left := deadline - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError:
            # Whoever cancels a process wants it to end: it does, at the deadline at the latest.
            _log.debug("cancelled again during clean-up, which goes on")
    if not task.done():
        task.cancel()
        return False
    return not task.cancelled() and task.exception() is None


def time_left(default: float) -> float:
    """Return the seconds left of the limit that :func:`within` sets, ``default`` without one."""
    end = _end.get(None)
    return default if end is None else max(0.0, end - asyncio.get_running_loop().time())


async def within(seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
    """Await foreign code, but never longer than ``seconds``, even if it swallows its own cancellation.

    At the limit it is cancelled and left to itself, and TimeoutError is raised.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    context.run(_end.set, loop.time() + seconds)
    task = loop.create_task(work, context=context)
    _background.add(task)
    task.add_done_callback(_background.discard)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        task.add_done_callback(_swallow)
        raise TimeoutError(f"no end within {seconds:g} s")
    if task.cancelled():
        raise RuntimeError("it ended with a CancelledError that nobody had sent")
    return task.result()


def _swallow(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


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


async def start_server(cls: Any, init_arg: Any, name: str, *, link: bool) -> Any:
    """Start a GenServer whose ``terminate`` is called, in a context of its own.

    Defects: see :func:`_serve`; a process inherits the context variables of whoever starts it, and with them
    the span that happened to be current; ``gen_server.start`` hides the reason of a failing init behind an
    UnboundLocalError; both start functions work only inside a process. RuntimeError says why a start failed.
    """
    _check_startable(name)
    starter = process.self()
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    await _spawn_in_new_context(_wait_for_init, args=[cls, init_arg, name, ready])
    pid = await ready
    if link and starter is not None:
        await process.link(pid)
    return pid


def _check_startable(name: Any) -> None:
    """Raise RuntimeError where there is no runtime, or a process of this name.

    Defect: a second process under a name silently takes it over, and loses it when the first one ends.
    """
    if get_runtime() is None:
        raise RuntimeError(
            f"{name} cannot start: no otpylib runtime is set. "
            "Call otpylib.runtime.set_runtime(backend) after await backend.initialize()."
        )
    if name is not None and _is_taken(name):
        raise RuntimeError(
            f"{name} cannot start: a process of that name is running ({whereis(name) or 'unregistered'})"
        )


async def _spawn_in_new_context(func: Callable[..., Awaitable[None]], **options: Any) -> Any:
    """Spawn a process that inherits nobody's context variables."""
    return await asyncio.create_task(process.spawn(func, **options), context=contextvars.Context())


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


async def end_quietly(pid: Any) -> None:
    """End a process so that no supervisor takes it for a crash; one that is gone already is no error."""
    with contextlib.suppress(Exception):
        await process.exit(pid, SHUTDOWN)


async def start_supervisor(run: Callable[..., Awaitable[None]], args: list[Any], name: str | None) -> Any:
    """Start a supervisor process: it traps exits, is linked to the caller, and has a context of its own.

    Defects: ``supervisor.start_link`` takes the first message in the caller's mailbox for its own handshake;
    and a supervisor that was told to shut down ends as if by itself, so that the one above starts it again.
    ``run(ready, parent, *args)`` sets ``ready`` to its pid when its children are up.
    """
    called = name or "the supervisor"
    _check_startable(called)
    parent = process.self()
    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def body() -> None:
        _own_process.set(True)
        try:
            await run(ready, parent, *args)
            # This is how a process says that it was shut down.
            raise asyncio.CancelledError
        finally:
            if not ready.done():
                ready.set_exception(RuntimeError(f"{called} was stopped before it was up"))

    pid = await _spawn_in_new_context(body, args=[], name=name, mailbox=True, trap_exits=True)
    try:
        await ready
    except asyncio.CancelledError:
        await end_quietly(pid)
        raise
    if parent is not None:
        await process.link(pid)
    return pid


def supervisor_module(name: str, start_link: Any, *, module: str, doc: str) -> Any:
    """Make an OTPModule supervisor class with a ``start_link`` of our own.

    Defect: OTPModule's ``start_link`` always runs otpylib's supervisor loop.
    """

    async def init(_self: Any, _arg: Any) -> Any:
        raise NotImplementedError(f"{name} runs a loop of its own: start it with start_link")

    async def terminate(_self: Any, _reason: Any, _state: Any) -> None:
        """The loop cleans up by itself."""

    return _module(
        name, {"init": init, "terminate": terminate}, SUPERVISOR, start_link, module=module, doc=doc
    )


def server_module(name: str, callbacks: dict[str, Any], *, default_name: str, module: str, doc: str) -> Any:
    """Make an OTPModule GenServer class whose ``terminate`` is called.

    Defect: OTPModule accepts callbacks only in the class body, so that no two servers can share them through
    inheritance; and its ``start_link`` runs the loop that never calls ``terminate``.
    """

    async def start_link(cls: Any, init_arg: Any = None, name: Any = None) -> Any:
        return await start_server(cls, init_arg, name or default_name, link=True)

    begin = callbacks["init"]

    async def init(self: Any, arg: Any) -> Any:
        _own_process.set(True)
        if type(arg) is not _Started:
            arg = _Started(_adopt(self, default_name), arg)
        return await begin(self, arg)

    return _module(name, {**callbacks, "init": init}, GEN_SERVER, start_link, module=module, doc=doc)


class _Started(NamedTuple):
    """What a server of ours begins with: the name it is registered under, and its argument."""

    name: str
    argument: Any


def _adopt(server: Any, default_name: str) -> str:
    """Return the name of a server that ``gen_server.start`` or ``start_link`` began, whose loop is otpylib's.

    Defects: see :func:`_serve`. Its ``terminate`` is called when the task has ended.
    """
    pid, task = process.self(), asyncio.current_task()
    runtime = get_runtime()
    found = None if runtime is None else runtime._processes.get(pid)  # noqa: SLF001
    if task is not None:
        task.add_done_callback(functools.partial(_terminate_adopted, server))
    if found is not None and found.name is not None:
        return str(found.name)
    name = next(each for each in _names_like(default_name) if not _is_taken(each))
    if task is not None:
        _unnamed[name] = task
    if name != default_name:
        _log.warning(
            "%s was started without a name beside %s: it works as %s, with a queue and books of its own.",
            type(server).__name__,
            default_name,
            name,
        )
    return name


#: What servers without a registered name work as.
_unnamed: dict[str, asyncio.Task[Any]] = {}


def _names_like(name: str) -> Iterator[str]:
    yield name
    for number in itertools.count(2):
        yield f"{name}_{number}"


def _is_taken(name: Any) -> bool:
    """Tell whether a process works under a name, registered or not."""
    pid = whereis(name)
    tasks = (None if pid is None else task_of(pid), _unnamed.get(name))
    return any(task is not None and not task.done() and task.cancelling() == 0 for task in tasks)


def _terminate_adopted(server: Any, task: asyncio.Task[Any]) -> None:
    reason = "shutdown" if task.cancelled() else task.exception()
    loop = task.get_loop()
    if not loop.is_closed():
        run_in_background(loop, server.terminate(reason, None), name=f"end of {type(server).__name__}")


def _module(  # noqa: PLR0913  # what a class statement would say
    name: str, callbacks: dict[str, Any], behavior: Any, start_link: Any, *, module: str, doc: str
) -> Any:
    body = {**callbacks, "__module__": module, "__qualname__": name, "__doc__": doc}
    cls = OTPModule(name, (), body, behavior=behavior, version="1.0.0")
    cls.start_link = classmethod(start_link)
    return cls


def whereis(name: Any) -> Any | None:
    """Return the pid registered under ``name``, or None; no runtime at all is no error."""
    runtime = get_runtime()
    return None if runtime is None else runtime.whereis(name)


@functools.cache
def config_manager_name() -> Any:
    """Return the name of otpylib-config's manager.

    Defect: it is registered under an Atom, which is not found under the string of the same text.
    """
    from otpylib_config import CONFIG_MANAGER  # noqa: PLC0415  # importing it is not free, and not always needed

    return CONFIG_MANAGER


def config_puts(pid: Any, section: str) -> frozenset[str] | None:
    """Return the keys of a section that somebody put into otpylib-config; None where that cannot be told.

    Defect: what was put is read like what a source says, and hides for ever what a file says later. Only the
    manager knows; its state is a variable of its loop.
    """
    task = task_of(pid)
    step: Any = None if task is None else task.get_coro()
    while step is not None:
        frame = getattr(step, "cr_frame", None)
        puts = None if frame is None else getattr(frame.f_locals.get("state"), "runtime_config", None)
        if isinstance(puts, dict):
            from otpylib_config.atoms import path_from_atom  # noqa: PLC0415  # as above

            paths = [path_from_atom(atom) for atom, value in puts.items() if value is not None]
            start = f"{section}."
            return frozenset(
                path.removeprefix(start).split(".")[0] for path in paths if path.startswith(start)
            )
        step = getattr(step, "cr_await", None)
    return None
