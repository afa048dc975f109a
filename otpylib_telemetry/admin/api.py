"""How a request is answered, whatever server received it."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from pydantic import BaseModel

from otpylib_telemetry.admin.problems import ProblemError
from otpylib_telemetry.admin.route_table import ROUTES
from otpylib_telemetry.admin.routing import PROBLEM, Answer, find, understood

if TYPE_CHECKING:
    from otpylib_telemetry.admin.access import Access
    from otpylib_telemetry.admin.routing import Request

_log = logging.getLogger("otpylib_telemetry.admin")


async def answer(request: Request, access: Access) -> Answer:
    """Answer a request; never raises."""
    try:
        route, in_path = find(ROUTES, request.method, request.path)
        access.check(request, route)
        found = await route.handler(await understood(route, in_path, request))
    except ProblemError as error:
        return refused(error)
    except Exception:  # noqa: BLE001  # whatever it is, the client gets an answer
        _log.exception("The admin API failed to answer %s %s", request.method, request.path)
        return refused(ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the log has the details"))
    if isinstance(found, BaseModel):
        return Answer(HTTPStatus.OK, found.model_dump_json().encode())
    return found


def refused(error: ProblemError) -> Answer:
    """Return the answer that says what is wrong."""
    body = error.problem.model_dump_json(exclude_none=True, exclude_defaults=False).encode()
    return Answer(HTTPStatus(error.problem.status), body, PROBLEM, error.headers)
