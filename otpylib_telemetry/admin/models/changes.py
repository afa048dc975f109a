"""The configuration, its changes and their history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, RootModel, WithJsonSchema

from otpylib_telemetry.admin.models.base import _LONGEST, Model, Parameters


def _flag(value: object) -> object:
    """Return a switch of a query: `?dry_run` and `?dry_run=1` are both yes."""
    if isinstance(value, str):
        return {"": True, "1": True, "true": True, "0": False, "false": False}.get(value.lower(), value)
    return value


Flag = Annotated[
    bool, BeforeValidator(_flag), WithJsonSchema({"enum": ["0", "1", "true", "false"], "type": "string"})
]


#: Keys that one request may change.
MOST_KEYS = 100


class Value(Model):
    """One key."""

    value: JsonValue = Field(description="What is in force; secrets are redacted.")
    origin: str = Field(
        description="Where it comes from: `default`, `environment NAME`, `file PATH`, `put`, `message`, "
        "`api by WHO`, `argument`."
    )
    wished: JsonValue = Field(
        default=None, description="What is wanted, while that is not in force. Only where `pending` is true."
    )
    pending: bool = Field(default=False, description="Whether another value is wanted than is in force.")


class Section(Model):
    """The configuration of one exporter or service."""

    name: str = Field(description="The registered name of its process.")
    section: str
    generation: int
    keys: dict[str, Value]
    problems: list[str] = Field(description="What is wrong with what was set.")


class Configuration(Model):
    """The configuration of everything, by section without `telemetry.`."""

    sections: dict[str, Section]
    files: dict[str, str | None] = Field(
        description="The configuration files, and why one could not be read."
    )


class Changes(RootModel[dict[str, JsonValue]]):
    """Keys such as `otel.sampling_rate` with their new values; null takes a change back."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "maxProperties": MOST_KEYS,
            "propertyNames": {"pattern": r"^[^.]+\..+$"},
            "examples": [{"otel.sampling_rate": 0.5}],
        }
    )


class ChangeParameters(Parameters):
    """How a change is made."""

    dry_run: Flag = Field(default=False, description="Say what it would do, and do nothing.")
    seconds: float | None = Field(
        default=None,
        alias="for",
        gt=0,
        le=2_592_000,
        description="Seconds after which it takes itself back.",
    )


class Change(Model):
    """What becomes of one key; secrets are redacted."""

    old: JsonValue = None
    new: JsonValue = None


class Probed(Model):
    """What came of trying a destination that is about to be changed."""

    ok: bool
    reason: str | None = None


class Changed(Model):
    """What became of a change, or what would become of it."""

    outcome: Literal["applied", "pending", "superseded", "rejected", "would_apply", "would_reject"] = Field(
        description="`pending`: accepted, but not in force yet; what is in force goes on being so. "
        "`superseded`: another change came before it was in force, and counts."
    )
    generation: int | None = Field(default=None, description="The number of the change in the history.")
    changes: dict[str, Change] = Field(description="By key, such as `otel.sampling_rate`.")
    problems: list[str] = Field(
        default_factory=list, description="Why something was refused, or is not in force yet."
    )
    effects: list[str] = Field(default_factory=list, description="Of a dry run: what else would happen.")
    probes: dict[str, Probed] = Field(
        default_factory=dict, description="Of a dry run: by section, whether its destination answers."
    )
    overrode: dict[str, str] = Field(
        default_factory=dict, description="By key, the origin of what had set it before and counts no more."
    )
    reverts_at: float | None = Field(
        default=None, description="When it takes itself back, in seconds since the epoch."
    )


class HistoryParameters(Parameters):
    """Which changes to tell of."""

    section: str | None = Field(
        default=None, min_length=1, max_length=_LONGEST, description="Those of one section: `otel`."
    )
    limit: int = Field(default=200, ge=1, le=10_000, description="The last ones, at most.")


class HistoryEntry(Model):
    """One change that was asked for."""

    generation: int = Field(description="What `rollback` takes: the state after this change.")
    time: float = Field(description="In seconds since the epoch.")
    section: str
    origin: str
    by: str | None = None
    changes: dict[str, Change]
    outcome: str = Field(description="`applied`, `pending`, `rejected`, `superseded` or `reverted`.")
    reverts_at: float | None = None
    reverted: bool = False


class History(Model):
    """The changes that are kept, oldest first."""

    entries: list[HistoryEntry]


class Generation(Parameters):
    """To which state to go back."""

    generation: int = Field(ge=0, le=2**53, description="That after the change of this number.")


class Reloaded(Model):
    """What changed when the configuration files were read again."""

    changed: list[str] = Field(description="Keys, such as `otel.sampling_rate`.")
    errors: dict[str, str] = Field(
        default_factory=dict,
        description="By file, why it cannot be read; by key, why its value is refused or what else is known; "
        "by section, that nobody reads it; by process, why it did not answer.",
    )
