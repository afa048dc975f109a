"""Metadata into labels, and a memory of what became of metadata seen before.

Metadata holds anything under any key; labels are text under sanitised names. Working that out takes some
microseconds, which is far too long for every event. So the outcome is kept, found again by the metadata's
keys and the values of those that become labels.

Python's equality must not confuse that memory: ``1``, ``True`` and ``1.0`` are equal and hash alike, yet read
``1``, ``true`` and ``1.0``. Values are therefore filed by their types as well, except where all of them are
texts, which equal nothing but texts. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar, cast

from otpylib_telemetry.metrics.names import PROMETHEUS, shortened
from otpylib_telemetry.primitives.any_value import is_scalar, scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Labels


#: Metadata keys that tell one operation from the next: as labels, each event would be a series of its own.
CORRELATION_KEYS: Final = frozenset(
    {
        "trace_id",
        "span_id",
        "parent_span_id",
        "correlation_id",
        "request_id",
        "traceparent",
        "tracestate",
        "baggage",
    }
)

#: What is left out unless it is asked for by name; an error's text differs from error to error, and where it
#: was raised is no label.
DROPPED_BY_DEFAULT: Final = CORRELATION_KEYS | {"error", "stacktrace"}

#: Labels a series may have. What has more is data, not description; the first by name stay.
_MAX_LABELS: Final = 64

#: Characters of a label's value; what is longer is cut, and marked by a digest of the whole.
_MAX_VALUE: Final = 256

#: An integer with more bits has more digits than a label may have characters, and takes ever longer to print.
_MAX_BITS: Final = 800

#: Sets of keys, and sets of types, remembered per event name. Code emits one event in a few shapes.
_MAX_SHAPES: Final = 64

#: Metadata with more keys than this is worked out afresh each time rather than remembered.
_MAX_KEYS: Final = 256

_EXPONENT_FROM: Final = 1e6

T = TypeVar("T")

_Values: TypeAlias = tuple[Any, ...]


def number_text(value: float) -> str:
    """Return a float as Go prints it, and so ``le``: ``0.005``, ``1.0``, ``1e+06``, ``NaN``, ``+Inf``."""
    if not math.isfinite(value):
        return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")  # noqa: PLR0124 - NaN alone does this
    text = repr(value + 0.0)  # -0.0 equals 0.0, so it must read like it
    if abs(value) < _EXPONENT_FROM or "e" in text:
        return text
    sign, digits = ("-", text[1:]) if value < 0 else ("", text)
    whole, _, fraction = digits.partition(".")
    mantissa = f"{whole[0]}.{whole[1:]}{fraction}".rstrip("0").rstrip(".")
    return f"{sign}{mantissa}e+{len(whole) - 1:02d}"


def integer_text(value: int) -> str:
    """Return an integer as text: in digits, or shortened if there are more than anybody reads."""
    return str(value) if value.bit_length() <= _MAX_BITS else shortened(hex(value), _MAX_VALUE)


def label_text(value: Any) -> str:
    """Return a scalar as the text of a label; empty, which is no label, for what is no scalar."""
    exact = _exact(type(value))
    return "" if exact is None else _text(exact(value))[0]


def exact_label(value: Any) -> Any:
    """Return a scalar as what its label is made of; None for what is no scalar."""
    exact = _exact(type(value))
    return None if exact is None else exact(value)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Which metadata keys become labels."""

    only: frozenset[str] | None = None
    dropped: frozenset[str] = DROPPED_BY_DEFAULT

    @classmethod
    def of(cls, labels: Iterable[str] | None, drop_labels: Iterable[str]) -> LabelRules:
        """Return the rules two settings stand for.

        Correlation keys are left out whatever ``drop_labels`` says, for a list meant to leave out one label
        more must not turn every request into a series. A key named in ``labels`` is meant: it is left out
        only if somebody named it in ``drop_labels`` too, not because it is dropped by default.
        """
        wanted = frozenset(labels or ())
        dropped = frozenset(drop_labels)
        if not wanted or "*" in wanted:
            return cls(None, (dropped | CORRELATION_KEYS) - wanted)
        return cls(wanted, dropped - DROPPED_BY_DEFAULT)

    def keep(self, key: object) -> bool:
        """Return whether a metadata key becomes a label."""
        if type(key) is not str or key in self.dropped:
            return False
        return self.only is None or key in self.only

    def among(self, labels: Mapping[str, str]) -> LabelRules:
        """Return the rules where no other keys become labels than these, each under a key of its own.

        Both the key and what it becomes may be the one that settings name.
        """
        kept = (
            key
            for key, label in labels.items()
            if not {key, label} & self.dropped and (self.only is None or {key, label} & self.only)
        )
        return LabelRules(frozenset(kept), frozenset())


