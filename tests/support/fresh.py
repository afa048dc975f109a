"""Module-level state of the packages, set back so that no test sees what another left."""

from otpylib_telemetry import bus, deferred, estate, handlers, otp, sections
from otpylib_telemetry.handlers import Table


def forget_everything():
    """Detach every handler, and drop what belongs to exporters' names."""
    handlers.current.table = Table({})
    deferred.reset()
    bus.refused.reset()
    sections.forget()
    for name in estate.names():
        estate.forget(name)
    _drop_tasks_of_ended_loops()


def _drop_tasks_of_ended_loops():
    """A task whose loop no longer runs can neither end nor be cancelled; a later test would wait for it."""
    for task in list(otp._background):
        if not task.get_loop().is_running():
            # Else its destruction would be reported, in the middle of some other test.
            task._log_destroy_pending = False
            otp._background.discard(task)
