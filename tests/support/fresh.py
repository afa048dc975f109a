"""Module-level state of the packages, set back so that no test sees what another left."""

from otpylib_telemetry import otp
from otpylib_telemetry.bus import backlog, dispatch, table
from otpylib_telemetry.bus.table import Table
from otpylib_telemetry.config import sections
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
    otp._reasons.clear()
    observed.forget()
    polls.forget()
    services.forget()
    for name in registry.names():
        registry.forget(name)
    _drop_tasks_of_ended_loops()


def _drop_tasks_of_ended_loops():
    """A task whose loop no longer runs can neither end nor be cancelled; a later test would wait for it."""
    for task in list(otp._background):
        if not task.get_loop().is_running():
            # Else its destruction would be reported, in the middle of some other test.
            task._log_destroy_pending = False
            otp._background.discard(task)
