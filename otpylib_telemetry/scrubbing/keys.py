"""What is to be done with what is under a key, by the rules of one plan."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.scrubbing.names import secret_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.scrubbing.plan import Action, ScrubPlan

#: Keys of which is remembered what they are, and characters of such a key. A full memory is begun anew.
_MAX_KEYS: Final = 4_096
_MAX_KEY: Final = 128


class Judged(NamedTuple):
    """What is to be done with what is under a key, and what the key is called.

    Attributes:
        name: What the key is called instead, because it is a secret itself; None where it is none.
        rule: The rule by which it names a secret; None where it names none.
        action: What becomes of the secret.
        is_loose: Whether it means other things as well: a number under it is no secret.
        is_kept: Whether nothing under it is ever scrubbed.
        is_own: Whether the rule is one of the settings.
    """

    name: str | None = None
    rule: str | None = None
    action: Action = "mask"
    is_loose: bool = False
    is_kept: bool = False
    is_own: bool = False


_HARMLESS: Final = Judged()


class KeyRules:
    """Judges keys, and remembers them."""

    def __init__(self, plan: ScrubPlan, clean: Callable[[str], str]) -> None:
        """Take a plan, and what takes secrets out of a text."""
        self._own = [
            (f"scrub_keys[{at}]", _glob(pattern), action or plan.action)
            for at, (pattern, action) in enumerate(plan.keys)
        ]
        self._kept = [_glob(pattern) for pattern in plan.keep]
        self._by_name = plan.scope in {"all", "keys"}
        self._action: Action = plan.action
        self._clean = clean
        self._known: dict[str, Judged] = {}

    def judge(self, key: str) -> Judged:
        """Return what is to be done."""
        found = self._known.get(key)
        if found is None:
            found = self._judge(key)
            # One that is a secret itself is not kept, and counts each time.
            if found.name is None and len(key) <= _MAX_KEY:
                if len(self._known) >= _MAX_KEYS:
                    self._known.clear()
                self._known[key] = found
        return found

    def _judge(self, key: str) -> Judged:
        lower = key.lower()
        if any(pattern.match(lower) for pattern in self._kept):
            return Judged(is_kept=True)
        for rule, pattern, action in self._own:
            if pattern.match(lower):
                return Judged(self._another_name(key), rule, action, is_own=True)
        if self._by_name and (said := secret_name(key)) is not None:
            return Judged(self._another_name(key), said.rule, self._action, said.is_loose)
        name = self._another_name(key)
        return _HARMLESS if name is None else Judged(name)

    def _another_name(self, key: str) -> str | None:
        clean = self._clean(key)
        return None if clean == key else clean


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.lower()))
