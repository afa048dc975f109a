"""The settings classes as one JSON schema of the file that they are written in.

What pydantic says of a class is what validates. A file may have more: a single text for a list of one, and
``${NAME}`` in place of anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticOmit

from otpylib_telemetry.config.environment import KIND
from otpylib_telemetry.config.settings import ExporterSettings, field_extra
from otpylib_telemetry.metrics.definition import TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core.core_schema import IsInstanceSchema

    from otpylib_telemetry.config.settings import SectionSettings

_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_TITLE: Final = "Configuration of otpylib-telemetry"

#: Stands for what is read from the environment.
_PLACEHOLDER: Final = {"type": "string", "pattern": r"\$\{"}
_NAME: Final = r"^[A-Za-z][A-Za-z0-9_-]*$"

#: A definition of a metric; its options depend on its type, and the exporter tells which are wrong.
_DEFINITION: Final = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": {"enum": list(TYPES)}, "name": {"type": "string"}},
}
_SCALAR: Final = {"type": ["string", "number", "boolean"]}
#: What validates, and means the same in every reader of schemas.
_MEANINGFUL: Final = frozenset(
    {
        *("type", "enum", "const", "default", "anyOf", "properties", "required", "additionalProperties"),
        *("items", "maxItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    }
)


class _Generator(GenerateJsonSchema):
    """Leaves out what only a program can give, also where it is a default."""

    ignored_warning_kinds = {  # noqa: RUF012  # as its base has it
        "skipped-choice",
        "non-serializable-default",
    }

    def is_instance_schema(self, schema: IsInstanceSchema) -> NoReturn:
        del schema
        raise PydanticOmit


def schema_of(models: Mapping[str, type[SectionSettings]]) -> dict[str, Any]:
    """Return the schema of a file with these sections, by name; exporters may have further instances."""
    definitions = {name: _section(name, model) for name, model in sorted(models.items())}
    exporters = [name for name in definitions if issubclass(models[name], ExporterSettings)]
    telemetry = {
        "type": "object",
        "properties": {name: {"$ref": f"#/definitions/{name}"} for name in definitions},
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": {
            "description": "A further exporter of the kind it says.",
            "type": "object",
            "required": [KIND],
            "properties": {KIND: {"anyOf": [{"enum": exporters}, _PLACEHOLDER]}},
            "allOf": [
                {
                    "if": {"properties": {KIND: {"const": name}}},
                    "then": {"$ref": f"#/definitions/{name}"},
                }
                for name in exporters
            ],
        },
    }
    return {
        "$schema": _DIALECT,
        "title": _TITLE,
        "type": "object",
        "properties": {"telemetry": telemetry},
        "definitions": definitions,
    }


def _section(name: str, model: type[SectionSettings]) -> dict[str, Any]:
    generated = model.model_json_schema(schema_generator=_Generator)
    local = {f"#/$defs/{key}": value for key, value in generated.get("$defs", {}).items()}
    local["#/$defs/Definition"] = _DEFINITION
    secret = model.secret_keys()
    properties = {
        key: _property(info, generated["properties"].get(key), local, is_secret=key in secret)
        for key, info in model.model_fields.items()
    }
    if issubclass(model, ExporterSettings):
        properties[KIND] = {"description": "Which exporter this is an instance of.", "type": "string"}
    return {
        "title": f"telemetry.{name}",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _property(
    info: FieldInfo, generated: dict[str, Any] | None, local: Mapping[str, Any], *, is_secret: bool
) -> dict[str, Any]:
    if generated is None:
        # Only a program can give any.
        return {"description": info.description, "type": "array", "maxItems": 0}
    found = _written(generated, local)
    default = found.pop("default", None)
    accepted = found.pop("anyOf", None) or [found]
    if not any(each.get("type") == "string" and "enum" not in each for each in accepted):
        accepted = [*accepted, _PLACEHOLDER]
    described = {"description": _description(info)}
    if default is not None and not is_secret:
        described["default"] = default
    return {**described, **(accepted[0] if len(accepted) == 1 else {"anyOf": accepted})}


def _written(generated: Any, local: Mapping[str, Any]) -> Any:
    """Return what may stand in a file for what validates."""
    if "$ref" in generated:
        found = _written(local[generated["$ref"]], local)
        return {**found, "default": generated["default"]} if "default" in generated else found
    found = {key: value for key, value in generated.items() if key in _MEANINGFUL}
    for bound, word in (("ge", "minimum"), ("le", "maximum")):
        if bound in generated:
            found[word] = generated[bound]
    if "anyOf" in found:
        # TOML has no null.
        options = [_written(each, local) for each in found["anyOf"] if each != {"type": "null"}]
        flat = [one for each in options for one in each.get("anyOf", [each])]
        found["anyOf"] = flat
    match found.get("type"):
        case "array":
            if "items" in found:
                found["items"] = _written(found["items"], local)
            default = {"default": found.pop("default")} if "default" in found else {}
            return {"anyOf": [found, {"type": "string"}], **default}
        case "object" if isinstance(found.get("additionalProperties"), dict):
            found["additionalProperties"] = _SCALAR
        case "object" if "properties" in found:
            found["properties"] = {key: _written(each, local) for key, each in found["properties"].items()}
    return found


def _description(info: FieldInfo) -> str:
    parts = [info.description or ""]
    if unit := field_extra(info, "unit"):
        parts.append(f"In {unit}.")
    if names := field_extra(info, "env"):
        parts.append(f"In the environment: {', '.join(names)}.")
    return " ".join(parts)
