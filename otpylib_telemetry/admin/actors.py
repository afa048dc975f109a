"""``GET /actors``: the supervision tree, with mailboxes, restarts and crashes."""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.admin.models.insight import Actor, Actors, Incident
from otpylib_telemetry.admin.plain import shown, shown_event, shown_text
from otpylib_telemetry.bus import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otpylib_telemetry.admin.routing import Call

#: Processes that are told of, and how deep the tree is told.
_MOST: Final = 2_000
_DEEPEST: Final = 20

#: Incidents and names that are remembered.
_MOST_INCIDENTS: Final = 50
_MOST_NAMES: Final = 1_000

_HANDLER: Final = "telemetry.admin.incidents"
_PATTERNS: Final = ("otpylib.process.crashed", "otpylib.supervisor.*")
_CRASHED: Final = "otpylib.process.crashed"
_RESTARTED: Final = "otpylib.supervisor.restarted"

_INSTRUMENTOR: Final = "otpylib_telemetry.instrument.otpylib.instrumentor"


class Incidents:
    """What went wrong with processes since the API is served: seldom anything."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.last: deque[tuple[str, float, dict[str, Any]]] = deque(maxlen=_MOST_INCIDENTS)
        self.crashes: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()

    def begin(self) -> None:
        """Take notice from now on."""
        self.since = time.time()
        table.add(_HANDLER, _PATTERNS, self._take, traces=False)

    def end(self) -> None:
        """Take no more notice."""
        self.since = None
        table.remove(_HANDLER)

    def _take(self, name: str, _measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.last.append((name, time.time(), dict(metadata)))
        for event, counts, key in (
            (_CRASHED, self.crashes, "server"),
            (_RESTARTED, self.restarts, "child"),
        ):
            who = str(metadata.get(key))
            if name == event and (who in counts or len(counts) < _MOST_NAMES):
                counts[who] += 1


incidents: Final = Incidents()


async def get_actors(_call: Call) -> Actors:
    """Answer with the tree."""
    records = sorted(otp.process_records(), key=lambda each: each[0].info.created_at)[:_MOST]
    names = {record.pid: name for record, name in records}
    known = {record.pid: record for record, _ in records}
    children = {
        record.pid: [pid for pid in dict.fromkeys(record.monitors.values()) if pid in known]
        for record, _ in records
        if _is_supervisor(record)
    }
    supervised = {pid for each in children.values() for pid in each}

    def actor(pid: Any, depth: int) -> Actor:
        below = children.get(pid, []) if depth < _DEEPEST else []
        return _actor(known[pid], names[pid], [actor(each, depth + 1) for each in below])

    roots = [actor(record.pid, 0) for record, _ in records if record.pid not in supervised]
    return Actors(
        instrumented=_is_instrumented(),
        since=incidents.since,
        processes=len(otp.process_records()),
        roots=sorted(roots, key=lambda each: (not each.supervisor, -(each.mailbox or 0))),
        incidents=[
            Incident(event=shown_event(name), time=at, details=dict(shown(details)))
            for name, at, details in incidents.last
        ],
    )


def _actor(record: Any, name: Any, children: list[Actor]) -> Actor:
    called = None if name is None else str(getattr(name, "name", name))
    module = _module_of(record)
    return Actor(
        pid=str(record.pid),
        name=None if called is None else shown_text(called),
        module=shown_text(module),
        supervisor=_is_supervisor(record),
        mailbox=None if record.mailbox is None else record.mailbox.queue.qsize(),
        age=max(0.0, time.time() - record.info.created_at),
        crashes=incidents.crashes[called or module],
        restarts=incidents.restarts[called or module],
        children=children,
    )


def _is_supervisor(record: Any) -> bool:
    return "supervis" in str(getattr(record.func, "__qualname__", "")).lower() or "supervis" in str(
        getattr(record.func, "__module__", "")
    )


def _module_of(record: Any) -> str:
    served = next((each for each in record.args if isinstance(each, type)), None)
    found = served or record.func
    return str(getattr(found, "__qualname__", type(found).__name__))[:200]


def _is_instrumented() -> bool:
    module: Any = sys.modules.get(_INSTRUMENTOR)
    return module is not None and bool(module.OtpylibInstrumentor().is_instrumented_by_opentelemetry)
