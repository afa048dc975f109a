"""A closer look: events, actors, sizes of metrics, traces and explanations."""

from __future__ import annotations

from pydantic import Field, JsonValue

from otpylib_telemetry.admin.models.base import _LONGEST, Model, Parameters


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
