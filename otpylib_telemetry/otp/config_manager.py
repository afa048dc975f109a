"""What otpylib-config knows and does not tell."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.otp.processes import task_of

if TYPE_CHECKING:
    from collections.abc import Callable

#: Called with path and value of what is put, and whether that differs; tells whether it is to stay put.
_hearing: Final[list[Callable[[str, Any, bool], bool]]] = []


@functools.cache
def config_manager_name() -> Any:
    """Return the name of otpylib-config's manager.

    Defect: it is registered under an Atom, which is not found under the string of the same text.
    """
    from otpylib_config import CONFIG_MANAGER  # noqa: PLC0415  # importing it is not free, and not always needed

    return CONFIG_MANAGER


def config_puts(pid: Any, section: str) -> dict[str, Any] | None:
    """Return the keys of a section that somebody put into otpylib-config; None where that cannot be told.

    They have values where the whole section was put, which does not show in what is read of the keys.

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

            return _puts_in(section, {path_from_atom(atom): value for atom, value in puts.items()})
        step = getattr(step, "cr_await", None)
    return None


def _puts_in(section: str, puts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in puts.items():
        if path == section and isinstance(value, Mapping):
            found |= {
                name: each for name, each in value.items() if isinstance(name, str) and each is not None
            }
        elif path.startswith(f"{section}.") and value is not None:
            key, dot, entry = path.removeprefix(f"{section}.").partition(".")
            table = found.get(key)
            found[key] = {**table, entry: value} if dot and isinstance(table, Mapping) else None
    return found


def hear_of_equal_puts(heard: Callable[[str, Any, bool], bool]) -> None:
    """Have a function called, in the manager's process, with path and value of what is put.

    It is told as well whether that is something new. It must neither block nor raise, and tells whether the
    value is to stay put: the manager does not store what it holds already.

    Defect: such a put is not stored, and nobody is told: what it was to beat goes on counting. So is one of
    true over 1.
    """
    _watch_puts()
    if heard not in _hearing:
        _hearing.append(heard)


def hear_no_more(heard: Callable[[str, Any, bool], bool]) -> None:
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
        if _hearing and result.is_ok():
            atom, puts, is_new = config_path_atom(path), state.runtime_config, result.unwrap()["changed"]
            heard = [each(path, value, is_new) for each in tuple(_hearing)]
            if any(heard):
                puts[atom] = value
            if atom in puts:
                # Of a key and of its whole section, the last one counts.
                puts[atom] = puts.pop(atom)
        return result

    core.ensure_config_value = put_and_tell
