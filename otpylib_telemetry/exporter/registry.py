"""Exporters by name: what belongs to each, and who runs it.

Other packages ask here, and only here, about exporters that run. A name that nothing bears is no error.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import restart
from otpylib_telemetry.exporter.state import ExporterState
from otpylib_telemetry.primitives.fork import after_fork_in_child
from otpylib_telemetry.primitives.process_end import before_process_ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.settings import ExporterSettings
    from otpylib_telemetry.exporter.base import Exporter
    from otpylib_telemetry.exporter.runner import Runner

_log = logging.getLogger("otpylib_telemetry")

_states: dict[str, ExporterState] = {}

# The one that works for a name now; an earlier one that finds another here steps back.
_runners: dict[str, Runner] = {}

# Told of the names that were forgotten: others have things of theirs, too.
_when_forgotten: list[Callable[[list[str]], object]] = []


# --- for the exporter's own process -------------------------------------------------------------------------


def state_of(name: str) -> ExporterState:
    """Return what belongs to a name; made when first asked for, kept as long as the interpreter runs."""
    return _states.setdefault(name, ExporterState(name))


def find(name: str) -> ExporterState | None:
    """Return what belongs to a name, or None if nothing ever bore it."""
    return _states.get(name)


def forget(name: str) -> None:
    """Let go of all that belongs to a name, to start from nothing."""
    _states.pop(name, None)
    _runners.pop(name, None)
    restart.forget(name)


def forget_ended() -> list[str]:
    """Let go of all that belongs to names which nobody bears any more; return these names.

    An exporter whose process is gone has ended, though it goes on to export what is left and to wait for a
    successor that nobody promised; so has one whose event loop was closed.
    """
    for name, runner in list(_runners.items()):
        if runner.loop.is_closed() or (runner.shutdown.has_begun and restart.promised(name) is None):
            runner.disown()
            del _runners[name]
    ended = [name for name in _states if name not in _runners]
    for name in ended:
        table.remove(name)
        forget(name)
    for step in _when_forgotten:
        step(ended)
    return ended


def when_forgotten(step: Callable[[list[str]], object]) -> None:
    """Have a function told of the names whose belongings :func:`forget_ended` has let go."""
    _when_forgotten.append(step)


def names() -> list[str]:
    """Return the names that own something."""
    return list(_states)


def running() -> list[Runner]:
    """Return the runners that work now."""
    return list(_runners.values())


def begin(runner: Runner) -> None:
    """Show a runner as the one that works for its name from now on; an earlier one steps back."""
    predecessor = _runners.get(runner.state.name)
    _runners[runner.state.name] = runner
    if predecessor is not None:
        runner.lifecycle.after = predecessor.supersede()


def end(runner: Runner) -> None:
    """Show a runner no more, unless somebody else works for its name already."""
    name = runner.state.name
    if _runners.get(name) is runner:
        del _runners[name]


# --- for everybody else -------------------------------------------------------------------------------------


def memory_of(name: str) -> dict[str, Any]:
    """Return what is kept under a name whatever becomes of its process."""
    return state_of(name).memory


def is_running(name: str) -> bool:
    """Tell whether an exporter of this name runs."""
    return name in _runners


def is_configured(name: str) -> bool:
    """Tell whether a configuration of the exporter was ever in force."""
    found = _states.get(name)
    return found is not None and found.configured


def is_listening(name: str) -> bool:
    """Tell whether events reach the exporter's queue; so they do through a crash."""
    return name in _states and name in table.current.table.handlers


def exporter_of(name: str) -> Exporter[Any] | None:
    """Return the exporter that collects now."""
    runner = _runners.get(name)
    return None if runner is None else runner.exporter


def status_of(name: str) -> tuple[str, str | None]:
    """Return what an exporter does (``running``, ``stopped`` ...), and why where it does not run."""
    runner = _runners.get(name)
    return ("stopped", None) if runner is None else (runner.status, runner.reason)


def settings_of(name: str) -> ExporterSettings | None:
    """Return an exporter's settings, or None before it has ever started."""
    found = _states.get(name)
    return None if found is None or found.configuration is None else found.configuration.settings


