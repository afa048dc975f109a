"""The two functions of the API that an application's own code calls, without any HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from otpylib_telemetry.admin import mount
from otpylib_telemetry.admin.routing import Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.admin.routing import Answer

#: Statuses from which on an answer is a problem.
_REFUSED = 400


async def get_telemetry_status() -> dict[str, Any]:
    """See :func:`otpylib_telemetry.admin.get_telemetry_status`."""
    return _data(await _asked("GET", "/status"))


async def update_telemetry_config(
    changes: Mapping[str, Any], by: str | None, seconds: float | None, *, dry_run: bool
) -> dict[str, Any]:
    """See :func:`otpylib_telemetry.admin.update_telemetry_config`."""
    query = {"dry_run": int(dry_run), **({} if seconds is None else {"for": seconds})}
    return _data(await _asked("PATCH", f"/config?{urlencode(query)}", json.dumps(dict(changes)).encode(), by))


async def _asked(method: str, target: str, body: bytes = b"", by: str | None = None) -> Answer:
    async def read() -> bytes:
        return body

    path, _, query = target.partition("?")
    return await mount.answer(
        Request(method, path, query, {}, read, by=by, is_private=True), mount.access_of(None)
    )


def _data(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.body) if isinstance(answer.body, bytes) else {}
    if answer.status >= _REFUSED:
        raise ValueError("; ".join(fault["what"] for fault in found["faults"]) or found["detail"])
    return found
