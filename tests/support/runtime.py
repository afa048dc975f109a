"""An otpylib runtime of its own for each test."""

import asyncio
import contextlib

import otpylib_config
from otpylib import gen_server, process
from otpylib.runtime import reset_runtime, set_runtime
from otpylib.runtime.atoms import KILLED, SHUTDOWN
from otpylib_config.atoms import STOP
from otpylib_config.sources.base import ConfigSource

from otpylib_telemetry import otp
from otpylib_telemetry.otp import tasks as otp_tasks

GRACE = 30.0
#: Seconds that a request has which nobody waits for any more.
MOMENT = 0.5


@contextlib.asynccontextmanager
async def running_runtime(grace=GRACE):
    """A fresh backend; at the end its processes are cancelled and no task begun meanwhile may be left.

    A task that outlives that by ``grace`` seconds is a leak: an AssertionError says which and where it is.
    """
    before = asyncio.all_tasks()
    backend = otp.Runtime()
    await backend.initialize()
    set_runtime(backend)
    try:
        yield backend
    finally:
        await backend.shutdown()
        left = await _wait_for_end(before, grace)
        reset_runtime()
    if left:
        raise AssertionError("tasks are left over:\n" + "\n".join(left))


async def _wait_for_end(before, grace):
    # asyncio does not know of tasks that outlast its end. One that came to its last step while the loop is
    # being closed would begin something that never runs.
    loop = asyncio.get_running_loop()
    if outlasting := {task for task in otp_tasks._background if task.get_loop() is loop}:
        await asyncio.wait(outlasting, timeout=MOMENT)
    begun = asyncio.all_tasks() - before - {asyncio.current_task()}
    if not begun:
        return []
    _, left = await asyncio.wait(begun, timeout=grace)
    described = [_describe(task) for task in left]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=grace)
    return described


def _describe(task):
    """Tell where a task waits, down to the last of the coroutines that wait for each other."""
    lines, waiting = [repr(task)], task.get_coro()
    while (frame := getattr(waiting, "cr_frame", None)) is not None:
        lines.append(f"  {frame.f_code.co_qualname}, {frame.f_code.co_filename}:{frame.f_lineno}")
        waiting = waiting.cr_await
    return "\n".join([*lines, f"  {waiting!r}"])


async def in_process(function, *args, timeout=60, name=None):
    """Run a coroutine function as an otpylib process; give its result, raise what it raised.

    Much of otpylib works inside a process only, and a test is none. Each call is a process of its own, with
    an empty mailbox. It ends normally, so what it linked to itself lives on.
    """
    outcome = asyncio.get_running_loop().create_future()

    async def body():
        try:
            result = await function(*args)
        except asyncio.CancelledError:
            _settle(outcome, error=RuntimeError(f"the process of {function!r} was stopped before its end"))
            raise
        except Exception as error:
            _settle(outcome, error=error)
        else:
            _settle(outcome, result=result)

    pid = await process.spawn(body, mailbox=True, name=name)
    try:
        return await asyncio.wait_for(outcome, timeout)
    except TimeoutError:
        if outcome.cancelled():
            await process.exit(pid, KILLED)
            raise TimeoutError(f"{function!r} did not end within {timeout} s") from None
        raise


def _settle(outcome, result=None, error=None):
    if outcome.done():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)


class MemorySource(ConfigSource):
    """A configuration source for tests: ``source.values`` is a nested dict, changed in place."""

    def __init__(self, values=None, priority=1, name="memory"):
        self.values = {} if values is None else values
        self._priority = priority
        self._name = name

    @property
    def priority(self):
        return self._priority

    @property
    def name(self):
        return self._name

    async def load(self):
        return self.values


class ConfigManagerControl:
    """A running otpylib-config: ``pid`` is its supervisor's."""

    def __init__(self, pid):
        self.pid = pid

    async def stop(self):
        """Stop supervisor and manager; returns when the manager is gone."""
        manager = process.whereis(otpylib_config.CONFIG_MANAGER)
        await process.send(self.pid, SHUTDOWN)
        while process.is_alive(self.pid) or (manager is not None and process.is_alive(manager)):
            await asyncio.sleep(0.01)

    async def crash(self):
        """Make the manager crash; returns when its supervisor has put a new one in its place."""
        old = process.whereis(otpylib_config.CONFIG_MANAGER)
        # Told to stop it ends with an exception, which its supervisor takes for the crash that it is.
        await gen_server.cast(otpylib_config.CONFIG_MANAGER, STOP)
        while process.whereis(otpylib_config.CONFIG_MANAGER) in {old, None}:
            await asyncio.sleep(0.01)


async def start_config_manager(*sources, reload_interval=0.05):
    """Start otpylib-config on the given sources.

    Args:
        sources: ConfigSource objects, paths of TOML files, or nested dicts.
        reload_interval: seconds between two readings of the sources.
    """
    chosen = [_as_source(source) for source in sources] or [MemorySource()]
    spec = otpylib_config.ConfigSpec(id="test", sources=chosen, reload_interval=reload_interval)
    return ConfigManagerControl(await in_process(otpylib_config.start, spec))


def _as_source(source):
    if isinstance(source, ConfigSource):
        return source
    if isinstance(source, dict):
        return MemorySource(source)
    return otpylib_config.FileSource(str(source))
