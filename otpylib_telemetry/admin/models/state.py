"""How exporters and services do, and what is done to them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, Json, JsonValue

from otpylib_telemetry.admin.models.base import _LONGEST, Model, Parameters


class Ledger(Model):
    """The books: `accepted = exported + rejected + sum(dropped) + sampled_out + queued + in_flight`."""

    accepted: int = 0
    exported: int = 0
    rejected: int = 0
    dropped: dict[str, int] = Field(default_factory=dict, description="Given up, by reason.")
    sampled_out: int = 0
    queued: int = 0
    in_flight: int = 0


class Breaker(Model):
    """The circuit breaker before an exporter's backend."""

    state: str = Field(description="`closed`, `open` or `half_open`.")
    failures: int = Field(default=0, description="Failures in a row.")
    transitions: dict[str, int] = Field(
        default_factory=dict, description="How often it went into each state."
    )


class ExporterStatus(Model):
    """One exporter."""

    name: str = Field(description="Its registered name.")
    section: str | None = Field(default=None, description="Its configuration section.")
    state: str = Field(
        description="`starting`, `running`, `degraded`, `idle`, `disabled`, `drained` or `stopped`."
    )
    reason: str | None = Field(
        default=None, description="Why it does not run, or what its backend said last."
    )
    ready: bool = Field(description="Whether it does what it is configured to do.")
    not_ready: str | None = Field(default=None, description="Why it is not ready.")
    ledger: Ledger
    breaker: Breaker | None = None
    queue_depth: int = 0
    queue_limit: int = 0
    uptime: float = Field(default=0, description="Seconds since its process started.")
    generation: int = Field(default=0, description="Of its configuration.")
    stats: dict[str, JsonValue] = Field(description="All that `get_stats` answers.")


class ServiceStatus(Model):
    """One service: the instrumentation, the poller, this API ..."""

    name: str
    section: str
    state: str
    reason: str | None = None
    stats: dict[str, JsonValue]


class HandlerStatus(Model):
    """One handler of events."""

    handler_id: str
    patterns: list[str]
    suspended: bool = Field(description="Whether it rests because it kept failing.")
    failures: int
    missed: int = Field(description="Events it did not see.")


class Status(Model):
    """How everything does."""

    version: str
    pid: int
    time: float = Field(description="Now, in seconds since the epoch.")
    ready: bool
    exporters: list[ExporterStatus]
    services: list[ServiceStatus]
    handlers: list[HandlerStatus]
    scrubbed: dict[str, int] = Field(
        default_factory=dict, description="Secrets that were taken out of what this API showed, by rule."
    )


class Health(Model):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Model):
    """Whether every exporter does what it is configured to do."""

    ready: bool
    exporters: dict[str, str | None] = Field(
        description="By exporter, why it is not ready; null where it is."
    )


class Flushed(Model):
    """What became of a flush or a drain of one exporter."""

    left: int | None = Field(default=None, description="Events that could not be exported in time.")
    error: str | None = Field(default=None, description="Why it could not be done.")
    details: dict[str, JsonValue] = Field(default_factory=dict, description="All that it answered.")


class FlushedAll(Model):
    """The same of each exporter, by name."""

    complete: bool = Field(description="Whether nothing is left.")
    exporters: dict[str, Flushed]


class Patience(Parameters):
    """How long something may take, and for whom."""

    timeout: float = Field(default=5.0, ge=0, le=3600, description="Seconds it may take.")
    exporter: str | None = Field(
        default=None,
        min_length=1,
        max_length=_LONGEST,
        description="One exporter alone, by its registered name.",
    )


class OneExporter(Parameters):
    """An exporter."""

    exporter: str = Field(
        min_length=1, max_length=_LONGEST, description="Its registered name, or its section: `otel`."
    )


class BreakerReset(Model):
    """A circuit breaker that was closed by hand."""

    exporter: str
    was: str = Field(description="The state it was in.")
    state: str = Field(description="The state it is in now.")


class SeriesParameters(OneExporter):
    """Which series are to go."""

    metric: str = Field(min_length=1, max_length=_LONGEST, description="The metric's name, as it leaves.")
    labels: Json[dict[str, str]] | None = Field(
        default=None, description="All labels of the one series that is to go, as a JSON object."
    )


class Removed(Model):
    """A metric, or one of its series, that is there no more."""

    exporter: str
    metric: str
    labels: dict[str, str] | None = None
