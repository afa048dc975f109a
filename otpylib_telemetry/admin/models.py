"""What is asked of the admin API and what it answers: the OpenAPI document is made of these models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, JsonValue, RootModel, WithJsonSchema

#: The longest text that a request may have in its path or its query.
_LONGEST = 1024


class Model(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameters(BaseModel):
    """What all parameters have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- problems -----------------------------------------------------------------------------------------------


class Fault(Model):
    """One thing that is wrong with a request."""

    where: str = Field(description="The part of the request: `query: for`, `body: otel.sampling_rate`.")
    what: str = Field(description="What is wrong with it.")
    expected: str | None = Field(default=None, description="What was expected in its place.")


class Problem(Model):
    """Why a request was refused (RFC 9457, `application/problem+json`)."""

    type: str = Field(default="about:blank", description="Always `about:blank`: the status says the kind.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The status.")
    detail: str = Field(description="What is wrong, for a person to read.")
    where: str | None = Field(default=None, description="The part of the request that it is about.")
    expected: str | None = Field(default=None, description="What was expected in its place.")
    faults: list[Fault] = Field(default_factory=list, description="Everything that is wrong.")


# --- status and health --------------------------------------------------------------------------------------


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


class Health(Model):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Model):
    """Whether every exporter does what it is configured to do."""

    ready: bool
    exporters: dict[str, str | None] = Field(
        description="By exporter, why it is not ready; null where it is."
    )


# --- configuration ------------------------------------------------------------------------------------------


class Value(Model):
    """One key."""

    value: JsonValue = Field(description="What is in force; secrets are redacted.")
    origin: str = Field(
        description="Where it comes from: `default`, `environment NAME`, `file PATH`, `put`, `message`, "
        "`api by WHO`, `argument`."
    )
    wished: JsonValue = Field(
        default=None, description="What is wanted, while that is not in force. Only where `pending` is true."
    )
    pending: bool = Field(default=False, description="Whether another value is wanted than is in force.")


class Section(Model):
    """The configuration of one exporter or service."""

    name: str = Field(description="The registered name of its process.")
    section: str
    generation: int
    keys: dict[str, Value]
    problems: list[str] = Field(description="What is wrong with what was set.")


class Configuration(Model):
    """The configuration of everything, by section without `telemetry.`."""

    sections: dict[str, Section]
    files: dict[str, str | None] = Field(
        description="The configuration files, and why one could not be read."
    )


# --- flushing -----------------------------------------------------------------------------------------------


class Flushed(Model):
    """What became of a flush or a drain of one exporter."""

    left: int | None = Field(default=None, description="Events that could not be exported in time.")
    error: str | None = Field(default=None, description="Why it could not be done.")
    details: dict[str, JsonValue] = Field(default_factory=dict, description="All that it answered.")


class FlushedAll(Model):
    """The same of each exporter, by name."""

    complete: bool = Field(description="Whether nothing is left.")
    exporters: dict[str, Flushed]


# --- parameters ---------------------------------------------------------------------------------------------


def _flag(value: object) -> object:
    """Return a switch of a query: `?dry_run` and `?dry_run=1` are both yes."""
    if isinstance(value, str):
        return {"": True, "1": True, "true": True, "0": False, "false": False}.get(value.lower(), value)
    return value


Flag = Annotated[
    bool, BeforeValidator(_flag), WithJsonSchema({"enum": ["0", "1", "true", "false"], "type": "string"})
]


class NoParameters(Parameters):
    """None."""


class Patience(Parameters):
    """How long something may take, and for whom."""

    timeout: float = Field(default=5.0, ge=0, le=3600, description="Seconds it may take.")
    exporter: str | None = Field(
        default=None,
        min_length=1,
        max_length=_LONGEST,
        description="One exporter alone, by its registered name.",
    )


class Tap(Parameters):
    """Which events to show."""

    pattern: str = Field(
        default="*",
        min_length=1,
        max_length=_LONGEST,
        description="Shell pattern over the whole event name; `*` crosses dots.",
    )
    sample: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Which share of them. Events of one trace are shown together or not at all.",
    )


#: Keys that one request may change.
MOST_KEYS = 100


