"""Takes secrets out of texts, by the rules of one plan."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from otpylib_telemetry.scrubbing.expressions import PIECE, safe_expression
from otpylib_telemetry.scrubbing.named import named_values, option_values
from otpylib_telemetry.scrubbing.plan import STANDS
from otpylib_telemetry.scrubbing.values import RULES, may_hold

if TYPE_CHECKING:
    import re
    from collections import Counter
    from collections.abc import Callable, Iterator

    from otpylib_telemetry.scrubbing.keys import Judged
    from otpylib_telemetry.scrubbing.named import Named
    from otpylib_telemetry.scrubbing.plan import Action, ScrubPlan


class TextRules:
    """The rules about texts that a plan has, its own and those that are there by default."""

    def __init__(self, plan: ScrubPlan, judge: Callable[[str], Judged]) -> None:
        self._plan = plan
        self._judge = judge
        self._own = [
            (f"scrub_values[{at}]", safe_expression(pattern), action or plan.action)
            for at, (pattern, action) in enumerate(plan.values)
        ]
        self._by_look = plan.scope == "all"
        self._has_own_keys = bool(plan.keys)

    def may_find(self) -> Callable[[str], bool]:
        """Return what tells at a glance whether a text may have anything secret in it."""
        if self._own or not self._by_look:
            looks = bool(self._own)
            return lambda _: looks
        if self._has_own_keys:
            return lambda text: "=" in text or ":" in text or may_hold(text)
        return may_hold

    def clean(self, text: str, counts: Counter[str]) -> tuple[str, bool]:
        """Return a text without secrets, the same one if it has none, and whether any is to be dropped."""
        found = _Found(self._plan, counts)
        clean = self._without_looks(text, found)
        if self._by_look:
            if "=" in clean or ":" in clean:
                clean = found.named(clean, named_values, self._judge)
            if "-" in clean:
                clean = found.named(clean, option_values, self._judge)
        return (text, False) if clean == text else (clean, found.drops)

    def _without_looks(self, text: str, found: _Found) -> str:
        for rule, pattern, action in self._own:
            group = 1 if pattern.groups else 0
            work = functools.partial(found.replaced, rule=rule, pattern=pattern, action=action, group=group)
            text = _in_pieces(text, work)
        for each in RULES if self._by_look else ():
            if each.may_match(text):
                group = each.pattern.groupindex.get("secret", 0)
                text = found.replaced(text, each.name, each.pattern, self._plan.action, group, each.accepts)
        return text


class _Found:
    """What was found in one text."""

    def __init__(self, plan: ScrubPlan, counts: Counter[str]) -> None:
        self._plan = plan
        self._counts = counts
        self.drops = False

    def replaced(  # noqa: PLR0913, PLR0917 - a rule has as many sides
        self,
        text: str,
        rule: str,
        pattern: re.Pattern[str],
        action: Action,
        group: int,
        accepts: Callable[[str], bool] | None = None,
    ) -> str:
        """Return a text without what a pattern finds."""

        def replace_one(match: re.Match[str]) -> str:
            at = group if match[group] else 0
            secret = match[at]
            if not secret or STANDS.fullmatch(secret) or (accepts is not None and not accepts(secret)):
                return match[0]
            start = match.start()
            whole, stand_in = match[0], self._put(secret, rule, action)
            return f"{whole[: match.start(at) - start]}{stand_in}{whole[match.end(at) - start :]}"

        return pattern.sub(replace_one, text)

    def named(
        self,
        text: str,
        values: Callable[[str, Callable[[str], Judged]], Iterator[Named]],
        judge: Callable[[str], Judged],
    ) -> str:
        """Return a text without what stands there after names of secrets."""
        parts: list[str] = []
        kept = 0
        for judged, start, end in values(text, judge):
            secret = text[start:end]
            if STANDS.match(secret) is None:
                # Of a text, one's own key costs the one word: "note: ..." is no attribute.
                action = "mask" if judged.is_own and judged.action == "drop" else judged.action
                parts += text[kept:start], self._put(secret, judged.rule or "", action)
                kept = end
        return "".join([*parts, text[kept:]]) if parts else text

    def _put(self, secret: str, rule: str, action: Action) -> str:
        self._counts[rule] += 1
        self.drops = self.drops or action == "drop"
        return self._plan.stand_in(secret, action)


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
