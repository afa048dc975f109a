"""Metadata of events as attributes, which are flat: scalars, and sequences of scalars of one type.

Not every backend shows a map or a list of lists, so that these are written as JSON. What comes through the
OpenTelemetry API is sent as it is; see :mod:`otpylib_telemetry.primitives.any_value`.

None is left out: an attribute without a value means as much as no attribute, and ``error=None`` shown as the
text "None" would make a success look like a failure.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.primitives.any_value import (
    INT64_MAX,
    INT64_MIN,
    MAX_TEXT_LENGTH,
    number,
    text,
    unprintable,
)
from otpylib_telemetry.scrubbing.values import is_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.scrubbing.scrubber import Scrubber


AttributeValue: TypeAlias = (
    "str | bool | int | float | tuple[str, ...] | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]"
)

#: How many attributes a span or an event has at most. The default of the OpenTelemetry specification
#: ("Attribute Limits": AttributeCountLimit).
MAX_ATTRIBUTES: Final = 128

MAX_KEY_LENGTH: Final = 255

#: How many elements of a sequence, or entries of a table, are exported.
MAX_ELEMENTS: Final = 128

_SCALARS: Final = frozenset({bool, int, float, str})

#: Keys that have proved fit to be exported as they are. An application has hundreds of them.
_fit: set[str] = set()
_MAX_FIT: Final = 10_000

#: By special keys, the keys of tables that have proved fit as a whole, none of them special. The tables of an
#: event's name have the same keys in the same order, so that there are hundreds of these as well.
_plans: dict[frozenset[str], set[tuple[str, ...]]] = {}
_MAX_PLANS: Final = 2_000


def attributes(
    source: Mapping[Any, Any],
    skip: frozenset[str] = frozenset(),
    most: int = MAX_ATTRIBUTES,
    longest: int = MAX_TEXT_LENGTH,
) -> tuple[dict[str, AttributeValue], int]:
    """Make a table exportable, less the keys in ``skip``; return also how many attributes did not fit.

    These are the ones beyond ``most``, in the table's order, and those whose key is empty.
    """
    exportable, dropped, _ = sorted_out(source, skip, skip, most, longest)
    return exportable, dropped


def sorted_out(  # noqa: C901, PLR0912 - the loop that every attribute goes through: a call costs half of it
    source: Mapping[Any, Any],
    skip: frozenset[str],
    special: frozenset[str],
    most: int = MAX_ATTRIBUTES,
    longest: int = MAX_TEXT_LENGTH,
) -> tuple[dict[str, AttributeValue], int, dict[str, Any] | None]:
    """Make a table exportable, but for some keys that are given back as they are; None for none of these.

    Of ``skip``, the keys to leave out, only those count that are in ``special``. There are ``most`` or fewer
    attributes, their texts no longer than ``longest``; neither is below our own limit.
    """
    is_fit = False
    if (fit := _as_they_are(source, special, longest)) is not None:
        is_fit = True
        if fit:
            return {**source}, 0, None
    exportable: dict[str, AttributeValue] = {}
    found: dict[str, Any] | None = None
    dropped = 0
    # Only a large table can have more than fit, and only then are they counted on the way.
    is_large = len(source) > most
    for key, value in source.items():
        if type(key) is str and key in _fit:
            name = key
        else:
            name = _key(key)
            if not name:
                dropped += 1
                continue
        if name in special:
            if name not in skip and value is not None:
                if found is None:
                    found = {}
                found[name] = value
            continue
        if is_large and len(exportable) >= most and name not in exportable:
            dropped += 1
            continue
        kind = type(value)
        if kind is str:
            if len(value) <= longest and value.isascii():
                exportable[name] = value
            else:
                exportable[name] = text(value, longest)
        elif kind is float or kind is bool or (kind is int and INT64_MIN <= value <= INT64_MAX):
            exportable[name] = value
        elif value is not None and (converted := _value(value)) is not None:
            exportable[name] = converted
    if not is_fit and not dropped and found is None and len(exportable) == len(source):
        _note_plan(source, special)
    return exportable, dropped, found


def are_exportable(source: Mapping[Any, Any], special: frozenset[str]) -> bool:
    """Tell whether attributes are known to be exportable as they are."""
    return _as_they_are(source, special, MAX_TEXT_LENGTH) is True


def are_harmless(  # noqa: C901 - one loop: it is what each attribute of nearly every span goes through
    source: Mapping[Any, Any], special: frozenset[str], scrubber: Scrubber
) -> bool:
    """Tell whether attributes are known to be exportable as they are, without any secrets."""
    try:
        keys = tuple(source)
        if keys not in scrubber.fit[special] or "".join(keys) == "":
            return False
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # as below
        return False
    known, ids, least = scrubber.known, scrubber.ids, scrubber.least
    for value in source.values():
        kind = type(value)
        if kind is str:
            if value in known:
                continue
            size = len(value)
            if size == ids and is_id(value):
                continue
            if size > MAX_TEXT_LENGTH or not value.isascii() or scrubber.holds(value):
                return False
        elif kind is int:
            if not INT64_MIN <= value < least:
                return False
        elif kind is not float and kind is not bool:
            return False
    return True


def note_harmless(source: Mapping[Any, Any], special: frozenset[str], scrubber: Scrubber) -> None:
    """Remember the keys of exportable attributes without secrets for :func:`are_harmless`."""
    keys = tuple(source)
    if keys in _plans.get(special, ()) and scrubber.are_harmless(keys):
        plans = scrubber.fit.setdefault(special, set())
        if len(plans) >= _MAX_PLANS:
            # As for single keys.
            plans.clear()
        plans.add(keys)


def _as_they_are(source: Mapping[Any, Any], special: frozenset[str], longest: int) -> bool | None:
    """Tell whether all values can be exported as they are; None where the keys are not known to be fit."""
    try:
        keys = tuple(source)
        # Joined, because only text can be: a key may compare like one without being one.
        if keys not in _plans[special] or "".join(keys) == "":
            return None
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001  # the first table of all, or a key whose own code does anything
        return None
    for value in source.values():
        kind = type(value)
        if kind is str:
            if len(value) > longest or not value.isascii():
                return False
        elif kind is int:
            if not INT64_MIN <= value <= INT64_MAX:
                return False
        elif kind is not float and kind is not bool:
            return False
    return True


def _note_plan(source: Mapping[Any, Any], special: frozenset[str]) -> None:
    """Remember the keys of a table all of which are exported as they are."""
    keys = tuple(source)
    if len(keys) <= MAX_ATTRIBUTES and all(type(key) is str and key in _fit for key in keys):
        plans = _plans.setdefault(special, set())
        if len(plans) >= _MAX_PLANS:
            # As for single keys.
            plans.clear()
        plans.add(keys)


def attribute(
    exportable: dict[str, AttributeValue], name: str, value: object, most: int = MAX_ATTRIBUTES
) -> bool:
    """Add one attribute to those that are exportable already, if there is room; tell whether there was."""
    if len(exportable) >= most and name not in exportable:
        return False
    converted = _value(value)
    if converted is not None:
        exportable[name] = converted
    return True


def _key(key: object) -> str:
    """Write a key, and remember those that need no writing."""
    name = text(key, MAX_KEY_LENGTH)
    if type(key) is str and name == key and name:
        if len(_fit) >= _MAX_FIT:
            # Starting over costs the keys in use one check each; a full table would cost every later one a
            # check for ever.
            _fit.clear()
        _fit.add(key)
    return name


def _value(value: object) -> AttributeValue | None:
    """Convert what :func:`attributes` did not take as it is."""
    kind = type(value)
    if value is None or kind is bool:
        return value  # type: ignore[return-value]  # one of the two
    if kind in _SEQUENCES:
        return _sequence(value)  # type: ignore[arg-type]  # `kind` says it is one
    try:
        found = number(kind, value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a metaclass may do anything
        return text(unprintable(kind))
    if found is None or (type(found) is int and not INT64_MIN <= found <= INT64_MAX):
        return text(value)
    return found


def _sequence(values: list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any]) -> AttributeValue:
    """Keep a sequence, or a set, of one scalar type; anything else becomes text."""
    kept = tuple(islice(values, MAX_ELEMENTS))
    kinds = {type(element) for element in kept}
    if not kinds:
        return ()
    if len(kinds) > 1 or not kinds <= _SCALARS:
        return text(values)
    if type(values) is set or type(values) is frozenset:
        # In the same order each time: the set's own depends on the process.
        kept = tuple(sorted(kept))
    if str in kinds:
        return tuple(text(element) for element in kept)
    if int in kinds and not all(INT64_MIN <= element <= INT64_MAX for element in kept):
        return tuple(text(element) for element in kept)
    return kept


_SEQUENCES: Final = frozenset({list, tuple, set, frozenset})
