"""What every exporter can be told, and what the settings of any exporter are built from.

A settings class is the one description of a configuration section: it validates values, supplies defaults,
names the environment variables of a standard, knows what is secret, and documents itself. Everything else
about configuration (layers, wording, redaction) reads it from here.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretBytes,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from otpylib_telemetry.config.field_types import Number, WholeNumber, Words, in_any_case
from otpylib_telemetry.config.redaction import shown
from otpylib_telemetry.config.refusals import Conflict, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic.fields import FieldInfo


def fields_only(directory: str | None) -> Mapping[str, Any]:
    """Return the validation context under which keys are checked, and not their agreement with each other.

    Relative paths are made those of ``directory``; without one they stay relative.
    """
    return {"fields_only": True, "directory": directory}


def _holds_a_secret(annotation: object) -> bool:
    """Tell whether a value of this type is a ``SecretStr`` or ``SecretBytes``, or may have one in it."""
    if isinstance(annotation, type) and issubclass(annotation, (SecretStr, SecretBytes)):
        return True
    return any(_holds_a_secret(part) for part in get_args(annotation))


def field_extra(field: FieldInfo, name: str) -> Any:
    """Return what a field's ``json_schema_extra`` says under ``name``, or None.

    Everything that configuration has to know of a key stands there, beside its type and its description:

    - ``env``: variables of a standard, the strongest first;
    - ``secret``: whether nobody must see the value; a ``SecretStr`` needs no such mark;
    - ``unit``: of a number;
    - ``expected``: what a message says was expected, instead of the field's type;
    - ``merge_environment``: whether the environment contributes entries to a table that no other layer
      overrides as a whole;
    - ``remakes``: what the exporter makes anew when the value changes, in its own words. Without it the new
      value counts wherever the exporter reads its settings next.
    """
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


#: What :meth:`SectionSettings.secret_keys` found: it is asked for every value that is looked at.
_secret_keys: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


class SectionSettings(BaseModel):
    """What the settings of one configuration section are built from.

    Every key needs a default and a description. A key whose value nobody must see is a ``SecretStr``, or has
    ``json_schema_extra={"secret": True}``. One for which a standard defines environment variables has
    ``{"env": [...]}``; :func:`field_extra` lists what else there is.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        # A validation error of pydantic's own must not print a mistyped API key either.
        hide_input_in_errors=True,
        validate_default=False,
        # A third of what importing the exporters costs otherwise: most of these are only inherited from.
        defer_build=True,
    )

    #: The section's name unless it says otherwise: standard variables count for that one alone.
    kind: ClassVar[str] = ""

    #: Keys whose standard variables are about the application, and so count for every instance. All others
    #: count for the section named like the kind alone.
    shared_environment: ClassVar[frozenset[str]] = frozenset({"enabled", "service_name", "resource"})

    #: Whether ``TELEMETRY_<KEY>``, which is for all exporters, counts.
    is_exporters: ClassVar[bool] = False

    # Keys whose present value is secret though the key is not: those that came from a ${...}.
    _hidden: frozenset[str] = PrivateAttr(default=frozenset())

    # What must not be done because a setting that would protect it cannot be used, each with the reason.
    _withheld: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a settings class that could not be built from nothing: whoever has it always starts."""
        super().__pydantic_init_subclass__(**kwargs)
        for key, field in cls.model_fields.items():
            if field.is_required():
                raise TypeError(f"{cls.__name__}.{key} needs a default: an exporter must start without it")

    @field_validator("*", mode="before")
    @classmethod
    def _choices_in_any_case(cls, value: object, info: ValidationInfo) -> object:
        return in_any_case(value, cls.model_fields[info.field_name or ""])

    @model_validator(mode="after")
    def _agree(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get("fields_only"):
            for conflict in self.conflicts():
                raise RefusedError(conflict.reason, conflict.public)
        return self

    def conflicts(self) -> Iterable[Conflict]:
        """Return the settings that do not go together. Override it where an exporter has such keys."""
        return ()

    @classmethod
    def meant_protection(cls, name: str) -> str | None:
        """Return the key that protects something and that an unknown name may stand for, or None."""
        del name
        return None

    def exposed(self, wished: frozenset[str]) -> Mapping[str, str]:
        """Return what would now be open to everybody, though the keys ``wished`` were to protect it.

        Override it where keys protect something: a password that cannot be used must not mean none.

        Args:
            wished: The keys that were set to something that cannot be used.

        Returns:
            By what must not be done, the sentence that says so.
        """
        del wished
        return {}

    @classmethod
    def standard_environment(cls, environ: Mapping[str, str]) -> Mapping[str, tuple[str, Any]]:
        """Return what a standard's environment variables say beyond the ``env`` names of the fields.

        Override it for variables that are not simply another name of a key: other units, inverse meanings,
        one that matters only beside another. The result is weaker than the ``env`` names.

        Args:
            environ: The environment; empty variables count as unset.

        Returns:
            By key, the variable and the value it gives the key: anything the field accepts, a string to be
            read like any environment variable, or :class:`~otpylib_telemetry.config.refusals.Unusable`.
        """
        del environ
        return {}

    @classmethod
    def secret_keys(cls) -> frozenset[str]:
        """Return the keys whose values are secret wherever they come from: by their mark or by their type."""
        known = _secret_keys.get(cls)
        if known is None:
            by_type = (key for key, field in cls.model_fields.items() if _holds_a_secret(field.annotation))
            known = _secret_keys[cls] = cls.keys_with("secret", True).union(by_type)
        return known

    @classmethod
    def keys_with(cls, name: str, value: object) -> frozenset[str]:
        """Return the keys of which :func:`field_extra` says ``value`` under ``name``."""
        return frozenset(key for key, field in cls.model_fields.items() if field_extra(field, name) == value)

    def hiding(self, keys: Iterable[str]) -> Self:
        """Return a copy that shows the values of ``keys`` nowhere, in addition to those always secret."""
        copy = self.model_copy()
        copy._hidden = self._hidden | frozenset(keys)  # noqa: SLF001  # a copy of this very class
        return copy

    def withholding(self, reasons: Mapping[str, str]) -> Self:
        """Return a copy under which some things must not be done: see :meth:`exposed`."""
        copy = self.model_copy()
        copy._withheld = dict(reasons)  # noqa: SLF001  # a copy of this very class
        return copy

    @property
    def withheld(self) -> Mapping[str, str]:
        """What must not be done under these settings, each with the reason."""
        return self._withheld

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        secret = self.secret_keys() | self._hidden
        for key, value in super().__repr_args__():
            yield key, shown(value, secret=key in secret)

    @model_serializer(mode="wrap")
    def _serialise(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # Whoever dumps settings wants to show or store them; the values themselves are attributes.
        secret = self.secret_keys() | self._hidden
        return {key: shown(value, secret=key in secret) for key, value in handler(self).items()}


class ExporterSettings(SectionSettings):
    """What every exporter can be told.

    Derive from it to give an exporter keys of its own. Every key needs a default and a description. A key
    whose value nobody must see is a ``SecretStr``, or has ``json_schema_extra={"secret": True}``. One for
    which a standard defines environment variables has ``{"env": [...]}``; :func:`field_extra` lists what else
    there is.
    """

    is_exporters: ClassVar[bool] = True

    enabled: bool = Field(
        True,
        description="Whether the exporter works. False while running: it detaches from the bus, exports what "
        "it holds and releases what it opened; true again: back to work.",
    )
    event_patterns: Words = Field(
        ("*",),
        description="Shell patterns, case-sensitive, over the whole event name; `*` crosses dots. "
        "A single string is a list of one.",
    )
    batch_size: WholeNumber = Field(
        100,
        ge=1,
        le=100_000,
        description="How many items are exported together, at most.",
    )
    flush_interval: Number = Field(
        5.0,
        ge=0.001,
        le=86_400,
        description="How long an item waits for its batch to fill before it is exported all the same.",
        json_schema_extra={"unit": "seconds"},
    )
    concurrency: WholeNumber = Field(
        1,
        ge=1,
        le=64,
        description="How many batches of one kind (spans, log records) may be under way at once. More than "
        "one help where the backend is far away; they may then arrive in another order.",
    )
    retry_attempts: WholeNumber = Field(
        3,
        ge=0,
        le=100,
        description="How often a batch that failed is sent again, with exponential back-off and full jitter.",
    )
    queue_limit: WholeNumber = Field(
        100_000,
        ge=1,
        le=10_000_000,
        description=(
            "How many events or items are held at most; what comes beyond is dropped and counted. What "
            "belongs to open operations takes up half of it at most."
        ),
    )
    failure_threshold: WholeNumber = Field(
        5,
        ge=1,
        le=1_000_000,
        description="After how many failures in a row the circuit breaker opens.",
    )
    reset_timeout: Number = Field(
        60.0,
        ge=0.001,
        le=86_400,
        description="How long the circuit breaker stays open before it lets one attempt through.",
        json_schema_extra={"unit": "seconds"},
    )
    shutdown_timeout: Number = Field(
        5.0,
        ge=0,
        le=3_600,
        description="How long stopping may take, whatever the network does.",
        json_schema_extra={"unit": "seconds"},
    )

    @field_validator("event_patterns")
    @classmethod
    def _patterns_match_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise RefusedError("expected at least one pattern; enabled = false switches the exporter off")
        return value