class _Typed(Generic[T]):
    """What is known of metadata with certain keys and values of certain types."""

    __slots__ = ("_joined", "fields", "found", "is_faithful", "normalise", "plain")

    def __init__(
        self, keys: tuple[str, ...], types: tuple[type, ...], name: Callable[[str], str], *, joined: bool
    ) -> None:
        self._joined = joined
        exact = [_exact(kind) for kind in types[: len(keys)]]
        used = [index for index, convert in enumerate(exact) if convert is not None]
        converts = [exact[index] for index in used]
        #: Label name and index into the normalised values, in the order of names. Where several keys have
        #: the same label name, they follow each other in the order of the keys.
        named = sorted((name(keys[index]), keys[index], at) for at, index in enumerate(used))
        self.fields = [(label, at) for label, _, at in named]
        #: Whether values that are normalised to the same are the same.
        self.is_faithful = len(used) == len(keys) and scalar not in converts
        self.plain = bool(types) and all(kind is str for kind in types)
        self.found: dict[_Values, T] = {}
        self.normalise: Callable[[_Values], _Values] | None = None
        if any(convert is not _as_is for convert in converts):
            pairs = list(zip(used, cast("list[Callable[[Any], Any]]", converts), strict=True))
            self.normalise = lambda values: tuple(convert(values[index]) for index, convert in pairs)
        elif len(used) < len(keys):
            self.normalise = _picker(used)

    def labels(self, values: _Values) -> tuple[Labels, bool]:
        """Return the labels for normalised values, and whether that may be remembered."""
        texts: dict[str, str] = {}
        whole = True
        for name, index in self.fields:
            text, complete = _text(values[index])
            whole = whole and complete
            # An empty label is no label: to Prometheus the series would be the one without it.
            if text and name not in texts:
                texts[name] = text
            elif text and self._joined:
                # OpenTelemetry's "Prometheus and OpenMetrics compatibility" joins what has become one name.
                texts[name] = f"{texts[name]};{text}"
        return tuple(list(texts.items())[:_MAX_LABELS]), whole


class _Shape(Generic[T]):
    """What is known of metadata with certain keys."""

    __slots__ = ("all_keys", "is_whole", "keys", "pick", "plain", "typed")

    def __init__(self, keys: tuple[Any, ...], rules: LabelRules) -> None:
        self.all_keys = keys
        self.keys: tuple[str, ...] = tuple(key for key in keys if rules.keep(key))
        self.pick = _picker(self.keys)
        #: Whether every key may become a label.
        self.is_whole = len(self.keys) == len(keys)
        #: Found by values alone: only for values that are all texts, or none at all.
        self.plain: dict[_Values, T] = {}
        self.typed: dict[tuple[type, ...], _Typed[T]] = {}


#: What picks the values of the labels out of metadata, and what was kept by these values.
_Known: TypeAlias = "tuple[Callable[[Mapping[str, Any]], _Values], dict[_Values, T]]"

#: Where something found for certain metadata is to be remembered.
Place: TypeAlias = "tuple[_Shape[T], _Typed[T], _Values]"


