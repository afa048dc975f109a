"""Values, origins and validation errors in words, for whoever reads the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr

from otpylib_telemetry.config.environment import container
from otpylib_telemetry.config.field_types import words
from otpylib_telemetry.config.redaction import hide_in_value, shown
from otpylib_telemetry.config.refusals import RefusedError
from otpylib_telemetry.config.settings import field_extra

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from otpylib_telemetry.config.history import Entry
    from otpylib_telemetry.config.resolution import Resolution

_MAX_SHOWN = 60
#: Of what a key's own validator says.
_MAX_REASON = 300
_MAX_BITS_SHOWN = 200

_ORIGINS = {
    "default": "the default",
    "config": "from the configuration",
    "argument": "from the start argument",
    "runtime": "set at runtime",
    "put": "set by Config.put",
    "message": "set by a message",
    "api": "set through the API",
}


def origin_words(origin: str) -> str:
    """Return where a value came from, in words: "from the configuration", for instance."""
    if origin.startswith("environment "):
        return f"from the environment variable {origin.removeprefix('environment ')}"
    if origin.startswith("file "):
        return f"from {origin.removeprefix('file ')}"
    kind, by, who = origin.partition(" by ")
    return f"{_ORIGINS.get(kind, f'set by {kind}')}{by}{who}"


#: What every private key in PEM form says of itself (RFC 7468, section 10 and 11).
_PRIVATE = "PRIVATE KEY"


def value_words(value: Any, *, secret: bool = False) -> str:
    """Describe a value nobody has checked yet: what it is, and its type.

    Never calls anything the value brings along, so that a hostile ``__repr__`` does no harm.
    """
    try:
        kind, text = _kind_and_text(value)
    except Exception:  # noqa: BLE001  # a container whose len() raises still has a type
        kind, text = f"an object of type {type(value).__name__}", None
    if text is None:
        return kind
    if _PRIVATE in text:
        # Pasted where the name of its file was expected.
        return f"{kind} that holds a private key, not shown"
    return f"{kind}, not shown" if secret else f"{text}, {kind}"


def _kind_and_text(value: Any) -> tuple[str, str | None]:  # noqa: C901, PLR0911  # one case for each kind
    match value:
        case None:
            return "nothing (None)", None
        case bool():
            return "a boolean", "true" if value else "false"
        case int() if int.bit_length(value) > _MAX_BITS_SHOWN:
            # Beyond some 4300 digits Python refuses to print an integer at all.
            return "a huge integer", None
        case int():
            return "an integer", int.__repr__(value)
        case float():
            return "a float", float.__repr__(value)
        case str():
            # Formatting as str, not as the value's own class, keeps a subclass's methods out of it.
            return "a string", str.__repr__(_short(hide_in_value(str.__str__(value))))
        case SecretStr():
            return "a string, not shown", None
        case bytes() | bytearray():
            return "bytes", None
        case Mapping():
            return _counted("table", "entry", "entries", len(value)), None
        case list() | tuple() | set() | frozenset():
            return _counted("list", "item", "items", len(value)), None
        case dt.datetime() | dt.date() | dt.time():
            return "a date or time", None
        case _:
            return f"an object of type {type(value).__name__}", None


def _counted(kind: str, one: str, more: str, count: int) -> str:
    return f"a {kind} of {count} {one if count == 1 else more}" if count else f"an empty {kind}"


def _short(text: str, most: int = _MAX_SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def sentence(text: str) -> str:
    """Return a text with what ends a sentence: a question has that already."""
    return text if text.endswith(("?", ".")) else f"{text}."


def in_force_words(value: Any, origin: str, *, secret: bool) -> str:
    """Say what stays in force, as a sentence."""
    if value is None:
        return "It stays unset."
    if secret and origin != "default":
        return f"The value {origin_words(origin)} stays in force."
    return f"{setting_words(value)} stays in force ({origin_words(origin)})."


def setting_words(value: Any) -> str:
    """Return a setting that is not secret, as short as a log wants it."""
    return "nothing" if value is None else _short(_plain(shown(value)))


def beats(beaten: str, origin: str) -> bool:
    """Tell whether a value of one origin beats what somebody else set, or the same one somewhere else."""
    if beaten == "default" or beaten.startswith("environment ") or beaten == origin:
        return False
    return not (beaten.startswith("file ") and origin.startswith("file "))


def beaten_words(
    section: str, key: str, earlier: Resolution[Any], now: Resolution[Any], origin: str
) -> str | None:
    """Say which value a change of this origin beat; None if it was set the same way, or by nobody."""
    beaten = earlier.origins[key]
    if not beats(beaten, origin):
        return None
    if key in earlier.secrets or key in now.secrets:
        return (
            f"{section}.{key} has another value now, {origin_words(now.origins[key])}; that overrides the "
            f"one {origin_words(beaten)}."
        )
    old, new = (setting_words(getattr(each.settings, key)) for each in (earlier, now))
    return (
        f"{section}.{key} is {new} now, {origin_words(now.origins[key])}; that overrides {old}, "
        f"{origin_words(beaten)}."
    )


def taken_back_words(section: str, key: str, now: Resolution[Any], entry: Entry) -> str:
    """Say that a change for a while has ended."""
    by = "" if entry.by is None else f" by {entry.by}"
    value = (
        "has its earlier value" if key in now.secrets else f"is {setting_words(getattr(now.settings, key))}"
    )
    return (
        f"{section}.{key} {value} again, {origin_words(now.origins[key])}: the time is up of change "
        f"{entry.generation}, made{by} for a while."
    )


def offered(value: Any) -> Any:
    """Return a value nobody has checked, as it may be kept: plain, short, and of no class of the user's."""
    match value:
        case None | bool() | float():
            return value
        case int() if int.bit_length(value) <= _MAX_BITS_SHOWN:
            return int(value)
        case str():
            return _short(hide_in_value(str.__str__(value)))
        case _:
            return value_words(value)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{', '.join(_plain(item) for item in value)}]"
        case dict():
            return "{" + ", ".join(f"{key} = {_plain(item)}" for key, item in value.items()) + "}"
        case float() if value.is_integer():
            return f"{value:g}" if abs(value) < 1e6 else repr(value)  # noqa: PLR2004  # what %g keeps exact
        case _:
            return repr(value)


