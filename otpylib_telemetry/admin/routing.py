"""Requests and answers without any web framework, and which function answers which request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, TypeAdapter, ValidationError

from otpylib_telemetry.admin.models.base import NoParameters, Parameters
from otpylib_telemetry.admin.problems import ProblemError, from_validation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"

#: Parameters that one query may have.
_MOST_PARAMETERS: Final = 50

_PLACEHOLDER: Final = re.compile(r"{(\w+)}")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as whatever server received it.

    Attributes:
        method: In upper case; HEAD is answered as GET.
        path: As it was sent, percent-encoded, beginning with ``/``.
        query: As it was sent.
        headers: By their names in lower case.
        read: Reads the body, which is bounded.
        by: Who sends it, where the connection tells that.
        is_private: Whether the connection itself says that it may be answered: a socket of this user's.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    read: Callable[[], Awaitable[bytes]]
    by: str | None = None
    is_private: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; ``body`` is the whole of it, or what makes it bit by bit."""

    status: HTTPStatus
    body: bytes | AsyncGenerator[bytes, None] = b""
    media: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request that was understood: its parameters and its body as the models of its route have them."""

    request: Request
    parameters: Any
    body: Any

    @property
    def by(self) -> str | None:
        """Who asks for it: the user whom the connection proves, if it does, before what the request says."""
        proven, said = self.request.by, self.request.headers.get("x-telemetry-by", "").strip()[:200]
        if proven is None or not said or said == proven:
            return proven or said or None
        return f"{proven} (as {said})"


Handler: TypeAlias = "Callable[[Call], Awaitable[BaseModel | Answer]]"


@dataclass(frozen=True, eq=False)
class Route:
    """One operation of the API.

    Attributes:
        method: ``GET``, ``POST``, ``PATCH`` or ``DELETE``.
        path: With its parameters in braces.
        handler: Answers it.
        summary: For the document.
        response: The model of what it answers; None where it answers no JSON.
        parameters: The model of its parameters, those of the path among them.
        body: The model of the body it takes, if it takes one.
        media: What it answers.
        statuses: Further statuses with which it answers in the model of ``response``.
        refusals: Further statuses with which it answers a problem.
        is_open: Whether everybody may ask.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    response: type[BaseModel] | None
    parameters: type[Parameters] = NoParameters
    body: type[BaseModel] | None = None
    media: str = JSON
    statuses: Mapping[HTTPStatus, str] = field(default_factory=dict)
    refusals: Mapping[HTTPStatus, str] = field(default_factory=dict)
    is_open: bool = False

    @cached_property
    def in_path(self) -> tuple[str, ...]:
        """The parameters that are in the path."""
        return tuple(_PLACEHOLDER.findall(self.path))

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(_PLACEHOLDER.sub(r"(?P<\1>[^/]+)", self.path))

    def match(self, path: str) -> dict[str, str] | None:
        """Return the parameters in a path that is this route's, or None."""
        found = self._pattern.fullmatch(path)
        return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a request, with the parameters in its path."""
    path = path.rstrip("/") or "/"
    allowed = []
    for route in routes:
        if (found := route.match(path)) is not None:
            if route.method == ("GET" if method == "HEAD" else method):
                return route, found
            allowed.append(route.method)
    if allowed:
        methods = ", ".join(sorted({*allowed, *(("HEAD",) if "GET" in allowed else ())}))
        raise ProblemError(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method[:20]} is not for {path[:200]}",
            where="method",
            expected=methods,
            headers={"Allow": methods},
        )
    raise ProblemError(
        HTTPStatus.NOT_FOUND,
        f"there is no {path[:200]}",
        where="path",
        expected="one of those in /openapi.json",
    )


async def understood(route: Route, in_path: Mapping[str, str], request: Request) -> Call:
    """Return what a request asks for; raises ProblemError where it is not as its route has it."""
    parameters = _parameters(route, in_path, request.query)
    body = None if route.body is None else _body(route.body, await request.read())
    return Call(request, parameters, body)


def _parameters(route: Route, in_path: Mapping[str, str], query: str) -> Parameters:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
    except ValueError as error:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"the query cannot be read ({error})",
            where="query",
            expected=f"at most {_MOST_PARAMETERS} parameters, percent-encoded in UTF-8",
        ) from None
    given = dict(pairs)
    if len(given) < len(pairs) or not given.keys().isdisjoint(in_path):
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "the query has a parameter more than once, or one that is in the path",
            where="query",
            expected="each parameter once",
        )
    try:
        return route.parameters.model_validate({**given, **in_path})
    except ValidationError as error:
        part = "path" if error.errors()[0]["loc"][:1] and error.errors()[0]["loc"][0] in in_path else "query"
        raise from_validation(part, error) from None


def _body(model: type[BaseModel], body: bytes) -> BaseModel:
    try:
        return _adapter(model).validate_json(body)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "the body is no JSON", where="body", expected=JSON
            ) from None
        raise from_validation("body", error) from None


def _adapter(model: type[BaseModel]) -> TypeAdapter[BaseModel]:
    found = _adapters.get(model)
    if found is None:
        found = _adapters[model] = TypeAdapter(model)
    return found


_adapters: dict[type[BaseModel], TypeAdapter[BaseModel]] = {}
