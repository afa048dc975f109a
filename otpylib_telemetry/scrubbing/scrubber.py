"""Scrubs what an exporter sends, by the rules of its settings.

What is known of keys and of texts is remembered, so that a table like one before costs a look at its values.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import hmac
import re
import secrets
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from otpylib_telemetry.config.redaction import REDACTED
from otpylib_telemetry.scrubbing.expressions import PIECE, safe_expression
from otpylib_telemetry.scrubbing.names import secret_name
from otpylib_telemetry.scrubbing.values import (
    ID_LENGTH,
    LEAST_CARD,
    RULES,
    SHORTEST,
    is_card,
    may_hold,
    named_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

Action: TypeAlias = Literal["mask", "hash", "drop"]

#: Which of the rules that are there by default count.
Scope: TypeAlias = Literal["all", "keys", "own", "off"]

#: Of keys, of the keys of tables, and of texts that were found harmless. A full memory is begun anew.
_MAX_KEYS: Final = 4_096
_MAX_TABLES: Final = 2_048
_MAX_TEXTS: Final = 4_096
_MAX_TEXT: Final = 256

#: Digits of a keyed hash: enough to tell values apart, and far too few to tell them from.
_DIGITS: Final = 16

#: What stands for a secret: hashed, or hidden. It is none itself.
_STANDS: Final = re.compile(r"<(?:redacted|hmac:[0-9a-f]{16})>")

#: Key into the memory that survives an exporter.
_MEMORY: Final = "scrubber"

#: Of this process, where no salt is set.
_process_key: Final = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class ScrubPlan:
    """What is scrubbed and how, as the settings say; ``keys`` and ``values`` are patterns with actions."""

    scope: Scope = "all"
    action: Action = "mask"
    keys: tuple[tuple[str, Action | None], ...] = ()
    values: tuple[tuple[str, Action | None], ...] = ()
    keep: tuple[str, ...] = ()
    salt: str = ""


#: What is scrubbed where nobody says anything.
DEFAULT_PLAN: Final = ScrubPlan()


class _Key(NamedTuple):
    """What is to be done with what is under a key, and what the key is called."""

    rule: str | None
    action: Action
    #: Whether a number is none: of "tokens" there are so many.
    many: bool
    name: str
    #: Whether nothing under it is ever scrubbed.
    kept: bool = False


class Scrubber:
    """Scrubs. Whatever has nothing secret in it is given back as it is, the same object."""

    def __init__(self, plan: ScrubPlan, counts: Counter[str]) -> None:
        self.plan = plan
        #: How often each rule has found something.
        self.counts = counts
        self._hmac_key = plan.salt.encode("utf-8", "surrogatepass") or _process_key
        self._own_keys = [
            (f"scrub_keys[{at}]", _glob(pattern), action or plan.action)
            for at, (pattern, action) in enumerate(plan.keys)
        ]
        self._own_values = [
            (f"scrub_values[{at}]", safe_expression(pattern), action or plan.action)
            for at, (pattern, action) in enumerate(plan.values)
        ]
        self._kept = [_glob(pattern) for pattern in plan.keep]
        self._by_name = plan.scope in {"all", "keys"}
        self._by_value = plan.scope == "all"
        self._looks = self._by_value or bool(self._own_values)
        self._shortest = 1 if self._own_values else SHORTEST
        self._keys: dict[str, _Key] = {}
        self._harmless_keys: set[tuple[str, ...]] = set()
        #: Texts that were looked at and have nothing secret in them.
        self.harmless: set[str] = set()
        # Nothing by default is as long as an id of a trace and as plain.
        self._of_ids = -1 if self._own_values else ID_LENGTH
        self._apart: Scrubber | None = None

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
        keys = tuple(table)
        if keys in self._harmless_keys or self._are_harmless(keys):
            # In the order of what is common: this is what every attribute of every span goes through.
            shortest, harmless, of_ids = self._shortest, self.harmless, self._of_ids
            for value in table.values():
                kind = type(value)
                if kind is str:
                    size = len(value)
                    if size < shortest or (size == of_ids and value.isalnum()):
                        continue
                    if value not in harmless and self._may_hold(value):
                        break
                elif kind is not float and kind is not bool and (kind is not int or value >= LEAST_CARD):
                    break
            else:
                return table
        return self._table(table)

    def text(self, value: str) -> str:
        """Return a text without secrets."""
        if len(value) < self._shortest or not self._may_hold(value):
            return value
        return self._text(value, drops=False) or value

    def value(self, value: Any) -> Any:
        """Return a value that OTLP has without secrets, however deep they are in it."""
        return self._value(value, drops=False)

    def labels(self, labels: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """Return the labels of a series without secrets."""
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

    def _are_harmless(self, keys: tuple[str, ...]) -> bool:
        for key in keys:
            found = self._key(key)
            if found.rule is not None or found.name is not key:
                return False
        if len(self._harmless_keys) >= _MAX_TABLES:
            self._harmless_keys.clear()
        self._harmless_keys.add(keys)
        return True

    def judged(self, name: str) -> tuple[str | None, bool]:
        """Return the rule by which a name is one of a secret, and whether a number under it is none."""
        found = self._key(name)
        return found.rule, found.many

    def _key(self, key: str) -> _Key:
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) >= _MAX_KEYS:
                self._keys.clear()
            found = self._judged(key)
            if found.name is key:
                # One that is a secret itself is not kept, and counts each time.
                self._keys[key] = found
        return found

    def _judged(self, key: str) -> _Key:
        lower = key.lower()
        if any(pattern.match(lower) for pattern in self._kept):
            return _Key(None, "mask", many=False, name=key, kept=True)
        for rule, pattern, action in self._own_keys:
            if pattern.match(lower):
                return _Key(rule, action, many=False, name=key)
        if self._by_name and (said := secret_name(key)) is not None:
            return _Key(said.rule, self.plan.action, said.many, key)
        return _Key(None, "mask", many=False, name=self.text(key) if self._looks else key)

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
        judged = self._key(key)
        rule = judged.rule
        if rule is not None and _is_secret(value, many=judged.many):
            if type(value) is str and _STANDS.fullmatch(value):
                return key, value
            self.counts[rule] += 1
            if judged.action == "drop":
                return None
            return key, REDACTED if judged.action == "mask" else self._hash(value)
        clean = value if judged.kept else self._value(value, drops=True)
        return None if clean is None and value is not None else (judged.name, clean)

    def _value(self, value: Any, *, drops: bool) -> Any:  # noqa: PLR0911 - one for each kind of value
        """Return a value without secrets; None if it is to be left out."""
        kind = type(value)
        if kind is str:
            if len(value) < self._shortest or not self._may_hold(value):
                return value
            return self._text(value, drops=drops)
        if kind is int:
            if self._by_value and value >= LEAST_CARD and is_card(str(value)):
                self.counts["card"] += 1
                if drops and self.plan.action == "drop":
                    return None
                return self._hash(str(value)) if self.plan.action == "hash" else REDACTED
            return value
        if kind is dict:
            return self._table(value)
        if kind is tuple or kind is list:
            clean = [self._value(each, drops=drops) for each in value]
            same = all(one is other for one, other in zip(clean, value, strict=True))
            return value if same else tuple(each for each in clean if each is not None)
        if kind is bytes:
            text = value.decode("latin-1")
            found = self._value(text, drops=drops)
            return value if found is text else None if found is None else found.encode("latin-1", "replace")
        return value

    def _may_hold(self, value: str) -> bool:
        if value in self.harmless:
            return False
        if not self._own_values and (not self._by_value or not may_hold(value)):
            return False
        if len(value) > _MAX_TEXT:
            return self._looks
        if self._looks and self._text(value, drops=False, counts=False) is not value:
            return True
        if len(self.harmless) >= _MAX_TEXTS:
            self.harmless.clear()
        self.harmless.add(value)
        return False

    def _text(self, value: str, *, drops: bool, counts: bool = True) -> str | None:
        """Return a text without secrets; None if it is to be left out for one."""
        found = _Found(self, counts=counts)
        clean = value
        if self._own_values:
            for rule, pattern, action in self._own_values:
                rest = functools.partial(found.replaced, rule=rule, pattern=pattern, action=action)
                clean = _in_pieces(clean, rest)
        if self._by_value:
            action = self.plan.action
            for each in RULES:
                if each.may_match(clean):
                    clean = found.replaced(clean, each.name, each.pattern, action, each.accepts)
            if "=" in clean or ":" in clean:
                clean = found.named(clean)
        if drops and found.drops:
            return None
        return value if clean == value else clean

    def _hash(self, value: Any) -> str:
        written = value if type(value) is str else repr(value)
        digest = hmac.new(self._hmac_key, written.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"<hmac:{digest.hexdigest()[:_DIGITS]}>"


class _Found:
    """What was found in one text."""

    def __init__(self, scrubber: Scrubber, *, counts: bool) -> None:
        self._scrubber = scrubber
        self._counts = counts
        self.drops = False

    def replaced(
        self,
        text: str,
        rule: str,
        pattern: re.Pattern[str],
        action: Action,
        accepts: Callable[[str], bool] | None = None,
    ) -> str:
        def replace_one(match: re.Match[str]) -> str:
            group = 1 if pattern.groups and match[1] else 0
            secret = match[group]
            if not secret or _STANDS.fullmatch(secret) or (accepts is not None and not accepts(secret)):
                return match[0]
            start = match.start()
            whole, stand_in = match[0], self._put(secret, rule, action)
            return f"{whole[: match.start(group) - start]}{stand_in}{whole[match.end(group) - start :]}"

        return pattern.sub(replace_one, text)

    def named(self, text: str) -> str:
        parts: list[str] = []
        kept = 0
        for name, start, end in named_values(text, self._scrubber.judged):
            secret = text[start:end]
            if _STANDS.match(secret) is None:
                judged = self._scrubber._key(name)  # noqa: SLF001 - a part of it
                parts += text[kept:start], self._put(secret, judged.rule or "", judged.action)
                kept = end
        return "".join([*parts, text[kept:]]) if parts else text

    def _put(self, secret: str, rule: str, action: Action) -> str:
        if self._counts:
            self._scrubber.counts[rule] += 1
        self.drops = self.drops or action == "drop"
        return self._scrubber._hash(secret) if action == "hash" else REDACTED  # noqa: SLF001 - as above


def _is_secret(value: Any, *, many: bool) -> bool:
    """Tell whether a value can be a secret under a key that names one: no flag is, and nothing is not."""
    kind = type(value)
    if kind is int or kind is float:
        return not many
    return kind is not bool and bool(value)


def _in_pieces(text: str, work: Callable[[str], str]) -> str:
    """Work on a long text piece by piece, each ending with a blank where there is any."""
    if len(text) <= PIECE:
        return work(text)
    pieces, start = [], 0
    while start < len(text):
        end = start + PIECE
        if end < len(text):
            blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = blank + 1 if blank > start else end
        pieces.append(work(text[start:end]))
        start = end
    return "".join(pieces)


def _as_label(kind: Any, value: Any) -> str:
    made: str = value if type(value) is str else kind(repr(value), value)
    return made


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.lower()))


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
