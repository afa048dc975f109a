"""What otpylib-config knows and does not tell."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.otp.processes import task_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Called with path and value of what is put though it is held already; tells whether it is theirs.
_hearing: Final[list[Callable[[str, Any], bool]]] = []


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


def hear_of_equal_puts(heard: Callable[[str, Any], bool]) -> None:
    """Have a function called, in the manager's process, with what is put that the manager holds already.

    It must neither block nor raise, and tells whether the path is one of its own.

    Defect: such a put is not stored, and nobody is told: what it was to beat goes on counting. So is one of
    true over 1.
    """
    _watch_puts()
    if heard not in _hearing:
        _hearing.append(heard)


def hear_no_more(heard: Callable[[str, Any], bool]) -> None:
    """Call a function of :func:`hear_of_equal_puts` no more."""
    if heard in _hearing:
        _hearing.remove(heard)


@functools.cache
def _watch_puts() -> None:
    from otpylib_config import core  # noqa: PLC0415  # as above
    from otpylib_config.atoms import config_path_atom  # noqa: PLC0415

    put = core.ensure_config_value

    @functools.wraps(put)
    async def put_and_tell(path: str, value: Any, state: Any) -> Any:
        result = await put(path, value, state)
        if _hearing and result.is_ok() and not result.unwrap()["changed"]:
            heard = [each(path, value) for each in tuple(_hearing)]
            if any(heard):
                state.runtime_config[config_path_atom(path)] = value
        return result

    core.ensure_config_value = put_and_tell
