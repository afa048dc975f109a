"""From everything that was ever said about an exporter's settings to the settings in force.

Layers, the weakest first: defaults; the environment; otpylib-config; the argument given at start; changes
made while running. Every key is decided by itself: the strongest layer that has a valid value for it wins, so
one bad value never holds back another. Pure: reads no file and no clock, and logs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic

from pydantic import ValidationError

from otpylib_telemetry.config.layers import Candidate, Refused, check, collect_candidates, without_entry
from otpylib_telemetry.config.messages import value_words
from otpylib_telemetry.config.problems import full_section, refusal, unknown_key
from otpylib_telemetry.config.refusals import Conflict
from otpylib_telemetry.config.resolution import Resolution, S
from otpylib_telemetry.config.settings import SectionSettings, fields_only

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def resolve(  # noqa: PLR0913  # one argument per layer
    settings_type: type[S],
    section: str,
    *,
    environ: Mapping[str, str],
    config: Mapping[str, Any] = _NOTHING,
    argument: Mapping[str, Any] = _NOTHING,
    runtime: Mapping[str, Any] = _NOTHING,
    previous: Resolution[S] | None = None,
    directory: str | None = None,
) -> Resolution[S]:
    """Decide which settings are in force.

    A bad value is refused by itself: its key keeps the value of ``previous`` or, without one, takes that of
    the next weaker layer that has a valid one. Of settings that are valid but do not go together, as few are
    refused as will do. None stands for "not set here" in every layer. ``${NAME}`` is expanded in ``config``,
    ``argument`` and ``runtime``. Relative paths are those of ``directory``.
    """
    section = full_section(section)
    layers = [("runtime", runtime), ("argument", argument), ("config", config)]
    in_force = None if previous is None else previous.settings
    candidates, unknown = collect_candidates(settings_type, section, environ, layers, in_force)
    decision = _Decision(settings_type, candidates, previous, directory)
    settings = decision.build_settings()
    secrets = decision.secrets()
    origins = MappingProxyType({key: item.origin for key, item in decision.chosen.items()})
    problems = [refusal(section, settings, origins, secrets, refused) for refused in decision.refused]
    problems += [unknown_key(settings, section, candidate) for candidate in unknown]
    withheld = {what: problem.message.removesuffix(".") for problem in problems for what in problem.withholds}
    return Resolution(
        settings=settings.hiding(secrets - settings_type.secret_keys()).withholding(withheld),
        origins=origins,
        secrets=secrets,
        problems=tuple(problems),
        section=section,
    )


def validate_argument(
    settings_type: type[SectionSettings],
    section: str,
    argument: Any,
    *,
    environ: Mapping[str, str] | None = None,
) -> None:
    """Refuse a wrong start argument where it is given: one ValueError that names everything wrong in it."""
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


class _Decision(Generic[S]):
    """Chooses a value for each key by itself, then gives up as few as needed for all to go together."""

    def __init__(
        self,
        settings_type: type[S],
        candidates: Mapping[str, list[Candidate]],
        previous: Resolution[S] | None,
        directory: str | None,
    ) -> None:
        self.settings_type = settings_type
        self.previous = previous
        self.directory = directory
        self.chosen: dict[str, Candidate] = {}
        self.refused: list[Refused] = []
        self._left = {key: list(candidates.get(key, ())) for key in settings_type.model_fields}
        self._kept: set[str] = set()
        for key in settings_type.model_fields:
            self._choose(key)

    def secrets(self) -> frozenset[str]:
        """Return the keys whose chosen values must not be shown."""
        hidden = {key for key, candidate in self.chosen.items() if candidate.secret}
        if self.previous is not None:
            # A table that is changed entry by entry still has the entries that were secret before.
            tables = {key for key, candidate in self.chosen.items() if isinstance(candidate.value, Mapping)}
            hidden |= tables & self.previous.secrets
        return self.settings_type.secret_keys() | hidden

    def build_settings(self) -> S:
        """Return settings of the chosen values; ValueError if the class refuses its own defaults."""
        while True:
            settings, conflict = self._build()
            if conflict is not None:
                self._give_up(settings, conflict)
            elif settings is not None:
                return settings

    def _choose(self, key: str) -> None:
        """Take the strongest candidate that is valid; without one, what was in force, or the default."""
        left = self._left[key]
        while left:
            candidate = left.pop(0)
            reason = candidate.problem or check(self.settings_type, key, candidate, self.directory)
            if reason is None:
                self.chosen[key] = candidate
                self.refused.extend(candidate.refused)
                return
            self.refused.append(Refused(((key, candidate),), reason))
            if self.previous is not None:
                self._keep(key, self.previous)
                return
        self.chosen[key] = Candidate.default()

    def _keep(self, key: str, previous: Resolution[S]) -> None:
        self._kept.add(key)
        origin = previous.origins.get(key, "default")
        if origin == "default":
            self.chosen[key] = Candidate.default()
        else:
            value = getattr(previous.settings, key)
            self.chosen[key] = Candidate(value, origin, secret=key in previous.secrets)

    def _build(self) -> tuple[S | None, Conflict | None]:
        """Return the settings, where they can be built, and what speaks against them."""
        values = {key: item.value for key, item in self.chosen.items() if item.origin != "default"}
        try:
            settings = self.settings_type.model_validate(values, context=fields_only(self.directory))
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            blamed = tuple(str(part) for part in details["loc"][:1])
            reason = str(details.get("ctx", {}).get("error") or details["msg"])
            return None, Conflict(blamed, reason, "the settings do not go together")
        except Exception as error:  # noqa: BLE001  # a validator of an exporter of the user's own
            return None, Conflict((), f"checking the settings failed with {type(error).__name__}")
        return settings, next(iter(settings.conflicts()), None)

    def _give_up(self, settings: S | None, conflict: Conflict) -> None:
        """Refuse what brought a conflict about: the first blamed key that changed, else all that changed."""
        if conflict.entry is not None and self._give_up_entry(conflict.keys[0], conflict.entry, conflict):
            return
        changed = [key for key in self.chosen if self._is_changed(settings, key)]
        refused = [key for key in conflict.keys if key in changed][:1] or changed
        if not refused:
            raise ValueError(f"{self.settings_type.__name__} refuses its own defaults: {conflict.reason}")
        secret = not self.secrets().isdisjoint([*conflict.keys, *refused])
        reason = (conflict.public or conflict.reason) if secret else conflict.reason
        self.refused.append(Refused(tuple((key, self.chosen[key]) for key in refused), reason))
        for key in refused:
            if self.previous is not None:
                self._keep(key, self.previous)
            else:
                self._choose(key)

    def _give_up_entry(self, key: str, name: str, conflict: Conflict) -> bool:
        candidate = without_entry(key, self.chosen[key], name, conflict.public or conflict.reason)
        if candidate is None:
            return False
        self.refused.extend(candidate.refused[len(self.chosen[key].refused) :])
        self.chosen[key] = candidate
        return True

    def _is_changed(self, settings: S | None, key: str) -> bool:
        candidate = self.chosen[key]
        if self.previous is None:
            return candidate.origin != "default"
        if key in self._kept:
            return False
        before = getattr(self.previous.settings, key)
        if settings is not None:
            return bool(getattr(settings, key) != before)
        if candidate.origin == "default":
            return self.previous.origins.get(key) != "default"
        return bool(candidate.value != before)
