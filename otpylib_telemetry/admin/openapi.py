"""The OpenAPI document, made of the routes and their models."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from otpylib_telemetry.admin.models.base import Problem
from otpylib_telemetry.admin.routing import JSON, PROBLEM
from otpylib_telemetry.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.admin.routing import Route

_REF: Final = "#/components/schemas/{model}"

_COMMON: Final = {
    HTTPStatus.BAD_REQUEST: "It is no request of HTTP, or too long; or the body is no JSON.",
    HTTPStatus.UNAUTHORIZED: "The token is missing or wrong.",
    HTTPStatus.FORBIDDEN: "A page of another site asks.",
    HTTPStatus.MISDIRECTED_REQUEST: "The Host is none of this server's.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A parameter or the body is not as described here.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect; the log has the details.",
}
_TEXT: Final = {"schema": {"type": "string"}}
_CHANGING: Final = {
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "Neither application/json nor a header X-Telemetry-By.",
}
_WITH_BODY: Final = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too long.",
}


@lru_cache(maxsize=4)
def written(routes: tuple[Route, ...]) -> bytes:
    """Return the document as JSON."""
    return json.dumps(document(routes), indent=1).encode()


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the document."""
    wanted: list[tuple[Any, Any]] = [(Problem, "serialization")]
    for route in routes:
        if route.response is not None:
            wanted.append((route.response, "serialization"))
        if route.body is not None:
            wanted.append((route.body, "validation"))
    references, schemas = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otpylib-telemetry",
            "version": __version__,
            "description": "State and configuration of the telemetry of one process.",
        },
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, references: Mapping[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(route),
        "summary": route.summary,
        "parameters": [*_parameters(route), *(() if route.method == "GET" else (_BY,))],
        "responses": _responses(route, references),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": references[route.body, "validation"]}},
        }
    return operation


_BY: Final = {
    "name": "X-Telemetry-By",
    "in": "header",
    "required": True,
    "description": "Who asks, for the history. Over TCP a request that changes anything has this header, or "
    "the Content-Type application/json.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[A-Za-z0-9@._-]+$"},
}


def _name(route: Route) -> str:
    words = re.findall(r"\w+", route.path)
    return "_".join([route.method.lower(), *words]) if words else "get_page"


def _parameters(route: Route) -> list[dict[str, Any]]:
    schema = route.parameters.model_json_schema(mode="validation", ref_template=_REF)
    required = schema.get("required", ())
    found = []
    for name, each in schema.get("properties", {}).items():
        in_path = name in route.in_path
        kept = {key: value for key, value in each.items() if key not in {"title", "description"}}
        found.append(
            {
                "name": name,
                "in": "path" if in_path else "query",
                "required": in_path or name in required,
                "description": each.get("description", ""),
                "schema": kept,
            }
        )
    return found


def _responses(route: Route, references: Mapping[Any, Any]) -> dict[str, Any]:
    schema = (
        {"type": "string"}
        if route.media != JSON
        else {"type": "object"}
        if route.response is None
        else references[route.response, "serialization"]
    )
    good = {HTTPStatus.OK: "As asked."} | dict(route.statuses)
    refusals = dict(_COMMON)
    if route.method != "GET":
        refusals |= _CHANGING
    if route.body is not None:
        refusals |= _WITH_BODY
    refusals |= dict(route.refusals)
    problem = {PROBLEM: {"schema": references[Problem, "serialization"]}}
    responses = {
        str(status.value): {"description": text, "content": {route.media: {"schema": schema}}}
        for status, text in good.items()
    }
    for status, text in refusals.items():
        responses.setdefault(str(status.value), {"description": text, "content": problem})
    # What cannot be read as a request is refused by the HTTP server itself, in a line of text.
    responses[str(HTTPStatus.BAD_REQUEST.value)]["content"] = {**problem, "text/plain": _TEXT}
    return dict(sorted(responses.items()))
