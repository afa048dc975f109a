"""The configuration file: a copy for this run, and edits to it as a person would make them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("config.toml")


def copy_to(directory: Path, values: dict[tuple[str, str], Any]) -> Path:
    """Copy the template.

    Args:
        directory: Where to.
        values: Section and key to the value this run needs there.

    Returns:
        The copy.
    """
    path = directory / "config.toml"
    path.write_text(TEMPLATE.read_text(encoding="utf-8"), encoding="utf-8")
    for (section, key), value in values.items():
        edit(path, section, key, value)
    return path


def edit(path: Path, section: str, key: str, value: Any) -> tuple[str, str]:
    """Change one line of the file, as an editor does: a new file takes the place of the old one.

    Args:
        path: The file.
        section: For instance ``telemetry.otel``.
        key: A key that is there already.
        value: A number, a string or a boolean.

    Returns:
        The line as it was, and as it is.

    Raises:
        LookupError: The section has no such key.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    inside = False
    for number, line in enumerate(lines):
        if line.startswith("["):
            inside = line.strip() == f"[{section}]"
        elif inside and re.match(rf"{re.escape(key)}\s*=", line):
            lines[number] = f"{key} = {json.dumps(value)}"
            draft = path.with_suffix(".new")
            draft.write_text("\n".join([*lines, ""]), encoding="utf-8")
            draft.replace(path)
            return line, lines[number]
    raise LookupError(f"{path} has no {key} in [{section}]")
