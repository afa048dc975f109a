"""Which sections there are, and whose: those of every installed exporter and service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from otpylib_telemetry.config import sections
from otpylib_telemetry.services import starting
from otpylib_telemetry.supervision.suite import load_exporter

if TYPE_CHECKING:
    from otpylib_telemetry.config.settings import SectionSettings
    from otpylib_telemetry.exporter.base import Exporter


class Known(NamedTuple):
    """Who reads a section. Without a settings class it cannot be used, and ``trouble`` says why."""

    kind: str
    settings_type: type[SectionSettings] | None = None
    exporter: type[Exporter[Any]] | None = None
    trouble: str = ""


def installed() -> dict[str, Known]:
    """Return the sections that are there without anybody asking for them, by name."""
    found = {name: _exporter(name, entry) for name, entry in sorted(sections.registered_exporters().items())}
    for name, service in sorted(starting.registered().items()):
        found[name] = Known(name, service.load().settings_type)
    return found


def known_sections(tables: object, environ: Mapping[str, str]) -> dict[str, Known]:
    """Return the sections there are beside what a file and the environment ask for, by name.

    ``tables`` is what the file has below ``telemetry``.
    """
    found = installed()
    exporters = sections.registered_exporters()
    wanted = sections.kinds_in_environment(environ)
    if isinstance(tables, Mapping):
        wanted |= sections.kinds_in_tables(tables)
    for name, kind in wanted.items():
        if kind in exporters:
            found.setdefault(name, found[kind])
    return found


def _exporter(name: str, entry: Any) -> Known:
    try:
        module = load_exporter(name, entry)
    except Exception as error:  # noqa: BLE001 - somebody else's package
        return Known(name, trouble=str(error))
    return Known(name, module.settings_type, module.exporter_type)
