"""The values that compete for a key, layer by layer, each checked by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from otpylib_telemetry.config.environment import KIND, from_environment, parse, unknown_variables
from otpylib_telemetry.config.interpolation import Expanded, expand
from otpylib_telemetry.config.messages import reason_words
from otpylib_telemetry.config.settings import ExporterSettings, Unusable, field_extra, fields_only


class Candidate(NamedTuple):
    """One value one layer has for one key: placeholders expanded, not validated.

    ``problem`` says why it cannot even be tried. ``key`` is the key as written, where no setting has it.
    """

    value: Any
    origin: str
    secret: bool = False
    problem: str | None = None
    key: Any = ""

    @classmethod
    def default(cls) -> Candidate:
        """Return the candidate that stands for the default of any key."""
        return cls(None, "default")

    def token(self) -> int:
        """Return a number that is equal for equal values, without keeping the value."""
        try:
            return hash((type(self.value).__name__, repr(self.value), self.problem))
        except Exception:  # noqa: BLE001  # some objects cannot even be printed
            return hash((type(self.value).__name__, self.problem))


class Refused(NamedTuple):
    """Values refused for one reason, which is worded as the middle of a sentence."""

    parts: tuple[tuple[str, Candidate], ...]
    reason: str


def collect_candidates(
    settings_type: type[ExporterSettings],
    section: str,
    environ: Mapping[str, str],
    layers: Iterable[tuple[str, Mapping[str, Any]]],
) -> tuple[dict[str, list[Candidate]], list[Candidate]]:
    """Return by key the values there are, the strongest first, and what was set under unknown keys.

    ``layers`` are those beside the environment, by origin, the strongest first.
    """
    fields = settings_type.model_fields
    candidates: dict[str, list[Candidate]] = {key: [] for key in fields}
    unknown: list[Candidate] = []
    for origin, layer in layers:
        for key, value in layer.items():
            if value is None:
                continue
            if not isinstance(key, str) or key not in fields:
                # The kind says which settings class this is.
                if type(key) is not str or key != KIND:
                    unknown.append(Candidate(value, origin, key=key))
                continue
            expansion = expand(value, environ)
            offered = expansion.value
            if isinstance(offered, Expanded) and offered.from_environment:
                if not offered.strip() and settings_type.meant_protection(key) is None:
                    # A placeholder that turns out empty is no more a value than an empty variable is; but an
                    # empty password is not the wish for none.
                    continue
                offered = parse(fields[key], offered, verbatim=key in settings_type.secret_keys())
            candidates[key].append(
                _candidate(offered, origin, secret=expansion.secret, problem=expansion.problem)
            )
    for key, values in from_environment(settings_type, section, environ).items():
        found = [_candidate(value, f"environment {variable}") for variable, value in values]
        if field_extra(fields[key], "merge_environment"):
            candidates[key] = [_merged(settings_type, key, own, found) for own in candidates[key]]
        candidates[key].extend(found)
    unknown.extend(
        Candidate(environ[variable].strip(), f"environment {variable}", key=key)
        for variable, key in unknown_variables(settings_type, section, environ).items()
    )
    return candidates, unknown


def _candidate(value: Any, origin: str, *, secret: bool = False, problem: str | None = None) -> Candidate:
    if isinstance(value, Unusable):
        return Candidate(value.value, origin, secret=secret, problem=value.reason)
    return Candidate(value, origin, secret=secret, problem=problem)


def _merged(
    settings_type: type[ExporterSettings], key: str, own: Candidate, below: list[Candidate]
) -> Candidate:
    """Lay a table over the valid ones the environment has, entry by entry."""
    if not isinstance(own.value, Mapping):
        return own
    table: dict[Any, Any] = {}
    for candidate in reversed(below):
        if candidate.problem is None and check(settings_type, key, candidate) is None:
            table.update(candidate.value)
    return own._replace(value={**table, **own.value})


def check(
    settings_type: type[ExporterSettings], key: str, candidate: Candidate, directory: str | None = None
) -> str | None:
    """Return why a field refuses a value, as the middle of a sentence, or None if it takes it."""
    field = settings_type.model_fields[key]
    secret = candidate.secret or key in settings_type.secret_keys()
    try:
        settings_type.model_validate({key: candidate.value}, context=fields_only(directory))
    except ValidationError as error:
        own = [details for details in error.errors(include_url=False) if details["loc"][:1] == (key,)]
        return reason_words(field, own[0], secret=secret, hidden=candidate.secret) if own else None
    except Exception as error:  # noqa: BLE001  # a validator of an exporter of the user's own
        return f"checking it failed with {type(error).__name__}"
    return None
