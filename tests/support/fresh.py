"""Module-level state of the packages, set back so that no test sees what another left."""

import logging
import sys

from otpylib_telemetry import otp
from otpylib_telemetry.bus import backlog, dispatch, table
from otpylib_telemetry.bus.table import Table
from otpylib_telemetry.config import history, sections
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.meters import observed
from otpylib_telemetry.poller import polls
from otpylib_telemetry.services import server as services


def forget_everything():
    """Detach every handler, and drop what belongs to exporters' names."""
    table.current.table = Table({})
    backlog.reset()
    dispatch.refused.reset()
    sections.forget()
    history.HISTORY.forget()
    otp.emitters._reasons.clear()
    observed.forget()
    polls.forget()
    services.forget()
    for name in registry.names():
        registry.forget(name)
    _drop_tasks_of_ended_loops()


def _drop_tasks_of_ended_loops():
    """A task whose loop no longer runs can neither end nor be cancelled; a later test would wait for it."""
    for task in list(otp.tasks._background):
        if not task.get_loop().is_running():
            # Else its destruction would be reported, in the middle of some other test.
            task._log_destroy_pending = False
            otp.tasks._background.discard(task)


def logging_state():
    """What a test may change of Python's logging: the root, and the levels and handlers of loggers."""
    loggers = logging.root.manager.loggerDict
    changed = {
        name: (each.level, each.disabled, each.propagate, list(each.handlers))
        for name, each in loggers.items()
        if isinstance(each, logging.Logger)
    }
    return logging.root.level, list(logging.root.handlers), logging.root.manager.disable, changed


def left_behind(logging_before):
    """Tell what a test left in the process that the next one would run into."""
    found = []
    set_up = sys.modules.get("otpylib_telemetry_otel.set_up")
    if set_up is not None and (current := set_up.SetUp.current) is not None and current.counts:
        found.append(f"a telemetry of its own for the OpenTelemetry API: {current.settings}")
    root, now = logging_before[:3], logging_state()
    if root != now[:3]:
        found.append(f"the root logger: {root} became {now[:3]}")
    fresh = (logging.NOTSET, False, True, [])
    for name, state in now[3].items():
        # A library that is imported in a test does as it likes with its own loggers, once and for all.
        is_a_librarys = name.partition(".")[0] in sys.modules
        if not is_a_librarys and state != logging_before[3].get(name, fresh):
            found.append(f"logger {name}: {logging_before[3].get(name, fresh)} became {state}")
    return found
