"""What the environment says about an exporter's settings.

Three layers, the weakest first: the variables of a standard (``OTEL_*``), ``TELEMETRY_<KEY>`` for all
exporters, ``TELEMETRY_<SECTION>_<KEY>`` for one. A variable that is empty or blank counts as not set, as
OpenTelemetry's "Environment Variable Specification" has it.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin
from urllib.parse import unquote

from otpylib_telemetry.config.refusals import Unusable
from otpylib_telemetry.config.settings import SectionSettings, field_extra

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_PREFIX = "TELEMETRY_"

#: The key by which a section says that it belongs to a further instance of an exporter, and of which.
KIND = "kind"

_INSTANCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_KIND_VARIABLE = re.compile(r"TELEMETRY_(.+)_KIND", re.DOTALL)


def is_name(name: object) -> bool:
    """Tell whether an instance may be called so: its section and its process are named after it."""
    return isinstance(name, str) and _INSTANCE_NAME.fullmatch(name) is not None


def kind_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the variables that ask for an instance, with the name and the kind each asks for."""
    return {
        variable: (match[1].lower(), value.strip())
        for variable, value in sorted(environ.items())
        if (match := _KIND_VARIABLE.fullmatch(variable)) and value.strip()
    }


def section_prefix(section: str) -> str:
    """Return what the variables of one section begin with: ``TELEMETRY_OTEL_`` for ``telemetry.otel``."""
    name = section.removeprefix("telemetry.")
    return f"{_PREFIX}{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}_"


def from_environment(
    settings_type: type[SectionSettings], section: str, environ: Mapping[str, str]
) -> dict[str, list[tuple[str, Any]]]:
    """Return by key the variables that set it, the strongest first, each with what to offer the field."""
    present = {name: value.strip() for name, value in environ.items() if value.strip()}
    standard = settings_type.standard_environment(present)
    prefix = section_prefix(section)
    # What a standard says about an exporter is about one of them: a second one must not send to the same
    # place, nor show the credentials of one backend to another.
    is_further = bool(settings_type.kind) and section.removeprefix("telemetry.") != settings_type.kind
    shared = settings_type.shared_environment if is_further else settings_type.model_fields.keys()
    secret = settings_type.secret_keys()
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, field in settings_type.model_fields.items():
        names = [f"{prefix}{key.upper()}"]
        if settings_type.is_exporters:
            names.append(f"{_PREFIX}{key.upper()}")
        if key in shared:
            names += field_extra(field, "env") or ()
        verbatim = key in secret
        found[key] = [
            (name, parse(field, environ[name], verbatim=verbatim)) for name in names if name in present
        ]
        if key in standard and key in shared:
            variable, value = standard[key]
            found[key].append((variable, parse(field, value) if isinstance(value, str) else value))
    return found


def unknown_variables(
    settings_type: type[SectionSettings], section: str, environ: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables with the section's prefix that name none of its keys, with the key each would set.

    A variable whose name ends like a key (``TELEMETRY_OTEL_EU_ENDPOINT``) is left alone: it may well belong
    to another section whose name begins like this one's.
    """
    prefix = section_prefix(section)
    keys = {key.upper() for key in (*settings_type.model_fields, KIND)}
    endings = tuple(f"_{key}" for key in keys)
    found = {}
    for name, value in sorted(environ.items()):
        rest = name.removeprefix(prefix)
        is_unknown = rest and rest not in keys and not rest.endswith(endings)
        if name.startswith(prefix) and value.strip() and is_unknown:
            found[name] = rest.lower()
    return found


def parse(field: FieldInfo, text: str, *, verbatim: bool = False) -> Any:
    """Read a string from the environment as the kind of value a field takes.

    Lists are JSON or separated by commas; tables are JSON or ``name=value`` pairs separated by commas with
    percent-encoding, the syntax of ``OTEL_EXPORTER_OTLP_HEADERS``. Anything else stays a string: pydantic
    reads numbers and booleans from strings itself. Blanks around it go, unless it is taken ``verbatim``, as a
    password is, which may end with one.
    """
    # Only a text that needs it: str.strip() makes a plain string of what a standard's variable has marked.
    if text != text.strip() and (not verbatim or container(field.annotation) is not None):
        text = text.strip()
    shape = container(field.annotation)
    if shape is Mapping:
        return parse_table(text)
    if shape is Sequence:
        return _parse_list(text)
    return text


def container(annotation: Any) -> type | None:
    """Return ``Mapping`` or ``Sequence`` if a field of this type holds a table or a list, else None."""
    origin = get_origin(annotation)
    if origin in {Union, types.UnionType}:
        kinds = [container(argument) for argument in get_args(annotation)]
        return next((kind for kind in kinds if kind is not None), None)
    if origin is Annotated:
        return container(get_args(annotation)[0])
    candidate = origin or annotation
    if not isinstance(candidate, type) or issubclass(candidate, (str, bytes)):
        return None
    if issubclass(candidate, Mapping):
        return Mapping
    return Sequence if issubclass(candidate, (Sequence, AbstractSet)) else None


def _parse_list(text: str) -> Any:
    # "[a-z]*.stop" is a pattern that begins like JSON: what is not JSON is taken for what it says.
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return [item.strip() for item in text.split(",") if item.strip()]


#: What a pair that has no name is called; no name has a blank in it.
PAIR = "pair "


def parse_table(text: str) -> Any:
    """Read a table from the environment: JSON, or ``name=value`` pairs.

    A pair that is none is an entry that is :class:`Unusable`: it costs nothing but itself, as in every SDK.
    """
    if text.startswith("{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return Unusable(text, "expected name=value pairs separated by commas, or a JSON object")
    table: dict[str, str | Unusable] = {}
    for number, pair in enumerate(text.split(","), start=1):
        if not pair.strip():
            continue
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            reason = f"expected name=value pairs separated by commas, but pair {number} is not one"
            table[f"{PAIR}{number}"] = Unusable(pair.strip(), reason)
            continue
        table[unquote(name.strip())] = unquote(value.strip())
    wrong = [pair for pair in table.values() if isinstance(pair, Unusable)]
    return Unusable(text, wrong[0].reason) if wrong and len(wrong) == len(table) else table
