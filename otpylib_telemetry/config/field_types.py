"""Types of settings: numbers that no boolean stands for, texts that may be blank, lists of names, paths."""

from __future__ import annotations

import functools
import os
import types
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from otpylib_telemetry.config.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from pydantic.fields import FieldInfo


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