def reason_words(field: FieldInfo, error: ErrorDetails, *, secret: bool, hidden: bool) -> str:
    """Say what was expected instead, as the middle of a sentence.

    ``secret``: the value must not be told. ``hidden``: it came from a ``${...}``, so that not even what the
    key's own validator says of it may be told.
    """
    raised = error.get("ctx", {}).get("error")
    if isinstance(raised, RefusedError):
        return raised.public if hidden else raised.reason
    if raised is not None:
        if secret:
            return "expected another value"
        said = _short(str(raised), _MAX_REASON)
        return said if said.startswith("expected") else f"it does not do: {said}"
    location = error["loc"][1:]
    if location:
        return f"{_whole(field)}, but {_part(location[0])} is {value_words(error['input'], secret=secret)}"
    return f"expected {_expectation(field, error, secret=secret)}"


def _expectation(field: FieldInfo, error: ErrorDetails, *, secret: bool) -> str:
    if (expected := field_extra(field, "expected")) is not None:
        return str(expected)
    if error["type"] == "literal_error":
        return f"one of {str(error['ctx']['expected']).replace(' or ', ', ')}"
    if (numeric := _number(field)) is not None:
        return numeric
    if (simple := _simple_type(field)) is not None:
        return _TYPE_WORDS[simple]
    if container(field.annotation) is None and not secret:
        return error["msg"].removeprefix("Input should be ")
    return _whole(field).removeprefix("expected ")


_TYPE_WORDS = {bool: "true or false", str: "a string"}
_BOUNDS = {Ge: "from", Gt: "above", Le: "to", Lt: "below"}


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    arguments = get_args(annotation)
    if arguments and container(annotation) is None:
        return [member for argument in arguments for member in _members(argument)]
    return [annotation]


def _simple_type(field: FieldInfo) -> type | None:
    members = _members(field.annotation)
    if SecretStr in members:
        return str
    return next((kind for kind in (bool, str) if kind in members), None)


def _whole(field: FieldInfo) -> str:
    if (expected := field_extra(field, "expected")) is not None:
        return f"expected {expected}"
    shape = container(field.annotation)
    if shape is Mapping:
        return "expected a table of names and values"
    if shape is not None:
        inside = [member for argument in get_args(field.annotation) for member in _members(argument)]
        if float in inside:
            return "expected a list of finite numbers"
        takes_one = any(getattr(item, "func", None) is words for item in field.metadata)
        return f"expected {'a string or ' if takes_one else ''}a list of strings"
    return f"expected a value of type {getattr(field.annotation, '__name__', field.annotation)}"


def _part(location: int | str) -> str:
    return f"item {location + 1}" if isinstance(location, int) else f"{_short(location)!r}"


def _number(field: FieldInfo) -> str | None:
    members = _members(field.annotation)
    if int not in members and float not in members:
        return None
    kind = "a number" if float in members else "a whole number"
    unit = field_extra(field, "unit")
    noun = f"{kind} of {unit}" if unit else kind
    bounds = [
        f"{word} {getattr(item, bound.__name__.lower())}"
        for bound, word in _BOUNDS.items()
        for item in field.metadata
        if isinstance(item, bound)
    ]
    return " ".join([noun, *bounds])
