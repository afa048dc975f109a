"""The routes of the API."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.admin import (
    actors,
    configuration,
    events,
    explain,
    metrics,
    openapi,
    operations,
    page,
    status,
    traces,
)
from otpylib_telemetry.admin.models.changes import (
    Changed,
    ChangeParameters,
    Changes,
    Configuration,
    Generation,
    History,
    HistoryParameters,
    Reloaded,
)
from otpylib_telemetry.admin.models.insight import (
    Actors,
    EventName,
    Explanation,
    Largest,
    MetricsBySize,
    Recent,
    Tap,
    TraceId,
    Traces,
)
from otpylib_telemetry.admin.models.state import (
    BreakerReset,
    FlushedAll,
    Health,
    OneExporter,
    Patience,
    Readiness,
    Removed,
    SeriesParameters,
    Status,
)
from otpylib_telemetry.admin.routing import JSON, Answer, Route

if TYPE_CHECKING:
    from otpylib_telemetry.admin.routing import Call


async def _get_openapi(_call: Call) -> Answer:
    return Answer(HTTPStatus.OK, openapi.written(ROUTES), JSON)


_NO_EXPORTER: Final = {HTTPStatus.NOT_FOUND: "No exporter of this name runs."}
_CANNOT: Final = {HTTPStatus.CONFLICT: "The exporter cannot do this."}

_WAITS: Final = {HTTPStatus.ACCEPTED: "Accepted, and not in force: not yet, or another change counts."}
_IN_PART: Final = {HTTPStatus.CONFLICT: "Some sections did it, and others did not; the problem says which."}
_REFUSED: Final = {
    HTTPStatus.SERVICE_UNAVAILABLE: "A process does not answer; nothing was changed there.",
}

ROUTES: Final = (
    Route("GET", "/", page.get_page, "The page", None, media=page.MEDIA, is_open=True),
    Route("GET", "/openapi.json", _get_openapi, "This document", None),
    Route("GET", "/healthz", status.get_health, "Whether the process answers", Health, is_open=True),
    Route(
        "GET",
        "/readyz",
        status.get_readiness,
        "Whether every exporter does what it is configured to do",
        Readiness,
        statuses={HTTPStatus.SERVICE_UNAVAILABLE: "At least one exporter does not."},
    ),
    Route("GET", "/status", status.get_status, "How every exporter and service does", Status),
    Route("GET", "/config", configuration.get_config, "Every value, and where it is from", Configuration),
    Route(
        "PATCH",
        "/config",
        configuration.patch_config,
        "Change keys, all of them or none; or say what that would do",
        Changed,
        ChangeParameters,
        Changes,
        statuses=_WAITS,
        refusals=_REFUSED | _IN_PART,
    ),
    Route("GET", "/history", configuration.get_history, "Changes, oldest first", History, HistoryParameters),
    Route(
        "POST",
        "/rollback/{generation}",
        configuration.roll_back,
        "Go back to the state of everything after a change",
        Changed,
        Generation,
        statuses=_WAITS,
        refusals={HTTPStatus.NOT_FOUND: "This generation is not kept, or what it had is refused by now."}
        | _IN_PART,
    ),
    Route("POST", "/reload", configuration.reload, "Read the configuration files again", Reloaded),
    Route(
        "POST",
        "/flush",
        operations.flush,
        "Export everything that was accepted so far",
        FlushedAll,
        Patience,
        refusals=_NO_EXPORTER,
    ),
    Route(
        "POST",
        "/drain",
        operations.drain,
        "Stop taking events, export what is held, and release everything",
        FlushedAll,
        Patience,
        refusals=_NO_EXPORTER,
    ),
    Route(
        "POST",
        "/breaker/{exporter}/reset",
        operations.reset_breaker,
        "Close a circuit breaker: what waits is sent now",
        BreakerReset,
        OneExporter,
        refusals=_NO_EXPORTER | _CANNOT,
    ),
    Route(
        "DELETE",
        "/series/{exporter}/{metric}",
        operations.remove_series,
        "Forget a metric, or one of its series",
        Removed,
        SeriesParameters,
        refusals={HTTPStatus.NOT_FOUND: "There is no such exporter, metric or series."} | _CANNOT,
    ),
    Route("GET", "/actors", actors.get_actors, "The supervision tree", Actors),
    Route(
        "GET",
        "/metrics-by-size",
        metrics.get_metrics_by_size,
        "The metrics with most series",
        MetricsBySize,
        Largest,
    ),
    Route("GET", "/traces", traces.get_traces, "The traces that ended last", Traces, Recent),
    Route(
        "GET",
        "/explain/event/{name}",
        explain.explain_event,
        "Who takes an event, and what each makes of it",
        Explanation,
        EventName,
    ),
    Route(
        "GET",
        "/explain/{trace_id}",
        explain.explain_trace,
        "What decided what becomes of a trace",
        Explanation,
        TraceId,
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
)
