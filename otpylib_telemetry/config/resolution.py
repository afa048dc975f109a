"""The result of reading configuration, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from otpylib_telemetry.config.redaction import shown
from otpylib_telemetry.config.settings import ExporterSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


S = TypeVar("S", bound=ExporterSettings)


@dataclass(frozen=True)
class Resolution(Generic[S]):
    """The settings in force and how they came about.

    Attributes:
        settings: The settings: always valid, always complete.
        origins: By key, where the value came from: ``default``, ``environment OTEL_SERVICE_NAME``,
            ``config``, ``argument`` or ``runtime``.
        secrets: Keys whose value must not be shown: secret ones, and those that came from a ``${...}``.
        problems: What was found wrong, one entry for each bad value.
        section: The section, in full.
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
    """Something in the configuration that is not as its author believes.

    Attributes:
        key: The full key, ``telemetry.otel.batch_size``; several, joined by commas, where they are refused
            together.
        message: One line for a person: what, where, what was expected, what is in force now.
        kind: ``rejected``: a bad value; ``unknown``: no such key.
        origin: The layer it came from, worded as in ``Resolution.origins``.
        summary: The message without what is in force now.
        keys: The keys without their section.
        token: Equal for equal values, different for others; means nothing beyond this process. It tells a bad
            value from the next one where the message must show neither.
    """

    key: str
    message: str
    kind: Literal["rejected", "unknown"]
    origin: str = ""
    summary: str = ""
    keys: tuple[str, ...] = ()
    token: int = field(default=0, repr=False)
