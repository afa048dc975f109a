"""What must not be seen is replaced here, before anything is logged, shown or counted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import SecretBytes, SecretStr

#: Stands wherever a secret would.
REDACTED = "<redacted>"

# Credentials before the host, and whatever a query string carries: vendors put tokens in both.
_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")
_QUERY = re.compile(r"(?<=\?)[^#\s]+")


def hide_in_url(text: str) -> str:
    """Return ``text`` with the credentials and the query of a URL in it replaced.

    Args:
        text: Any text; one that contains no URL is returned as it is.
    """
    if "://" not in text:
        return text
    return _QUERY.sub(REDACTED, _USERINFO.sub(f"{REDACTED}@", text))


def shown(value: object, *, secret: bool = False) -> Any:
    """Return ``value`` as it may be shown to anybody: plain data, secrets replaced.

    Args:
        value: A validated setting.
        secret: Whether all of it is a secret. That nothing is set is never one.
    """
    if secret:
        return shown(value) if value is None or value in ("", (), [], {}) else REDACTED
    match value:
        case SecretStr() | SecretBytes():
            return REDACTED if value.get_secret_value() else ""
        case str():
            return hide_in_url(value)
        case Mapping():
            return {hide_in_url(str(key)): shown(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [shown(item) for item in value]
        case _:
            return value
