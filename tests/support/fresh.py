"""Module-level state of the packages, set back so that no test sees what another left."""

from otpylib_telemetry import bus, deferred, estate, handlers, sections
from otpylib_telemetry.handlers import Table


def forget_everything():
    """Detach every handler, and drop what belongs to exporters' names."""
    handlers.current.table = Table({})
    deferred.reset()
    bus.refused.reset()
    sections.forget()
    for name in estate.names():
        estate.forget(name)
