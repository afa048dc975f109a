"""The result of reading configuration, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from otpylib_telemetry.config.redaction import shown
from otpylib_telemetry.config.settings import SectionSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


S = TypeVar("S", bound=SectionSettings)


@dataclass(frozen=True)
class Resolution(Generic[S]):
    """The settings in force, where each came from, what must not be shown, and what was refused.

    ``origins`` are ``default``, ``environment OTEL_SERVICE_NAME``, ``file /etc/shop/config.toml``, ``put``,
    ``config`` (another source of otpylib-config), ``argument``, ``message``, ``api by ada``.
    """

    settings: S
    origins: Mapping[str, str]
    secrets: frozenset[str]
    problems: tuple[Problem, ...] = ()
    section: str = ""


def changed_keys(old: S, new: S) -> frozenset[str]:
    """Return the keys whose values differ between two settings of one class."""
    keys = type(new).model_fields
    return frozenset(key for key in keys if getattr(old, key, None) != getattr(new, key))


def redacted(resolution: Resolution[S]) -> dict[str, Any]:
    """Return the settings in force as plain data that may be shown to anybody.

    Secrets, and passwords or tokens in URLs, are replaced by ``<redacted>``; an unset secret is shown as
    unset.
    """
    settings = resolution.settings
    return {
        key: shown(getattr(settings, key), secret=key in resolution.secrets)
        for key in type(settings).model_fields
    }


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the configuration.

    ``key`` is the full key, several joined by commas; ``keys`` are without the section. ``summary`` is the
    message without what stays in force. ``token`` is equal for equal values: it tells a bad value from the
    next one where the message must show neither. ``withholds`` is what must not be done because of it.
    """

    key: str
    message: str
    kind: Literal["rejected", "unknown"]
    origin: str = ""
    summary: str = ""
    keys: tuple[str, ...] = ()
    token: int = field(default=0, repr=False)
    withholds: frozenset[str] = frozenset()
