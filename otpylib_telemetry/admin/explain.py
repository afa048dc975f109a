"""``GET /explain/...``: what decides, or has decided, what becomes of a trace or of an event.

Nothing is recorded for it. What is known at this moment is asked for: subscriptions, states, queues, books,
and what each exporter itself can say of a trace.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.admin import processes
from otpylib_telemetry.admin.models.insight import Explained, Explanation
from otpylib_telemetry.admin.plain import scrubbed
from otpylib_telemetry.admin.processes import SilentError
from otpylib_telemetry.admin.status import not_ready
from otpylib_telemetry.aggregation.exporter_stores import known_stores
from otpylib_telemetry.bus import table
from otpylib_telemetry.exporter import registry
from otpylib_telemetry.metrics.exporting import naming_of

if TYPE_CHECKING:
    from otpylib_telemetry.admin.routing import Call
    from otpylib_telemetry.exporter.runner import Runner

#: Items of a queue that are looked at for those of one trace, and metrics that are named.
_LOOKED_AT: Final = 50_000
_MOST_METRICS: Final = 20


async def explain_trace(call: Call) -> Explanation:
    """Answer what each exporter does, or has done, with a trace."""
    trace_id = call.parameters.trace_id
    explained = []
    for process in processes.exporters():
        runner = _runner(process.name)
        exporter = registry.exporter_of(process.name)
        if runner is None or (exporter and not exporter.tells_of_traces(exporter.settings)):
            explained.append(Explained(name=process.name, takes=False, answers=["it tells of no traces"]))
            continue
        answers = [*_state(runner), *_waiting(runner, int(trace_id, 16))]
        takes: bool | None = None
        try:
            told = await processes.ask(process, ("explain", trace_id))
        except SilentError as error:
            answers.append(scrubbed(str(error)))
        else:
            takes = told["takes"]
            answers += told["answers"]
        explained.append(Explained(name=process.name, takes=takes, answers=answers))
    return Explanation(subject=trace_id, explained=explained)


async def explain_event(call: Call) -> Explanation:
    """Answer who takes an event of this name, and what each makes of it."""
    name = call.parameters.name
    exporters = {process.name for process in processes.exporters()}
    explained = [_of_exporter(each, name) for each in sorted(exporters)]
    for handler in table.current.table.handlers.values():
        if handler.handler_id in exporters:
            continue
        matched = [pattern for pattern in handler.patterns if fnmatchcase(name, pattern)]
        answers = [f"its pattern {pattern!r} matches" for pattern in matched]
        if handler.suspended:
            answers.append(f"it rests because it kept failing; {handler.missed} events were missed")
        if matched:
            takes = not handler.suspended
            explained.append(Explained(name=handler.handler_id, takes=takes, answers=answers))
    return Explanation(subject=name, explained=explained)


def _of_exporter(exporter: str, name: str) -> Explained:
    runner = _runner(exporter)
    handler = table.current.table.handlers.get(exporter)
    patterns = () if handler is None else handler.patterns
    matched = [pattern for pattern in patterns if fnmatchcase(name, pattern)]
    answers = [] if runner is None else _state(runner)
    if handler is None:
        answers.append("it is not subscribed to anything")
    elif not matched:
        answers.append(f"none of its event_patterns matches: {', '.join(patterns)}")
    else:
        answers += [f"its event pattern {pattern!r} matches" for pattern in matched]
        answers += _metrics(exporter, name)
    return Explained(name=exporter, takes=bool(matched), answers=answers)


def _runner(name: str) -> Runner | None:
    return next((each for each in registry.running() if each.state.name == name), None)


def _state(runner: Runner) -> list[str]:
    """Return what stands in the way of everything, not of one trace or event."""
    stats = runner.chassis_stats()
    answers = []
    if (why := not_ready(stats)) is not None:
        answers.append(f"{why}; what it has waits, up to queue_limit = {stats['queue_limit']}")
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(stats["dropped"].items()))
    if dropped:
        answers.append(f"it has dropped events before: {dropped}")
    if stats["rejected"]:
        answers.append(f"its backend, or it itself, has refused {stats['rejected']} before")
    return [scrubbed(each) for each in answers]


def _waiting(runner: Runner, trace_id: int) -> list[str]:
    lanes = runner.state.lanes.items()
    answers = []
    for lane, items in lanes:
        found = sum(getattr(item, "trace_id", None) == trace_id for item, _ in islice(items, _LOOKED_AT))
        if found:
            answers.append(f"{found} of its {lane or 'items'} wait to be sent")
    return answers


def _metrics(exporter: str, name: str) -> list[str]:
    store, naming = known_stores().get(exporter), naming_of(exporter)
    if store is None or naming is None:
        return []
    begins = {naming.metric(name), naming.metric(name.rpartition(".")[0] or name)}
    found: list[Any] = [each for each in store.metrics if each.name.startswith(tuple(begins))]
    answers = []
    for metric in found[:_MOST_METRICS]:
        told = f"its metric {metric.name} has {len(metric.series)} of {metric.limit} series"
        if metric.ever_folded:
            told += f"; folded: {', '.join(metric.ever_folded)}"
        if metric.overflow is not None:
            told += "; what is beyond goes into otel_metric_overflow"
        answers.append(told)
    return answers
