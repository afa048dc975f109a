"""Keys that ``config.toml`` does not show yet, added to it with their description and default.

``python -m scripts.reference`` does it with everything else that is made from the settings models.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otpylib_telemetry.config.settings import SectionSettings

SAMPLE = Path(__file__).parents[1] / "config.toml"

_HEADER = re.compile(r"(?:# )?\[\[?telemetry\.[\w.]+\]\]?")
_RULE = "# ---"
_WIDTH = 118


def completed(text: str, models: Mapping[str, type[SectionSettings]]) -> str:
    """Return a sample file with the missing keys at the end of each section, commented out.

    Args:
        text: The file.
        models: By section, without ``telemetry.``, the settings class.
    """
    lines = text.splitlines()
    for section, model in models.items():
        first = lines.index(f"[telemetry.{section}]") + 1
        end = next((n for n in range(first, len(lines)) if _HEADER.fullmatch(lines[n])), len(lines))
        there = {found[1] for line in lines[first:end] if (found := re.match(r"(?:# )?([\w-]+) = ", line))}
        added = [line for key in model.model_fields if key not in there for line in _entry(model, key)]
        if lines[end - 1].startswith(_RULE):
            # The next section's title, between two rules.
            end = max(n for n in range(first, end - 1) if lines[n].startswith(_RULE))
        while not lines[end - 1].strip():
            end -= 1
        lines[end:end] = added
    return "\n".join(lines) + "\n"


def _entry(model: type[SectionSettings], key: str) -> list[str]:
    field = model.model_fields[key]
    value = getattr(model(), key)
    meaning = (field.description or "").replace("`", "")
    if value is None:
        value = (field.examples or [""])[0]
        meaning += " Unset by default."
    comment = textwrap.wrap(meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    return ["", *comment, f"# {key} = {_toml(value)}"]


def _toml(value: Any) -> str:
    match value:
        case Mapping():
            inside = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case _:
            return json.dumps(value)
