"""Reading a section from otpylib-config, and hearing of its changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otpylib import process

from otpylib_telemetry import otp
from otpylib_telemetry.config import toml_source

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What the process gets when a path of its section changed.
NOTICE = "telemetry_config_notice"


async def _notify(subscriber: str, path: str, _old: Any, _new: Any) -> None:
    """Tell a process that a path changed.

    Runs inside the config manager, which answers nobody meanwhile: one send and nothing else. A module-level
    function with the exporter's name as identifier makes every subscription of it the same one, so that a
    process that restarts and subscribes again is told once.
    """
    await process.send(subscriber, (NOTICE, path))


async def subscribe(name: str, section: str) -> None:
    """Ask otpylib-config to tell a process of every change in a section."""
    from otpylib_config import Config  # noqa: PLC0415  # see otp.config_manager_name

    for pattern in (section, f"{section}.*"):
        await Config.subscribe(pattern, _notify, name)


async def read_section(section: str, keys: Iterable[str]) -> dict[str, Any]:
    """Read a section key by key, which is the only way otpylib-config gives one out.

    Ask for tables before their entries (``headers``, ``headers.x``). Keys written in a file are read as well
    (:class:`~otpylib_telemetry.config.toml_source.TomlSource`), so that a misspelt one is noticed.
    """
    from otpylib_config import Config  # noqa: PLC0415  # see otp.config_manager_name

    wanted = dict.fromkeys(keys)
    for source in toml_source.known_sources():
        wanted.update(dict.fromkeys(source.section_keys(section)))
    whole = await Config.get(section)
    found = dict(whole) if isinstance(whole, dict) else {}
    for key in wanted:
        value = await Config.get(f"{section}.{key}")
        if value is None:
            continue
        table, dot, entry = key.partition(".")
        if dot:
            # An entry put by itself lies over the table it belongs to.
            found[table] = {**_as_table(found.get(table)), entry: value}
        else:
            found[key] = value
    return found


async def read_value(path: str) -> Any:
    """Return what otpylib-config has under a path, or None."""
    from otpylib_config import Config  # noqa: PLC0415  # see otp.config_manager_name

    return await Config.get(path)


def _as_table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def manager() -> Any | None:
    """Return the pid of the running config manager, or None."""
    return otp.whereis(otp.config_manager_name())
