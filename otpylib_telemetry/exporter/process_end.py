"""Exporters that still run when the process ends: on a loop of some thread, or one nobody ran to its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.exporter import registry
from otpylib_telemetry.primitives.process_end import before_process_ends, expect_process_end

if TYPE_CHECKING:
    from otpylib_telemetry.exporter.runner import Runner

__all__ = ["end_exporters", "expect_process_end"]

_log = logging.getLogger("otpylib_telemetry")

#: Seconds the end of an exporter gets beyond its ``shutdown_timeout``: a busy loop comes to it late.
_GRACE: Final = 1.0


def end_exporters() -> None:
    """Export what every exporter of this process holds, at the same time."""
    runners = registry.running()
    limit = max((each.configuration.settings.shutdown_timeout for each in runners), default=0.0) + _GRACE
    threads = [future for each in runners if (future := _ending_on_its_thread(each)) is not None]
    concurrent.futures.wait(threads, limit)
    for runner in registry.running():
        if not runner.loop.is_running():
            _end_here(runner, limit)


def _ending_on_its_thread(runner: Runner) -> concurrent.futures.Future[None] | None:
    """Begin to end an exporter whose loop runs on another thread, which will not outlive this one."""
    if not runner.loop.is_running() or runner.thread == threading.get_ident():
        return None
    ending = runner.shutdown.stop_for_good()
    try:
        return asyncio.run_coroutine_threadsafe(ending, runner.loop)
    except RuntimeError:  # it was closed just now
        ending.close()
        return None


def _end_here(runner: Runner, limit: float) -> None:
    """End an exporter whose loop nobody runs any more: on that loop, or, if it is closed, as far as it goes.

    Series can be written on any loop; what has to be sent needs the connections of its own.
    """
    try:
        if runner.loop.is_closed():
            runner.consumer.collect_now()
            asyncio.run(runner.consumer.produce(limit, last_chance=True))
        else:
            with contextlib.suppress(TimeoutError):
                runner.loop.run_until_complete(asyncio.wait_for(runner.shutdown.stop_for_good(), limit))
    except RuntimeError as error:  # there is a loop under way on this very thread
        _log.debug("%s cannot be ended here: %s", runner.state.name, error)


before_process_ends(end_exporters)
