"""Files of ``NAME=value`` lines, as systemd, Docker and compose read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from otpylib_telemetry.command.screen import UsageError

_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTES: Final = ("'", '"')


def read_env_file(path: str) -> dict[str, str]:
    """Return the variables of a file; a UsageError says what is no variable, and never its value."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"--env {path}: the file is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--env {path}: {getattr(error, 'strerror', None) or error}") from None
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise UsageError(f"--env {path}, line {number}: expected NAME=value")
        name, value = match.groups()
        if "\0" in value:
            raise UsageError(f"--env {path}, line {number}: a variable cannot hold a NUL character")
        quoted = len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0]
        found[name] = value[1:-1] if quoted else value
    return found