def scrub(name: str, text: str) -> str:
    """Take an exporter's secrets out of a text."""
    found = _states.get(name)
    return text if found is None or found.configuration is None else found.configuration.scrub(text)


def stats_of(name: str) -> dict[str, Any] | None:
    """Return what an exporter answers to ``get_stats``; None if nothing ever bore the name."""
    if (runner := _runners.get(name)) is not None:
        return runner.stats()
    state = _states.get(name)
    if state is None or not state.lives:
        return None
    return {
        **state.books(),
        "rejected_for": dict(state.ledger.rejected_for),
        "name": state.name,
        "state": "stopped",
        "queue_limit": state.queue_limit,
        "lives": state.lives,
    }


def all_stats() -> list[dict[str, Any]]:
    """Return what every exporter of this process answers to ``get_stats``, in the order of their names.

    A name that was borne once and is not now is among them, as ``stopped``: an exporter that is gone must
    not look like one that never was. To be called on the event loop the exporters run on.
    """
    return [stats for name in sorted(_states) if (stats := stats_of(name)) is not None]


def offer(name: str, event: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Put an event into the queue of one exporter, from any thread."""
    state_of(name).queue.offer(event, measurements, metadata)


def forget_waiting(name: str) -> None:
    """Forget the events that wait in an exporter's queue, as if they had never been emitted."""
    state_of(name).queue.retain(lambda _event: False)


def collect_now(name: str, seconds: float) -> None:
    """Collect every event emitted before this call; another thread than the exporter's waits ``seconds``."""
    if (runner := _runners.get(name)) is not None:
        runner.collect_now(seconds)


async def flush(name: str, seconds: float) -> bool:
    """Export everything accepted so far; return whether nothing is left. On the exporters' loop."""
    runner = _runners.get(name)
    return runner is None or not (await runner.shutdown.flush(seconds))["left"]


async def wait_decided(name: str, seconds: float) -> None:
    """Wait until an exporter is at work or it is known why it is not. On the exporters' loop."""
    if (runner := _runners.get(name)) is not None:
        await runner.lifecycle.health.wait_decided(seconds)


async def flush_pending(name: str) -> None:
    """Export what is pending now, without waiting for it to arrive. On the exporters' loop."""
    if (runner := _runners.get(name)) is not None:
        await runner.shutdown.flush_pending()


async def stop_promised(promise: restart.RestartPromise) -> None:
    """Export what the exporters started under a promise hold and end them; nobody comes after them."""
    await _stop_for_good([each for each in _runners.values() if each.shutdown.promise_given is promise])


def longest_shutdown() -> float:
    """Return how long ending all exporters may take."""
    return max((each.state.settings.shutdown_timeout for each in [*_runners.values()]), default=0.0)


async def stop_all_for_good() -> None:
    """End all exporters, at the same time."""
    await _stop_for_good(list(_runners.values()))


async def _stop_for_good(runners: list[Runner]) -> None:
    await asyncio.gather(*(each.shutdown.stop_for_good() for each in runners), return_exceptions=True)


def _say_what_was_left() -> None:
    for state in _states.values():
        if state.left and state.left != state.left_reported:
            state.left_reported = state.left
            _log.warning(
                "The application ends with %d events that %s had accepted and could not export.",
                state.left,
                state.name,
            )


def _after_fork() -> None:
    """Leave all that belongs to the parent's exporters to the parent, which goes on exporting it.

    The child takes no events for them either: nobody here would ever collect them. Exporters that it starts
    itself begin with nothing.
    """
    states, runners = list(_states.values()), list(_runners.values())
    _states.clear()
    _runners.clear()
    restart.forget_all()
    inherited = {state.name for state in states}
    kept = {key: item for key, item in table.current.table.handlers.items() if key not in inherited}
    table.current.table = table.Table(kept)
    for state in states:
        state.disown()
    for runner in runners:
        runner.disown()


before_process_ends(_say_what_was_left)
after_fork_in_child(_after_fork)
