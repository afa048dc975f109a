"""The keys that say what is scrubbed, of every exporter that sends what applications say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from otpylib_telemetry.config.field_types import Words, none_if_blank, words
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.config.settings import ExporterSettings
from otpylib_telemetry.scrubbing.expressions import safe_expression
from otpylib_telemetry.scrubbing.plan import ScrubPlan

_ACTIONS: Final = ("mask", "hash", "drop")

_EXPECTED: Final = "expected a list of patterns, or a table of patterns with mask, hash or drop for each"

#: How many rules of either kind there may be: each text goes through all of them.
_MAX_RULES: Final = 64


def _as_rules(value: object) -> object:
    """Return a table of patterns by action, of a list or a table; "" for the action of all others."""
    if isinstance(value, Mapping):
        rules: dict[Any, Any] = dict(value)
        if any(not isinstance(action, str) for action in rules.values()):
            raise RefusedError(_EXPECTED)
        rules = {str(pattern): action.strip().lower() for pattern, action in rules.items()}
    else:
        listed: Any = words(value)
        if not isinstance(listed, list) or not all(isinstance(pattern, str) for pattern in listed):
            raise RefusedError(_EXPECTED)
        rules = dict.fromkeys(listed, "")
    if any(action not in {"", *_ACTIONS} for action in rules.values()):
        raise RefusedError(_EXPECTED)
    if any(not pattern.strip() for pattern in rules):
        raise RefusedError("expected patterns, but one is empty")
    if len(rules) > _MAX_RULES:
        raise RefusedError(f"expected at most {_MAX_RULES} patterns")
    return rules


#: Patterns, each with what is done with what it finds; "" for what ``scrub_action`` says.
ScrubRules: TypeAlias = Annotated[
    Mapping[str, str],
    BeforeValidator(
        _as_rules, json_schema_input_type=Mapping[str, Literal["mask", "hash", "drop"]] | list[str] | str
    ),
]


def _as_scope(value: object) -> object:
    """Return what is scrubbed, of a switch too."""
    if isinstance(value, bool):
        return "all" if value else "off"
    said = value.strip().lower() if isinstance(value, str) else value
    return _SWITCHES.get(said, said) if isinstance(said, str) else said


_SWITCHES: Final = {"true": "all", "false": "off"}

#: What is scrubbed.
ScrubScope: TypeAlias = Annotated[
    Literal["all", "keys", "own", "off"],
    BeforeValidator(_as_scope, json_schema_input_type=Literal["all", "keys", "own", "off"] | bool),
]


class ScrubSettings(ExporterSettings):
    """What an exporter can be told about secrets."""

    scrub: ScrubScope = Field(
        "all",
        description="What is taken out before anything is sent: `all`, what is under keys that name secrets "
        "(`password`, `db.password`, `x-api-key`, `set-cookie` ...) and what looks like one (credentials, "
        "keys, numbers of cards ...); `keys`, only the former; `own`, only what `scrub_keys` and "
        "`scrub_values` say; `off`, nothing.",
        json_schema_extra={"remakes": "series"},
    )
    scrub_action: Literal["mask", "hash", "drop"] = Field(
        "mask",
        description="What becomes of it: `mask`, `<redacted>` stands there; `hash`, a keyed hash, the same "
        "for the same secret; `drop`, the attribute is left out (a text that is none is masked).",
        json_schema_extra={"remakes": "series"},
    )
    scrub_keys: ScrubRules = Field(
        default_factory=dict,
        description="Further keys whose values are taken out, as shell patterns in any case: a list, or a "
        'table with an action for each, as in `{ "*email*" = "hash", "note" = "drop" }`.',
        json_schema_extra={"remakes": "series"},
    )
    scrub_values: ScrubRules = Field(
        default_factory=dict,
        description="Further texts that are taken out wherever they are, as regular expressions: a list, or "
        "a table with an action for each. Of an expression with a group, the group is taken out. One that "
        "could block on some text is refused.",
        json_schema_extra={"secret": True, "remakes": "series"},
    )
    scrub_keep: Words = Field(
        (),
        description="Keys that are left as they are, whatever else is set, as shell patterns in any case.",
        json_schema_extra={"remakes": "series"},
    )
    scrub_salt: Annotated[SecretStr | None, BeforeValidator(none_if_blank)] = Field(
        None,
        description="The key of hashes. Unset: one of the process, so that hashes tell nothing after it.",
        json_schema_extra={"remakes": "series"},
    )

    @field_validator("scrub_values")
    @classmethod
    def _scrub_values_cannot_block(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for number, pattern in enumerate(value, start=1):
            try:
                safe_expression(pattern)
            except ValueError as error:
                raise RefusedError(f"pattern {number}: {error}", f"pattern {number} cannot be used") from None
        return value

    def scrub_plan(self) -> ScrubPlan:
        """Return what is scrubbed, and how."""
        own: Any = [
            tuple((pattern, action or None) for pattern, action in rules.items())
            for rules in (self.scrub_keys, self.scrub_values)
        ]
        return ScrubPlan(
            self.scrub,
            self.scrub_action,
            own[0],
            own[1],
            self.scrub_keep,
            "" if self.scrub_salt is None else self.scrub_salt.get_secret_value(),
        )


#: The keys; whatever changes of them is taken into use at once.
SCRUB_KEYS: Final = frozenset(ScrubSettings.model_fields) - frozenset(ExporterSettings.model_fields)
