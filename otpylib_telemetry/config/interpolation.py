"""``${NAME}`` and ``${NAME:-default}`` in configured strings.

``$${`` stands for a literal ``${``. As in a shell, the default of ``:-`` also replaces an empty variable, and
may itself contain placeholders. There is nothing else: no commands, no arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Placeholders in the defaults of placeholders.
_MAX_DEPTH = 20
#: Tables and lists in each other.
_DEEPEST = 64


class Expanded(str):
    """A string that has been expanded: a ``${`` in it means itself.

    ``from_environment`` tells whether any of it came from a placeholder. Such a value is a secret, and is
    read as an environment variable is: ``"a,b"`` for a list, ``"k=v"`` for a table.
    """

    __slots__ = ("from_environment",)
    from_environment: bool

    def __new__(cls, text: str, *, from_environment: bool) -> Self:
        """Mark ``text`` as expanded."""
        self = super().__new__(cls, text)
        self.from_environment = from_environment
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, bool]]:
        return (str(self),), {"from_environment": self.from_environment}


class Expansion(NamedTuple):
    """A value after expansion; ``secret`` if any of it came from a placeholder; why it cannot be used."""

    value: Any
    secret: bool
    problem: str | None


class _CannotExpandError(Exception):
    pass


def has_placeholder(value: Any) -> bool:
    """Tell whether expanding a value as JSON has it may read the environment."""
    match value:
        case str():
            return "${" in value.replace("$${", "")
        case dict():
            return any(has_placeholder(each) for item in value.items() for each in item)
        case list():
            return any(has_placeholder(each) for each in value)
        case _:
            return False


def expand(value: Any, environ: Mapping[str, str]) -> Expansion:
    """Replace the placeholders in every string of a value, of its items and of its entries."""
    try:
        expanded = _expand(value, environ, 0)
    except _CannotExpandError as error:
        return Expansion(value, secret=True, problem=str(error))
    return Expansion(expanded, secret=_from_environment(expanded), problem=None)


def _expand(value: Any, environ: Mapping[str, str], depth: int) -> Any:
    if depth > _DEEPEST:
        raise _CannotExpandError(f"it is nested more than {_DEEPEST} levels deep")
    match value:
        case Expanded():
            return value
        case str() if "${" in value:
            return _Text(value, environ).expand()
        case Mapping():
            return {key: _expand(item, environ, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_expand(item, environ, depth + 1) for item in value]
        case _:
            return value


def _from_environment(value: Any) -> bool:
    match value:
        case Expanded():
            return value.from_environment
        case dict():
            return any(_from_environment(item) for item in value.values())
        case list():
            return any(_from_environment(item) for item in value)
        case _:
            return False


class _Text:
    """One string on its way through expansion: a cursor that only moves forward."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        self.text = text
        self.environ = environ
        self.at = 0
        self.replaced = False

    def expand(self) -> Expanded:
        """Return the whole string with its placeholders replaced."""
        result = self._until(None, 0, wanted=True)
        return Expanded(result, from_environment=self.replaced)

    def _until(self, end: str | None, depth: int, *, wanted: bool) -> str:
        """Read on to ``end``. A default that is not ``wanted`` is skipped: what it names need not exist."""
        if depth > _MAX_DEPTH:
            raise _CannotExpandError(f"its placeholders are nested more than {_MAX_DEPTH} levels deep")
        pieces: list[str] = []
        while self.at < len(self.text):
            if self.text.startswith("$${", self.at):
                pieces.append("${")
                self.at += 3
            elif self.text.startswith("${", self.at):
                pieces.append(self._placeholder(depth, wanted=wanted))
            elif self.text[self.at] == end:
                return "".join(pieces)
            else:
                pieces.append(self.text[self.at])
                self.at += 1
        if end is not None:
            raise _CannotExpandError("a ${ in it is not closed by a }; a literal ${ is written $${")
        return "".join(pieces)

    def _placeholder(self, depth: int, *, wanted: bool) -> str:
        self.at += 2
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise _CannotExpandError(
                "a ${ in it is not followed by the name of a variable; a literal ${ is written $${"
            )
        name = match.group()
        self.at = match.end()
        value = self.environ.get(name)
        default: str | None = None
        if self.text.startswith(":-", self.at):
            self.at += 2
            default = self._until("}", depth + 1, wanted=wanted and not value)
        if not self.text.startswith("}", self.at):
            raise _CannotExpandError(
                f"${{{name} is not closed by a }} (or by :-default}}); a literal ${{ is written $${{"
            )
        self.at += 1
        self.replaced = True
        if default is not None:
            return value or default
        if value is None and wanted:
            raise _CannotExpandError(
                f"the environment variable {name} is not set; ${{{name}:-...}} would give it a default"
            )
        return value or ""
