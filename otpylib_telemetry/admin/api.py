"""The API: its routes, and how a request is answered whatever server received it."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from otpylib_telemetry.admin import events, openapi, status
from otpylib_telemetry.admin.models import (
    Configuration,
    FlushedAll,
    Health,
    NoParameters,
    Patience,
    Readiness,
    Status,
    Tap,
)
from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.admin.routing import JSON, PROBLEM, Answer, Route, find, understood

if TYPE_CHECKING:
    from otpylib_telemetry.admin.access import Access
    from otpylib_telemetry.admin.routing import Call, Request

_log = logging.getLogger("otpylib_telemetry.admin")


async def _get_openapi(_call: Call) -> Answer:
    return Answer(HTTPStatus.OK, openapi.written(ROUTES), JSON)


_NO_EXPORTER: Final = {HTTPStatus.NOT_FOUND: "No exporter of this name runs."}

ROUTES: Final = (
    Route("GET", "/status", status.get_status, "How every exporter and service does", Status),
    Route("GET", "/healthz", status.get_health, "Whether the process answers", Health, is_open=True),
    Route(
        "GET",
        "/readyz",
        status.get_readiness,
        "Whether every exporter does what it is configured to do",
        Readiness,
        statuses={HTTPStatus.SERVICE_UNAVAILABLE: "At least one exporter does not."},
    ),
    Route("GET", "/config", status.get_config, "Every value in force, and its origin", Configuration),
    Route(
        "POST",
        "/flush",
        status.flush,
        "Export everything that was accepted so far",
        FlushedAll,
        Patience,
        refusals=_NO_EXPORTER,
    ),
    Route(
        "POST",
        "/drain",
        status.drain,
        "Stop taking events, export what is held, and release everything",
        FlushedAll,
        Patience,
        refusals=_NO_EXPORTER,
    ),
    Route(
        "GET",
        "/events",
        events.get_events,
        "Live events, as server-sent events",
        None,
        Tap,
        media=events.MEDIA,
        refusals={HTTPStatus.SERVICE_UNAVAILABLE: "Too many readers are there already."},
    ),
    Route("GET", "/openapi.json", _get_openapi, "This document", None, NoParameters),
)


async def answer(request: Request, access: Access, *, prefix: str = "") -> Answer:
    """Answer a request; never raises."""
    try:
        path = request.path
        if prefix and path.startswith(prefix):
            path = path[len(prefix) :] or "/"
        route, in_path = find(ROUTES, request.method, path)
        access.check(request, route)
        found = await route.handler(await understood(route, in_path, request))
    except ProblemError as error:
        return _refused(error)
    except Exception:  # noqa: BLE001  # whatever it is, the client gets an answer
        _log.exception("The admin API failed to answer %s %s", request.method, request.path)
        return _refused(
            ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the log has the details")
        )
    if isinstance(found, BaseModel):
        return Answer(HTTPStatus.OK, found.model_dump_json().encode())
    return found


def _refused(error: ProblemError) -> Answer:
    body = error.problem.model_dump_json(exclude_none=True, exclude_defaults=False).encode()
    return Answer(HTTPStatus(error.problem.status), body, PROBLEM, error.headers)
