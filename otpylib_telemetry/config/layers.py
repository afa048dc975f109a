"""The values that compete for a key, layer by layer, each checked by itself."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from otpylib_telemetry.config.environment import (
    KIND,
    container,
    from_environment,
    parse,
    unknown_variables,
)
from otpylib_telemetry.config.interpolation import Expanded, Expansion, expand
from otpylib_telemetry.config.messages import reason_words
from otpylib_telemetry.config.refusals import Unusable
from otpylib_telemetry.config.settings import SectionSettings, field_extra, fields_only


class Candidate(NamedTuple):
    """One value one layer has for one key: placeholders expanded, not validated.

    ``problem`` says why it cannot even be tried. ``key`` is the key as written, where no setting has it.
    ``refused`` are the entries of a table that were left out of it.
    """

    value: Any
    origin: str
    secret: bool = False
    problem: str | None = None
    key: Any = ""
    refused: tuple[Refused, ...] = ()

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


class Given(NamedTuple):
    """A value that comes with an origin of its own, whatever layer it is in.

    ``literal`` values were in force before: what looks like a placeholder in them is none. ``secret`` ones
    came from a placeholder.
    """

    value: Any
    origin: str
    secret: bool = False
    literal: bool = False


class Refused(NamedTuple):
    """Values refused for one reason, which is worded as the middle of a sentence."""

    parts: tuple[tuple[str, Candidate], ...]
    reason: str
    #: Of a table, the entry; the others are not refused.
    entry: object = None


def collect_candidates(
    settings_type: type[SectionSettings],
    section: str,
    environ: Mapping[str, str],
    layers: Iterable[tuple[str, Mapping[str, Any]]],
    in_force: SectionSettings | None = None,
) -> tuple[dict[str, list[Candidate]], list[Candidate]]:
    """Return by key the values there are, the strongest first, and what was set under unknown keys.

    ``layers`` are those beside the environment, by origin, the strongest first; what is :class:`Given` in one
    has an origin of its own.
    """
    fields = settings_type.model_fields
    candidates: dict[str, list[Candidate]] = {key: [] for key in fields}
    unknown: list[Candidate] = []
    for layer_origin, layer in layers:
        for key, found_there in layer.items():
            given = found_there if type(found_there) is Given else Given(found_there, layer_origin)
            value, origin = given.value, given.origin
            if value is None and not given.literal:
                continue
            if not isinstance(key, str) or key not in fields:
                # The kind says which settings class this is.
                if type(key) is not str or key != KIND:
                    unknown.append(Candidate(value, origin, key=key))
                continue
            expansion = Expansion(value, given.secret, None) if given.literal else expand(value, environ)
            offered = expansion.value
            if isinstance(offered, Expanded) and offered.from_environment:
                if not offered.strip() and settings_type.meant_protection(key) is None:
                    # A placeholder that turns out empty is no more a value than an empty variable is; but an
                    # empty password is not the wish for none.
                    continue
                offered = parse(fields[key], offered, verbatim=key in settings_type.secret_keys())
            found = _candidate(offered, origin, secret=expansion.secret, problem=expansion.problem)
            candidates[key].append(_with_sound_entries(settings_type, key, found, in_force))
    for key, values in from_environment(settings_type, section, environ).items():
        below = [
            _with_sound_entries(settings_type, key, _candidate(value, f"environment {variable}"), in_force)
            for variable, value in values
        ]
        if field_extra(fields[key], "merge_environment"):
            candidates[key] = [_merged(settings_type, key, own, below) for own in candidates[key]]
        candidates[key].extend(below)
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
    settings_type: type[SectionSettings], key: str, own: Candidate, below: list[Candidate]
) -> Candidate:
    """Lay a table over the valid ones the environment has, entry by entry."""
    if not isinstance(own.value, Mapping):
        return own
    table: dict[Any, Any] = {}
    refused = own.refused
    for candidate in reversed(below):
        if candidate.problem is None and check(settings_type, key, candidate) is None:
            table.update(candidate.value)
            refused += candidate.refused
    return own._replace(value={**table, **own.value}, refused=refused)


def _with_sound_entries(
    settings_type: type[SectionSettings], key: str, candidate: Candidate, in_force: SectionSettings | None
) -> Candidate:
    """Return a table without the entries it cannot have, of which each costs only itself.

    Where an entry of the same name is in force, that stays.
    """
    table = candidate.value
    is_table = container(settings_type.model_fields[key].annotation) is Mapping and isinstance(table, Mapping)
    if not is_table or candidate.problem is not None:
        return candidate
    if not any(isinstance(item, Unusable) for item in table.values()) and not check(
        settings_type, key, candidate
    ):
        return candidate
    refused: list[Refused] = []
    for name, item in table.items():
        entry = _candidate(item, candidate.origin, secret=candidate.secret)
        alone = candidate._replace(value={name: item})
        reason = entry.problem or check(settings_type, key, alone)
        if reason is not None:
            refused.append(Refused(((key, entry),), reason, name))
    if len(refused) == len(table):
        # Not one is left: it is the table that is refused.
        return candidate._replace(problem=refused[0].reason) if refused else candidate
    return _without(candidate, refused, getattr(in_force, key, None))


def _without(candidate: Candidate, refused: list[Refused], in_force: object) -> Candidate:
    # A copy of its own kind: a standard's variables are marked by theirs.
    table = copy.copy(candidate.value) if isinstance(candidate.value, dict) else dict(candidate.value)
    for each in refused:
        del table[each.entry]
        if isinstance(in_force, Mapping) and each.entry in in_force:
            table[each.entry] = in_force[each.entry]
    return candidate._replace(value=table, refused=(*candidate.refused, *refused))


def without_entry(key: str, candidate: Candidate, name: str, reason: str) -> Candidate | None:
    """Return a table without one entry, whatever the case of its name; None if there is no such entry."""
    if not isinstance(candidate.value, Mapping):
        return None
    names = [each for each in candidate.value if isinstance(each, str) and each.lower() == name.lower()]
    refused = [
        Refused(((key, candidate._replace(value=candidate.value[each], refused=())),), reason, each)
        for each in names
    ]
    return _without(candidate, refused, None) if refused else None


def check(
    settings_type: type[SectionSettings], key: str, candidate: Candidate, directory: str | None = None
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
