"""From everything that was ever said about an exporter's settings to the settings in force.

Layers, the weakest first: defaults; the environment; otpylib-config; the argument given at start; changes
made while running. Every key is decided by itself: the strongest layer that has a valid value for it wins, so
one bad value never holds back another. This is a pure room: it reads no file and no clock, and logs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from otpylib_telemetry.candidates import gather
from otpylib_telemetry.decision import Decision
from otpylib_telemetry.problems import Problem, check_sections, full_section, refusal, stray_problem
from otpylib_telemetry.redaction import shown
from otpylib_telemetry.settings import ExporterSettings
from otpylib_telemetry.wording import value_words

__all__ = [
    "Problem",
    "Resolution",
    "changed_keys",
    "check_sections",
    "fresh_problems",
    "full_section",
    "redacted",
    "resolve",
    "validate_argument",
]

S = TypeVar("S", bound=ExporterSettings)

_NOTHING: Mapping[str, Any] = MappingProxyType({})


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


def resolve(  # noqa: PLR0913  # one argument per layer
    settings_type: type[S],
    section: str,
    *,
    environ: Mapping[str, str],
    config: Mapping[str, Any] = _NOTHING,
    argument: Mapping[str, Any] = _NOTHING,
    runtime: Mapping[str, Any] = _NOTHING,
    previous: Resolution[S] | None = None,
) -> Resolution[S]:
    """Decide which settings are in force.

    A bad value is refused by itself: its key keeps the value of ``previous`` or, without one, takes that of
    the next weaker layer that has a valid one. Of settings that are valid but do not go together, as few are
    refused as will do. None stands for "not set here" in every layer. ``${NAME}`` is expanded in ``config``,
    ``argument`` and ``runtime``.

    Args:
        settings_type: The settings class.
        section: The section, ``telemetry.otel`` or ``otel``.
        environ: The environment variables.
        config: What otpylib-config has, by bare key (``batch_size``).
        argument: What was given at start, by bare key.
        runtime: What was changed while running, by bare key.
        previous: What is in force until now.

    Returns:
        The settings, with an entry in ``problems`` for everything that was not taken.
    """
    section = full_section(section)
    layers = {"runtime": runtime, "argument": argument, "config": config}
    gathered = gather(settings_type, section, environ, layers)
    decision = Decision(settings_type, gathered.candidates, previous)
    settings = decision.settle()
    secrets = decision.secrets()
    origins = MappingProxyType({key: item.origin for key, item in decision.chosen.items()})
    problems = [refusal(section, settings, origins, secrets, refused) for refused in decision.refused]
    problems += [stray_problem(settings_type, section, stray) for stray in gathered.strays]
    return Resolution(
        settings=settings.hiding(secrets - settings_type.secret_keys()),
        origins=origins,
        secrets=secrets,
        problems=tuple(problems),
        section=section,
    )


def validate_argument(
    settings_type: type[ExporterSettings],
    section: str,
    argument: Any,
    *,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Refuse a start argument that is wrong, where it is given.

    Args:
        settings_type: The settings class.
        section: The section, ``telemetry.otel`` or ``otel``.
        argument: What was given; None is the same as an empty dict.
        environ: The environment variables; by default the process's own.

    Raises:
        ValueError: Something in it is wrong; the message names everything that is.
    """
    section = full_section(section)
    if argument is None:
        return
    if not isinstance(argument, Mapping):
        raise ValueError(  # noqa: TRY004  # callers are promised one kind of exception
            f"The start argument of {section} must be a dict of settings, got {value_words(argument)}."
        )
    environ = os.environ if environ is None else environ
    resolution = resolve(settings_type, section, environ=environ, argument=argument)
    wrong = [problem.summary for problem in resolution.problems if problem.origin == "argument"]
    if wrong:
        raise ValueError(
            "\n".join([f"The start argument of {section} is refused:", *(f"  {s}" for s in wrong)])
        )


def changed_keys(old: S, new: S) -> frozenset[str]:
    """Return the keys whose values differ between two settings of one class."""
    keys = type(new).model_fields
    return frozenset(key for key in keys if getattr(old, key, None) != getattr(new, key))


def fresh_problems(resolution: Resolution[S], previous: Resolution[S] | None) -> tuple[Problem, ...]:
    """Return the problems that were not there before: what to tell, so that nothing is told twice."""
    if previous is None:
        return resolution.problems
    told = {(problem.key, problem.kind, problem.token) for problem in previous.problems}
    return tuple(p for p in resolution.problems if (p.key, p.kind, p.token) not in told)


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
