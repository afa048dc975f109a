"""What the API has answered, without secrets: replaced in the application, and once more here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otpylib_telemetry.config.redaction import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping


def clean(found: Any) -> Any:
    """Return an answer without what is called like a secret; of a setting the origin stays."""
    if isinstance(found, dict) and found.keys() >= {"sections", "files"}:
        sections = {name: _section(each) for name, each in found["sections"].items()}
        return {"sections": sections, "files": without_secrets(found["files"])}
    if isinstance(found, dict) and found.keys() == {"entries"}:
        return {"entries": [_entry(each) for each in found["entries"]]}
    if isinstance(found, dict) and "scrubbed" in found:
        # Counts by rule, some of which are called like what they find.
        return {**without_secrets(found), "scrubbed": found["scrubbed"]}
    return without_secrets(found)


def _entry(entry: Any) -> Any:
    if not isinstance(entry, dict) or "changes" not in entry:
        return without_secrets(entry)
    rest = {name: without_secrets(each) for name, each in entry.items() if name != "changes"}
    return {
        **rest,
        "changes": {key: _hidden(key, each, "old", "new") for key, each in entry["changes"].items()},
    }


def _hidden(key: str, found: Mapping[str, Any], *parts: str) -> dict[str, Any]:
    """Return what is told of a setting; its own name says whether the parts with values are a secret."""
    hidden = {part: without_secrets({key: found[part]})[key] for part in parts}
    return {**found, **{part: found[part] if found[part] is None else hidden[part] for part in parts}}


def _section(section: Mapping[str, Any]) -> dict[str, Any]:
    keys = {key: _hidden(key, each, "value", "wished") for key, each in section["keys"].items()}
    rest = {name: without_secrets(each) for name, each in section.items() if name != "keys"}
    return {**rest, "keys": keys}
