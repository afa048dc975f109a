"""Scrubs what an exporter sends, by the rules of its settings.

What is known of keys and of texts is remembered, so that a table like one before costs a look at its values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.config.redaction import REDACTED
from otpylib_telemetry.primitives.any_value import any_value
from otpylib_telemetry.scrubbing.keys import KeyRules
from otpylib_telemetry.scrubbing.named import option_name
from otpylib_telemetry.scrubbing.plan import STANDS
from otpylib_telemetry.scrubbing.texts import TextRules
from otpylib_telemetry.scrubbing.values import BEYOND_CARDS, ID_LENGTH, LEAST_CARD, SHORTEST, is_card, is_id

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence

    from otpylib_telemetry.scrubbing.keys import Judged
    from otpylib_telemetry.scrubbing.plan import Action, ScrubPlan

#: Of the keys of tables, and of texts that were found harmless. A full memory is begun anew.
_MAX_TABLES: Final = 2_048
_MAX_TEXTS: Final = 4_096

#: Characters of a text that is remembered: what is long seldom repeats.
_MAX_TEXT: Final = 128

#: No integer that is sent is as large.
_BEYOND_INTEGERS: Final = 2**63

#: Key into the memory that survives an exporter.
_MEMORY: Final = "scrubber"

#: What is counted for something that was masked as a whole, because it could not be read.
_UNREADABLE: Final = "unreadable"

#: What is found where it is only asked whether there is anything.
_uncounted: Final[Counter[str]] = Counter()


class Scrubber:
    """Scrubs. Whatever has nothing secret in it is given back as it is, the same object.

    Nothing it is given makes it raise: what it cannot read is masked as a whole.

    Attributes:
        plan: What is scrubbed, and how.
        counts: How often each rule has found something.
        known: Short texts that were found harmless, all of them ASCII.
        fit: By whatever a caller likes, the keys of tables that are harmless, and fit for the caller besides.
        ids: The length of texts that are harmless if they are ids; -1 for none.
        least: The least integer that may be a secret.
    """

    def __init__(self, plan: ScrubPlan, counts: Counter[str]) -> None:
        self.plan = plan
        self.counts = counts
        self._texts = TextRules(plan, self._judge)
        self._keys = KeyRules(plan, self._clean_key)
        self._may_find = self._texts.may_find()
        self._shortest = 1 if plan.values else SHORTEST
        self._tables: set[tuple[str, ...]] = set()
        self._apart: Scrubber | None = None
        self.known: set[str] = set()
        self.fit: dict[Any, set[tuple[str, ...]]] = {}
        self.ids = -1 if plan.values else ID_LENGTH
        self.least = LEAST_CARD if plan.scope == "all" else _BEYOND_INTEGERS

    @property
    def apart(self) -> Scrubber:
        """What scrubs where two values must not become one: it hashes, whatever the settings say."""
        if self._apart is None:
            hashed: list[tuple[tuple[str, Action | None], ...]] = [
                tuple((pattern, None) for pattern, _ in rules) for rules in (self.plan.keys, self.plan.values)
            ]
            plan = replace(self.plan, action="hash", keys=hashed[0], values=hashed[1])
            self._apart = Scrubber(plan, self.counts)
        return self._apart

    def attributes(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return attributes without secrets: the same table where there are none."""
        try:
            keys = tuple(table)
            if keys in self._tables or self.are_harmless(keys):
                known, ids, least = self.known, self.ids, self.least
                for value in table.values():
                    kind = type(value)
                    if kind is str:
                        if value in known or (len(value) == ids and is_id(value)):
                            continue
                        if self.holds(value):
                            break
                    elif kind is not float and kind is not bool and (kind is not int or value >= least):
                        break
                else:
                    return table
            return self._table(table)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever it is, the item is sent, and none of this with it
            return self._masked(table)

    def text(self, value: str) -> str:
        """Return a text without secrets."""
        found: str = self.value(value)
        return found

    def value(self, value: Any) -> Any:
        """Return a value that OTLP has without secrets, however deep they are in it."""
        try:
            return self._value(value, drops=False)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            return self._unreadable()

    def labels(self, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Return the labels of a series without secrets."""
        try:
            return self._labels(labels)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            return tuple((name, self._unreadable()) for name, _ in labels)

    def are_harmless(self, keys: tuple[str, ...]) -> bool:
        """Tell of the keys of a table whether none of them names a secret, or is one."""
        for key in keys:
            judged = self._keys.judge(key)
            if judged.rule is not None or judged.name is not None or judged.is_kept:
                return False
        if len(self._tables) >= _MAX_TABLES:
            self._tables.clear()
        self._tables.add(keys)
        return True

    def holds(self, text: str) -> bool:
        """Tell whether a text has anything secret in it."""
        if (
            len(text) >= self._shortest
            and self._may_find(text)
            and self._texts.clean(text, _uncounted)[0] is not text
        ):
            return True
        if len(text) <= _MAX_TEXT and text.isascii():
            if len(self.known) >= _MAX_TEXTS:
                self.known.clear()
            self.known.add(text)
        return False

    def _judge(self, name: str) -> Judged:
        return self._keys.judge(name)

    def _clean_key(self, key: str) -> str:
        if len(key) < self._shortest or not self._may_find(key):
            return key
        return self._texts.clean(key, self.counts)[0]

    def _masked(self, table: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return {key: self._unreadable() for key in table if type(key) is str}
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - nor can its keys be read
            return {}

    def _unreadable(self) -> str:
        self.counts[_UNREADABLE] += 1
        return REDACTED

    def _labels(self, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        found = []
        for name, text in labels:
            kind: Any = type(text)
            value: Any = text if kind is str else getattr(text, "value", text)
            told = self._entry(name, value)
            if told is not None:
                key, clean = told
                # What leaves as no text is known by its text, and has its value besides.
                found.append((key, text if clean is value else _as_label(kind, clean)))
        return tuple(found)

    def _table(self, table: Mapping[str, Any]) -> Mapping[str, Any]:
        clean: dict[str, Any] = {}
        same = True
        for key, value in table.items():
            told = self._entry(key, value)
            if told is None:
                same = False
                continue
            name, found = told
            same = same and found is value and name is key
            clean[name] = found
        return table if same else clean

    def _entry(self, key: str, value: Any) -> tuple[str, Any] | None:
        """Return what becomes of an attribute; None for nothing."""
        judged = self._keys.judge(key)
        rule = judged.rule
        if rule is not None and _is_secret(value, is_loose=judged.is_loose):
            name = judged.name or key
            if type(value) is str and STANDS.fullmatch(value):
                return name, value
            self.counts[rule] += 1
            return None if judged.action == "drop" else (name, self.plan.stand_in(value, judged.action))
        clean = value if judged.is_kept else self._value(value, drops=True)
        return None if clean is None and value is not None else (judged.name or key, clean)

    def _value(self, value: Any, *, drops: bool) -> Any:  # noqa: PLR0911 - one for each kind of value
        """Return a value without secrets; None if it is to be left out."""
        kind = type(value)
        if kind is str:
            if value in self.known or not self.holds(value):
                return value
            clean, is_dropped = self._texts.clean(value, self.counts)
            return None if drops and is_dropped else clean
        if kind is int:
            if self.least <= value < BEYOND_CARDS and is_card(str(value)):
                self.counts["card"] += 1
                action = self.plan.action
                return None if drops and action == "drop" else self.plan.stand_in(str(value), action)
            return value
        if kind is bool or kind is float or value is None:
            return value
        if kind is dict:
            return self._table(value)
        if kind is tuple or kind is list:
            return self._elements(value, drops=drops)
        if kind is bytes:
            text = value.decode("latin-1")
            found = self._value(text, drops=drops)
            return value if found is text else None if found is None else found.encode("latin-1", "replace")
        # What is made ready to be sent has no other kinds; whatever else it is becomes what it is sent as.
        return self._value(any_value(value), drops=drops)

    def _elements(self, values: Sequence[Any], *, drops: bool) -> Sequence[Any]:
        clean: list[Any] = []
        same = True
        option: str | None = None
        for each in values:
            if option is not None and type(each) is str:
                # As in ("login", "--password", "hunter2").
                told = self._entry(option, each)
                found = None if told is None else told[1]
            else:
                found = self._value(each, drops=drops)
            option = option_name(each) if type(each) is str else None
            if option is not None and self._keys.judge(option).rule is None:
                option = None
            same = same and found is each
            if found is not None or each is None:
                clean.append(found)
        return values if same else tuple(clean)


def _is_secret(value: Any, *, is_loose: bool) -> bool:
    """Tell whether a value can be a secret under a key that names one: no flag is, and nothing is not."""
    kind = type(value)
    if kind is int or kind is float:
        return not is_loose
    return kind is not bool and bool(value)


def _as_label(kind: Any, value: Any) -> str:
    made: str = value if type(value) is str else kind(repr(value), value)
    return made


def scrubber_in(memory: MutableMapping[str, Any], plan: ScrubPlan) -> Scrubber | None:
    """Return what scrubs for an exporter under a plan, the same for the same plan; None for nothing."""
    if plan.scope == "off":
        return None
    known: Scrubber | None = memory.get(_MEMORY)
    if known is None or known.plan != plan:
        known = memory[_MEMORY] = Scrubber(plan, Counter() if known is None else known.counts)
    return known


def scrubbed_in(memory: Mapping[str, Any]) -> dict[str, int]:
    """Return how often each rule has found something for an exporter."""
    known: Scrubber | None = memory.get(_MEMORY)
    return {} if known is None else dict(known.counts)
