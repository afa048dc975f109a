"""Regular expressions for what seldom happens: compiled when they are first used, and not with the module."""

from __future__ import annotations

import re
from typing import Any, cast


class _Late:
    def __init__(self, text: str, flags: int) -> None:
        self._written = text, flags

    def __getattr__(self, name: str) -> Any:
        pattern = re.compile(*self._written)
        for each in ("finditer", "fullmatch", "match", "search", "split", "sub"):
            setattr(self, each, getattr(pattern, each))
        return getattr(pattern, name)


def late(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return what is as good as the pattern."""
    return cast("re.Pattern[str]", _Late(text, flags))
