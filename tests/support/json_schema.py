"""As much of JSON Schema (draft 7) as the schema of the configuration uses; any other word is an error."""

import re

_SAID = {"$schema", "title", "description", "default", "definitions"}
_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
}


def complaints(schema, value, root=None, where=""):
    """What is wrong with a value by a schema, each with where it is."""
    root = schema if root is None else root
    return [
        each
        for word, told in schema.items()
        if word not in _SAID
        for each in _CHECKS[word](told, value, schema, root, where)
    ]


def _is_of(kind, value):
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _type(told, value, _schema, _root, where):
    kinds = told if isinstance(told, list) else [told]
    return [] if any(_is_of(kind, value) for kind in kinds) else [f"{where}: not of type {told}"]


def _simple(test, words):
    return lambda told, value, _schema, _root, where: (
        [] if test(told, value) else [f"{where}: {words} {told}"]
    )


def _number(test):
    return _simple(lambda told, value: not _is_of("number", value) or test(told, value), "not in bounds of")


def _any_of(told, value, _schema, root, where):
    found = [complaints(each, value, root, where) for each in told]
    return [] if any(not each for each in found) else [f"{where}: {found}"]


def _all_of(told, value, _schema, root, where):
    return [each for one in told for each in complaints(one, value, root, where)]


def _if(told, value, schema, root, where):
    return complaints(schema["then"], value, root, where) if not complaints(told, value, root, where) else []


def _ref(told, value, _schema, root, where):
    return complaints(root["definitions"][told.removeprefix("#/definitions/")], value, root, where)


def _properties(told, value, _schema, root, where):
    there = [key for key in told if isinstance(value, dict) and key in value]
    return [each for key in there for each in complaints(told[key], value[key], root, f"{where}/{key}")]


def _additional(told, value, schema, root, where):
    others = (
        [key for key in value if key not in schema.get("properties", {})] if isinstance(value, dict) else []
    )
    if told is True or not others:
        return []
    if told is False:
        return [f"{where}: unknown {others}"]
    return [each for key in others for each in complaints(told, value[key], root, f"{where}/{key}")]


def _names(told, value, _schema, root, where):
    return [each for key in value for each in complaints(told, key, root, f"{where}/{key}")]


def _items(told, value, _schema, root, where):
    items = enumerate(value) if isinstance(value, list) else ()
    return [each for n, item in items for each in complaints(told, item, root, f"{where}/{n}")]


_CHECKS = {
    "type": _type,
    "enum": _simple(lambda told, value: value in told, "none of"),
    "const": _simple(lambda told, value: value == told, "not"),
    "pattern": _simple(lambda told, value: not isinstance(value, str) or re.search(told, value), "unlike"),
    "required": _simple(
        lambda told, value: not isinstance(value, dict) or set(told) <= set(value), "without"
    ),
    "maxItems": _simple(lambda told, value: not isinstance(value, list) or len(value) <= told, "longer than"),
    "minimum": _number(lambda told, value: value >= told),
    "maximum": _number(lambda told, value: value <= told),
    "exclusiveMinimum": _number(lambda told, value: value > told),
    "exclusiveMaximum": _number(lambda told, value: value < told),
    "anyOf": _any_of,
    "allOf": _all_of,
    "if": _if,
    "then": lambda *_: [],
    "$ref": _ref,
    "properties": _properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "items": _items,
}
