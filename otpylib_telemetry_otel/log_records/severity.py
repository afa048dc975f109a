"""How severe a log record is: OpenTelemetry's numbers, and the names they go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The severities there are, and the number of the least of each (OpenTelemetry's "Logs Data Model",
#: "Field: SeverityNumber").
SEVERITIES: Final[Mapping[str, int]] = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "warn": 13,
    "error": 17,
    "fatal": 21,
}
_LARGEST: Final = 24

_SHORT_NAMES: Final = tuple(f"{name.upper()}{more}" for name in SEVERITIES for more in ("", "2", "3", "4"))

#: Other names of the same, by the examples of "Appendix B" of the data model; CRITICAL is what Python calls
#: FATAL.
_BY_NAME: Final[Mapping[str, int]] = {
    **{name: number for number, name in enumerate(_SHORT_NAMES, start=1)},
    "VERBOSE": 1,
    "INFORMATION": 9,
    "INFORMATIONAL": 9,
    "NOTICE": 10,
    "WARNING": 13,
    "ERR": 17,
    "EXCEPTION": 17,
    "ALERT": 19,
    "CRITICAL": 21,
    "CRIT": 21,
    "EMERGENCY": 21,
    "EMERG": 21,
    "PANIC": 21,
}

INFO: Final = SEVERITIES["info"]
ERROR: Final = SEVERITIES["error"]


def short_name(severity: int) -> str:
    """Return the name of a severity number, such as ``WARN`` or ``INFO2``."""
    return _SHORT_NAMES[severity - 1]


def severity_number(value: object) -> int | None:
    """Return the severity that a number or a member of OpenTelemetry's enumeration is; None if it is none."""
    kind = type(value)
    if kind is int:
        return value if 1 <= value <= _LARGEST else None  # type: ignore[operator,return-value]  # it is one
    return None if value is None or kind is bool else meant_by(name_of(value) or "")


def meant_by(name: str) -> int | None:
    """Return the severity that a name stands for, or None if it stands for none."""
    return _BY_NAME.get(name.upper())


def name_of(value: object) -> str | None:
    """Return text, or the name of a member of an enumeration; None for nothing."""
    if value is None:
        return None
    try:
        said: Any = str.__str__(value) if issubclass(type(value), str) else getattr(value, "name", None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the value's own code may do anything
        return None
    return said.strip() or None if type(said) is str else None