class Changes(RootModel[dict[str, JsonValue]]):
    """Keys such as `otel.sampling_rate` with their new values; null takes a change back."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "maxProperties": MOST_KEYS,
            "propertyNames": {"pattern": r"^[^.]+\..+$"},
            "examples": [{"otel.sampling_rate": 0.5}],
        }
    )


class ChangeParameters(Parameters):
    """How a change is made."""

    dry_run: Flag = Field(default=False, description="Say what it would do, and do nothing.")
    seconds: float | None = Field(
        default=None,
        alias="for",
        gt=0,
        le=2_592_000,
        description="Seconds after which it takes itself back.",
    )


class Change(Model):
    """What becomes of one key; secrets are redacted."""

    old: JsonValue = None
    new: JsonValue = None


class Probed(Model):
    """What came of trying a destination that is about to be changed."""

    ok: bool
    reason: str | None = None


class Changed(Model):
    """What became of a change, or what would become of it."""

    outcome: Literal["applied", "pending", "superseded", "rejected", "would_apply", "would_reject"] = Field(
        description="`pending`: accepted, but not in force yet; what is in force goes on being so. "
        "`superseded`: another change came before it was in force, and counts."
    )
    generation: int | None = Field(default=None, description="The number of the change in the history.")
    changes: dict[str, Change] = Field(description="By key, such as `otel.sampling_rate`.")
    problems: list[str] = Field(
        default_factory=list, description="Why something was refused, or is not in force yet."
    )
    effects: list[str] = Field(default_factory=list, description="Of a dry run: what else would happen.")
    probes: dict[str, Probed] = Field(
        default_factory=dict, description="Of a dry run: by section, whether its destination answers."
    )
    overrode: dict[str, str] = Field(
        default_factory=dict, description="By key, the origin of what had set it before and counts no more."
    )
    reverts_at: float | None = Field(
        default=None, description="When it takes itself back, in seconds since the epoch."
    )


class HistoryParameters(Parameters):
    """Which changes to tell of."""

    section: str | None = Field(
        default=None, min_length=1, max_length=_LONGEST, description="Those of one section: `otel`."
    )
    limit: int = Field(default=200, ge=1, le=10_000, description="The last ones, at most.")


class HistoryEntry(Model):
    """One change that was asked for."""

    generation: int = Field(description="What `rollback` takes: the state after this change.")
    time: float = Field(description="In seconds since the epoch.")
    section: str
    origin: str
    by: str | None = None
    changes: dict[str, Change]
    outcome: str = Field(description="`applied`, `pending`, `rejected`, `superseded` or `reverted`.")
    reverts_at: float | None = None
    reverted: bool = False


class History(Model):
    """The changes that are kept, oldest first."""

    entries: list[HistoryEntry]


class Generation(Parameters):
    """To which state to go back."""

    generation: int = Field(ge=0, le=2**53, description="That after the change of this number.")


class Reloaded(Model):
    """What changed when the configuration files were read again."""

    changed: list[str] = Field(description="Keys, such as `otel.sampling_rate`.")
    errors: dict[str, str] = Field(default_factory=dict, description="By process, why it could not read.")


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


# --- actors -------------------------------------------------------------------------------------------------


class Actor(Model):
    """One process of otpylib, and those it supervises."""

    pid: str
    name: str | None = Field(default=None, description="Its registered name.")
    module: str = Field(description="The class or the function that it runs.")
    supervisor: bool
    mailbox: int | None = Field(default=None, description="Messages that wait; null without a mailbox.")
    age: float = Field(description="Seconds since it began.")
    crashes: int = Field(default=0, description="How often a process of its name has crashed.")
    restarts: int = Field(default=0, description="How often its supervisor has started it again.")
    children: list[Actor] = Field(default_factory=list)


class Incident(Model):
    """A crash, a restart, or a supervisor that gave up."""

    event: str
    time: float = Field(description="In seconds since the epoch.")
    details: dict[str, JsonValue]


class Actors(Model):
    """The supervision tree."""

    instrumented: bool = Field(
        description="Whether crashes and restarts are seen: `[telemetry.instrument] enabled = true`."
    )
    since: float | None = Field(description="Since when they are counted, in seconds since the epoch.")
    processes: int
    roots: list[Actor] = Field(description="Processes that nobody supervises, the deepest mailboxes first.")
    incidents: list[Incident] = Field(description="The last crashes and restarts, oldest first.")


# --- metrics ------------------------------------------------------------------------------------------------


class Largest(Parameters):
    """How many."""

    limit: int = Field(default=20, ge=1, le=200, description="The largest, at most.")


class MetricSize(Model):
    """How many series a metric has, and why."""

    exporter: str
    metric: str
    kind: str
    series: int
    limit: int = Field(description="How many it may have: `max_series`.")
    overflowing: bool = Field(description="Whether some go into the series `otel_metric_overflow`.")
    labels: dict[str, int] = Field(description="The labels with most values, and how many these are.")
    folded: dict[str, int] = Field(description="Labels whose values are one by now, and how many they had.")


class MetricsBySize(Model):
    """The largest metrics of all exporters."""

    series: int = Field(description="Of all metrics of all exporters.")
    metrics: int
    largest: list[MetricSize]


# --- traces and explanations --------------------------------------------------------------------------------


class TraceSpan(Model):
    """One operation of a trace."""

    span_id: str
    parent_span_id: str | None = None
    name: str
    start_ms: float = Field(description="Since the trace began.")
    duration_ms: float
    wait_ms: float | None = Field(
        default=None, description="How long it waited in a mailbox before; not part of the duration."
    )
    work_ms: float = Field(description="The part of the duration in which no operation inside of it ran.")
    error: str | None = None
    metadata: dict[str, JsonValue]


class Trace(Model):
    """A trace that has ended here, as a waterfall: operations by their beginnings."""

    trace_id: str
    name: str
    start: float = Field(description="In seconds since the epoch.")
    duration_ms: float
    error: bool
    spans: list[TraceSpan]
    left_out: int = Field(description="Operations of it that are not shown.")


class Traces(Model):
    """The traces that ended last, newest first."""

    since: float = Field(
        description="Since when they are recorded: from the first request until a minute after the last."
    )
    traces: list[Trace]


class Recent(Parameters):
    """How many traces."""

    limit: int = Field(default=20, ge=1, le=100, description="The last ones, at most.")


class TraceId(Parameters):
    """A trace."""

    trace_id: str = Field(pattern=r"^[0-9a-f]{32}$", description="Its id, 32 hexadecimal digits.")


class EventName(Parameters):
    """An event."""

    name: str = Field(min_length=1, max_length=_LONGEST, description="Its name: `shop.sale`.")


class Explained(Model):
    """What one exporter or handler makes of it."""

    name: str
    takes: bool | None = Field(description="Whether it takes it; null where nobody can say.")
    answers: list[str] = Field(description="What decided that, in words.")


class Explanation(Model):
    """What decides, or has decided, what becomes of a trace or of an event."""

    subject: str
    explained: list[Explained]
