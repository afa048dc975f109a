"""The tags of a definition at work: from metadata to labels, and what was made of such values before."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otpylib_telemetry.metrics.defined.functions import called
from otpylib_telemetry.metrics.labels import exact_label, label_text
from otpylib_telemetry.metrics.options import Constants, TagSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otpylib_telemetry.aggregation.series import Labels
    from otpylib_telemetry.metrics.definition import Definition

#: Sets of tag values kept for a definition, about half a kilobyte each. Beyond this they are collected anew.
_MAX_KEPT: Final = 200_000

#: A label's value this long may have been cut, and stand for others too.
_LONG: Final = 256

Put: TypeAlias = "Callable[..., bool]"
Values: TypeAlias = tuple[Any, ...]


class _Missing:
    """Stands for a measurement or a tag that is not there."""

    __slots__ = ()


_MISSING: Final = _Missing()


class TagMemory:
    """Works out labels, and remembers what was made of tag values seen before.

    Python's equality must not confuse that memory, for ``1``, ``True`` and ``1.0`` are equal and read
    differently: values are filed with their types, except where all of them are texts.
    """

    __slots__ = ("_constants", "_function", "_keys", "_labels", "_pick", "_typed", "pick", "texts")

    def __init__(self, definition: Definition, label: Callable[[str], str]) -> None:
        given = definition.tag_values
        told = dict(given.values) if isinstance(given, Constants) else {}
        self._function = given if callable(given) else None
        self._constants = [(label(tag), text) for tag, text in told.items() if isinstance(text, str)]
        looked_up = [tag for tag in definition.tags if not isinstance(told.get(tag), str)]
        self._labels = [label(tag) for tag in looked_up]
        sources = [told.get(tag) for tag in looked_up]
        self._keys = tuple(
            source.key if isinstance(source, TagSource) else tag
            for source, tag in zip(sources, looked_up, strict=True)
        )
        # For one item itemgetter gives the item itself; asked twice for it, it gives a tuple like the others.
        keys = self._keys * 2 if len(self._keys) == 1 else self._keys
        self._pick: Callable[[Any], Values] | None = itemgetter(*keys) if keys else None
        #: A short cut for values that are all texts: ``texts.get(pick(metadata))`` is what ``find`` gives.
        self.pick = self._pick if self._function is None else None
        self.texts: dict[Values, Put] = {}
        self._typed: dict[Values, Put] = {}

    def values(self, metadata: Mapping[str, Any]) -> Values:
        """Return the values of the tags, :data:`_MISSING` for those that are not there."""
        if self._pick is None:
            return ()
        if self._function is None:
            try:
                return self._pick(metadata)
            except KeyError:
                found = [metadata.get(key, _MISSING) for key in self._keys]
        else:
            found = called("tag_values", _given, self._function, self._keys, metadata)
        return tuple(found * 2 if len(found) == 1 else found)

    def find(self, values: Values) -> Put | None:
        """Return what was kept for these values, or for others that read the same."""
        try:
            found = self.texts.get(values)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a value that cannot be hashed or compared; its type settles what to do
            found = None
        if found is not None:
            # What is found equals texts; only what is itself a text does.
            return found
        return self._typed.get(_filed(values)) if self._typed else None

    def labels(self, values: Values) -> tuple[Labels, bool]:
        """Return the labels, and whether what is made of them may be kept."""
        whole = True
        texts = list(self._constants)
        for name, value in zip(self._labels, values, strict=False):
            exact = exact_label(value)
            if exact is not None and (text := label_text(exact)):
                texts.append((name, text))
                # NaN equals nothing, so what is remembered for it would never be found.
                whole = whole and len(text) < _LONG and exact == exact  # noqa: PLR0124
        return tuple(sorted(texts)), whole

    def keep(self, values: Values, put: Put) -> None:
        """Remember what was made of these values."""
        if len(self.texts) + len(self._typed) >= _MAX_KEPT:
            self.forget()
        if all(type(value) is str for value in values):
            self.texts[values] = put
        else:
            self._typed[_filed(values)] = put

    def forget(self) -> None:
        """Remember nothing."""
        self.texts.clear()
        self._typed.clear()


def _filed(values: Values) -> Values:
    """Return under what values that are not all texts are filed; those that are no label are all alike."""
    # A number by its type as well; of anything that is not a number it is the text that becomes the label.
    exact = map(exact_label, values)
    return tuple((type(value), value) for value in exact)


def _given(function: Callable[..., Any], keys: Iterable[str], metadata: Mapping[str, Any]) -> list[Any]:
    """Return the values of tags where a function's result goes over the metadata."""
    given = function(metadata)
    return [given[key] if key in given else metadata.get(key, _MISSING) for key in keys]
