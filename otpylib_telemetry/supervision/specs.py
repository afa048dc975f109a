"""Child spec and supervisor of one exporter."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from otpylib import supervisor

from otpylib_telemetry import otp
from otpylib_telemetry.config import resolve
from otpylib_telemetry.exporter.server import instance_of
from otpylib_telemetry.supervision.supervisor import Child, Watcher, supervisor_module

_log = logging.getLogger("otpylib_telemetry")


@contextlib.contextmanager
def said_before_raised() -> Iterator[None]:
    """Log why something is refused before it is raised.

    otpylib swallows what is raised in the init of a supervisor, where child specs are made: the application
    would hang without a word.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        _log.error("%s", error)  # a traceback into this package helps nobody
        raise


def exporter_child_spec(
    module: Any, argument: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Any:
    """Return a child spec that runs an exporter, or a service, under a supervisor of its own.

    Under that supervisor it is restarted whatever killed it, and is shut down in order with the
    tree.

    Args:
        module: The exporter's GenServer class.
        argument: Settings that go before configuration.
        name: Makes it a further instance, ``audit`` for instance: registered as ``audit_exporter``,
            configured by ``telemetry.audit``.

    Returns:
        A ``supervisor.child_spec``.

    Raises:
        TypeError: The module is no such class.
        ValueError: The argument is wrong; the message lists every mistake. Or the name is.
    """
    module, checked = _checked(module, argument, name)
    return supervisor.child_spec(
        id=f"{module.registered_name}_sup",
        module=ExporterSupervisor,
        args=(module, checked),
        name=f"{module.registered_name}_sup",
    )


@said_before_raised()
def _checked(module: Any, argument: Mapping[str, Any] | None, name: str | None) -> tuple[Any, dict[str, Any]]:
    """Return the class that is started, and its start argument."""
    if not hasattr(module, "settings_type") or not hasattr(module, "registered_name"):
        shown = getattr(module, "__name__", type(module).__name__)
        raise TypeError(f"module: expected the GenServer class of an exporter or a service, got {shown}")
    if name is not None and not hasattr(module, "exporter_type"):
        raise ValueError(f"name: {module.__name__} is a service, of which there are no further instances")
    module = module if name is None else instance_of(module, name)
    return module, checked_argument(module, argument)


def checked_argument(module: Any, argument: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a start argument that is right; the ValueError otherwise lists every mistake."""
    if argument is None:
        return {}
    if not isinstance(argument, Mapping):
        raise ValueError(  # noqa: TRY004  # callers are promised one kind of exception
            f"{module.section}: a table of settings was expected, not {type(argument).__name__}"
        )
    resolve.validate_argument(module.settings_type, module.section, argument)
    return dict(argument)


async def start_exporter(
    module: Any, argument: Mapping[str, Any] | None = None, *, name: str | None = None
) -> Any:
    """Start an exporter by itself, unsupervised; from anywhere a runtime is set.

    Args:
        module: The exporter's GenServer class.
        argument: Settings that go before configuration.
        name: Makes it a further instance; as for :func:`exporter_child_spec`.

    Returns:
        Its pid.

    Raises:
        TypeError: The module is no such class.
        ValueError: The argument is wrong, or the name.
        RuntimeError: No otpylib runtime is set.
    """
    module, checked = _checked(module, argument, name)
    registered = module.registered_name
    return await otp.start_server(module, checked, registered, link=False)


def _plan_exporter(arg: tuple[Any, dict[str, Any]]) -> tuple[list[Child], Watcher]:
    module, argument = arg
    return [Child(module.registered_name, module, argument)], Watcher()


ExporterSupervisor = supervisor_module(
    __name__,
    "ExporterSupervisor",
    "Supervisor of a single exporter; see :func:`exporter_child_spec`.",
    _plan_exporter,
)