class LabelCache(Generic[T]):
    """Finds what was made of metadata like this before.

    What it holds is as large as what it is given to keep: give it only what there is a series for.

    Attributes:
        plain: A short cut for metadata whose values are all texts, as most are. By the keys of metadata a
            pair: what picks the values out of it, and what was kept by these values. Whoever looks there a
            million times a second saves calls; what is not there, :meth:`find` may know all the same.
        by_size: A shorter one, for a dict all keys of which become labels. The same pairs by the number of
            keys, where nothing of that size has come with other keys: if as many values can be picked as
            there are, the keys are those. Other sizes lead to None, or are not there.

    Values of several keys that are one label are joined; without ``joined`` the first counts.
    """

    __slots__ = ("_joined", "_name", "_rules", "_shapes", "by_size", "plain")

    def __init__(
        self, rules: LabelRules, name: Callable[[str], str] = PROMETHEUS.label, *, joined: bool = True
    ) -> None:
        self._rules = rules
        self._name = name
        self._joined = joined
        self._shapes: dict[tuple[Any, ...], _Shape[T]] = {}
        self.plain: dict[tuple[Any, ...], _Known[T]] = {}
        self.by_size: dict[int, _Known[T] | None] = {}

    def find(self, metadata: Mapping[str, Any]) -> T | None:
        """Return what was kept for metadata that makes the same labels, or None."""
        shape = self._shapes.get(tuple(metadata))
        if shape is None:
            return None
        values = shape.pick(metadata)
        if shape.plain:
            try:
                found = shape.plain.get(values)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - a value that cannot be hashed; its type settles what to do
                found = None
            if found is not None:
                return found
        typed = shape.typed.get(tuple(map(type, values)))
        if typed is None:
            return None
        return typed.found.get(values if typed.normalise is None else typed.normalise(values))

    def resolve(self, metadata: Mapping[str, Any]) -> tuple[Labels, Place[T] | None]:
        """Return the labels, and what to hand to :meth:`keep`: None if this is not to be remembered."""
        try:
            shape, remembered = self._shape(tuple(metadata))
            values = shape.pick(metadata)
            types = tuple(map(type, values))
            typed = shape.typed.get(types)
            if typed is None:
                typed = _Typed(shape.keys, types, self._name, joined=self._joined)
                if len(shape.typed) >= _MAX_SHAPES:
                    shape.typed.clear()
                shape.typed[types] = typed
            values = values if typed.normalise is None else typed.normalise(values)
            labels, whole = typed.labels(values)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - metadata of any kind whatever; what can be used of it is
            return self._piecemeal(metadata), None
        return labels, (shape, typed, values) if remembered and whole else None

    def keep(self, place: Place[T], thing: T) -> None:
        """Remember something for metadata that makes the same labels."""
        shape, typed, values = place
        typed.found[values] = thing
        if typed.plain or not shape.keys:
            shape.plain[values] = thing
            self.plain[shape.all_keys] = known = (shape.pick, shape.plain)
            size = len(shape.all_keys)
            if shape.is_whole and (size not in self.by_size or self.by_size[size] is not None):
                self.by_size[size] = known

    def _shape(self, keys: tuple[Any, ...]) -> tuple[_Shape[T], bool]:
        shape = self._shapes.get(keys)
        if shape is not None:
            return shape, True
        shape = _Shape(keys, self._rules)
        if len(keys) > _MAX_KEYS:
            return shape, False
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
            self.plain.clear()
            self.by_size.clear()
        if any(len(other) == len(keys) for other in self._shapes):
            self.by_size[len(keys)] = None
        self._shapes[keys] = shape
        return shape, True

    def _piecemeal(self, metadata: Any) -> Labels:
        """Return the labels of metadata some of which raises when it is looked at."""
        try:
            usable = {
                key: value
                for key, value in dict(metadata).items()
                if self._rules.keep(key) and _exact(type(value)) is not None
            }
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            return ()
        keys = tuple(usable)
        types = tuple(map(type, usable.values()))
        typed: _Typed[T] = _Typed(keys, types, self._name, joined=self._joined)
        values = tuple(usable.values())
        return typed.labels(values if typed.normalise is None else typed.normalise(values))[0]


def _picker(keys: Iterable[Any]) -> Callable[[Any], _Values]:
    """Return a function that gets these items as a tuple."""
    wanted = tuple(keys)
    if not wanted:
        return lambda _values: ()
    # For one item itemgetter gives the item itself; asked twice for it, it gives a tuple like the others.
    return cast("Callable[[Any], _Values]", itemgetter(*(wanted * 2 if len(wanted) == 1 else wanted)))


def _as_is(value: Any) -> Any:
    return value


def _exact(kind: type) -> Callable[[Any], Any] | None:
    """Return what makes a plain scalar of a value of this type; None if the value is no scalar.

    The type is asked, never the value, and the plain types' own methods are called: subclasses (an enum, a
    NumPy float) may override theirs with anything. Of other scalars it is the text that counts: a Decimal
    or a time may equal another that reads differently.
    """
    if kind is str or kind is int or kind is float or kind is bool:
        return _as_is
    if issubclass(kind, str):
        return str.__str__
    if issubclass(kind, int):
        return int.__pos__
    if issubclass(kind, float):
        return float.__pos__
    return scalar if is_scalar(kind) else None


def _text(value: Any) -> tuple[str, bool]:
    """Return a plain scalar as text, and whether nothing was lost."""
    if type(value) is bool:
        return "true" if value else "false", True
    if type(value) is int:
        return integer_text(value), value.bit_length() <= _MAX_BITS
    if type(value) is float:
        # NaN equals nothing, so what is remembered for it would never be found.
        return number_text(value), value == value  # noqa: PLR0124
    if len(value) > _MAX_VALUE:
        # Mended first: the digest is of what leaves, so that two values are one wherever they leave as one.
        return shortened(_encodable(value), _MAX_VALUE), False
    return _encodable(value), True


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
