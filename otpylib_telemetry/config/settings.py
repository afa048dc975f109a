"""What every exporter can be told, and what the settings of any exporter are built from.

A settings class is the one description of a configuration section: it validates values, supplies defaults,
names the environment variables of a standard, knows what is secret, and documents itself. Everything else
about configuration (layers, wording, redaction) reads it from here.
"""

from __future__ import annotations

import functools
import os
import types
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
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
from pydantic_core import PydanticCustomError

from otpylib_telemetry.config.redaction import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from pydantic.fields import FieldInfo


def fields_only(directory: str | None) -> Mapping[str, Any]:
    """Return the validation context under which keys are checked, and not their agreement with each other.

    Relative paths are made those of ``directory``; without one they stay relative.
    """
    return {"fields_only": True, "directory": directory}


class RefusedError(ValueError):
    """Raised by a validator that can say itself what is wrong with a value.

    Args:
        reason: What was expected, as the middle of a sentence: "expected a path that begins with '/'".
        public: The same without anything taken from the value, for values that came from a ``${...}``.
            Without it, ``reason`` is held to be fit for everybody. For a key that is itself marked secret,
            neither may contain anything secret.
    """

    def __init__(self, reason: str, public: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.public = public or reason


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are each valid but do not go together.

    Attributes:
        keys: The keys involved, the one to blame first.
        reason: What is wrong, as the middle of a sentence.
        public: The same without anything taken from the values; None if ``reason`` has nothing of them.
        entry: The entry of the table under the first key that is to blame; the others stay.
    """

    keys: tuple[str, ...]
    reason: str
    public: str | None = None
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """An environment variable whose value cannot even be offered to the field it stands for.

    Attributes:
        value: What the variable holds.
        reason: What was expected, as the middle of a sentence.
    """

    value: str
    reason: str


def _no_boolean(value: object) -> object:
    # Python takes True for 1; an operator who writes batch_size = true means something else.
    if isinstance(value, bool):
        raise PydanticCustomError("boolean_for_number", "Input should be a number, not a boolean")
    return value


def none_if_blank(value: object) -> object:
    """Return None for an empty or blank string: TOML and the environment have no other way to say it."""
    return None if isinstance(value, str) and not value.strip() else value


def words(value: object) -> object:
    """Return a list of names: a string is a list of one; surrounding blanks and repetitions go."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple, set, frozenset)):
        return value
    items = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
    if not all(isinstance(item, str) for item in items):
        return items
    for number, item in enumerate(items, start=1):
        if not item.strip():
            raise RefusedError(f"expected a string or a list of strings, but item {number} is empty")
    return list(dict.fromkeys(item.strip() for item in items))


@functools.cache
def _choices(annotation: Hashable) -> Mapping[str, str]:
    """Return the strings a type chooses from, by how each reads in lower case."""
    if get_origin(annotation) is Literal:
        return {choice.lower(): choice for choice in get_args(annotation) if isinstance(choice, str)}
    if get_origin(annotation) in {Annotated, Union, types.UnionType}:
        return {text: choice for part in get_args(annotation) for text, choice in _choices(part).items()}
    return {"true": "true", "false": "false"} if annotation is bool else {}


def in_any_case(value: object, field: FieldInfo) -> object:
    """Return the choice a text means, whatever its case and the blanks around it; else the value as it is."""
    if not isinstance(value, str):
        return value
    annotation: Any = field.annotation
    return _choices(annotation).get(value.strip().lower(), value)


#: An int for which ``True`` and ``False`` are refused.
WholeNumber = Annotated[int, BeforeValidator(_no_boolean)]
#: A finite float for which ``True`` and ``False`` are refused.
Number = Annotated[float, BeforeValidator(_no_boolean)]
#: The same, where an empty string means that nothing is set.
OptionalNumber = Annotated[float | None, BeforeValidator(_no_boolean), BeforeValidator(none_if_blank)]
#: A string, where an empty one means that nothing is set.
OptionalText = Annotated[str | None, BeforeValidator(none_if_blank)]


def absolute(value: object, info: ValidationInfo) -> object:
    """Return a path that stays the same wherever the application goes; ``~`` is the home directory."""
    directory = (info.context or {}).get("directory")
    if not isinstance(value, str) or not value.strip():
        return value
    path = os.path.expanduser(value.strip())  # noqa: PTH111  # a Path would tidy up what the user wrote
    return path if directory is None else os.path.join(directory, path)  # noqa: PTH118  # as above


#: The path of a file or directory, where an empty one means that nothing is set.
OptionalPath = Annotated[str | None, BeforeValidator(absolute), BeforeValidator(none_if_blank)]
#: Names; a single string is taken for a list of one.
Words = Annotated[tuple[str, ...], BeforeValidator(words)]


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
            read like any environment variable, or :class:`Unusable`.
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
