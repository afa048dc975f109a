"""Which server a process is: its registered name or its module, never its number."""

from __future__ import annotations

import functools
import time
from collections import deque
from contextvars import ContextVar
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otpylib.atom import Atom
from otpylib.runtime import get_runtime

from otpylib_telemetry.exporter.base import Exporter
from otpylib_telemetry.instrument.otpylib.rules import CALL, CAST, INFO, in_force
from otpylib_telemetry.instrument.otpylib.tags import tag_of
from otpylib_telemetry.otp import current_process, process_record, served_class
from otpylib_telemetry.primitives.any_value import text
from otpylib_telemetry.primitives.exceptions import short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The packages whose processes are not seen: telemetry does not tell of itself, nor of what configures it.
_OURS: Final = frozenset(
    {
        "otpylib_telemetry",
        "otpylib_telemetry_otel",
        "otpylib_telemetry_prometheus",
        "otpylib_telemetry_mock",
        "otpylib_config",
    }
)

#: How many kinds of messages one server remembers what to make of.
_MAX_HANDLED: Final = 1_000


#: The functions of otpylib that serve a mailbox, and ours.
_LOOPS: Final = frozenset({"_gen_server_loop", "_gen_statem_loop", "_serve"})

#: And those that run a class at all.
_CLASS_LOOPS: Final = _LOOPS | {"_supervisor_loop", "_module_supervisor_loop", "_task_loop"}

#: What makes a call from outside of any process: a process of otpylib's own, which is not told of.
_BRIDGE: Final = "_call_from_outside_process.bridge_process"

#: Stands where nobody has given a reason for a process to end.
NOT_ASKED: Final[Any] = object()

#: How much of a name is told.
_MAX_NAME: Final = 200


class Handled(NamedTuple):
    """What is made of one kind of message at one server.

    Attributes:
        seen: Whether it is recorded.
        metadata: That of its events, shared by all of them.
        relation: How it is related to what its sender was doing.
    """

    seen: bool
    metadata: dict[str, Any]
    relation: str


#: What has been made of messages so far where none has come: most processes of many are no servers.
_NOTHING_HANDLED: Final[dict[str, dict[str, Handled]]] = {CALL: {}, CAST: {}, INFO: {}}


class Identity:
    """One process, as telemetry knows it.

    Attributes:
        pid: Its number.
        server: Its registered name, or else its module.
        module: The module it runs: a server's class, or else a function.
        ours: Whether it is one of our own, or one that otpylib makes for itself.
        serves: Whether otpylib's loop of a server reads its mailbox.
        named: Whether it is registered under a name.
        began_ns: When it began, on the monotonic clock, in nanoseconds.
        asked: The reason with which it was asked to end; :data:`NOT_ASKED` where it was not.
        asked_ns: When that was.
        failed: What was wrong with its initialisation: an exception, or a text; None as long as nothing is.
        ended: Whether it was told that it has ended.
        recent: What it has handled last; None where that is not remembered.
        keeps_payloads: Whether what was in the messages is remembered, too.
    """

    __slots__ = (
        "_called",
        "_generation",
        "_handled",
        "_sees",
        "asked",
        "asked_ns",
        "began_ns",
        "ended",
        "failed",
        "keeps_payloads",
        "module",
        "named",
        "ours",
        "pid",
        "recent",
        "server",
        "serves",
    )

    def __init__(self, pid: Any, name: Any, module: str, *, ours: bool, serves: bool) -> None:
        self.pid = pid
        self.began_ns = time.monotonic_ns()
        self.asked: Any = NOT_ASKED
        self.asked_ns = 0
        self.failed: Any = None
        self.ended = False
        self.recent: deque[Any] | None = None
        self.keeps_payloads = False
        self.module = module
        self.ours = ours
        self.serves = serves
        self.server = module
        self._called: dict[str, dict[str, Any] | None] = {}
        self._handled = _NOTHING_HANDLED
        self._generation = -1
        self._sees = False
        self.rename(name)

    def rename(self, name: Any) -> None:
        """Take notice of the name it is registered under; None for no name."""
        self.named = name is not None
        self.server = self.module if name is None else readable_name(name)
        self._generation = -1

    def _go_by_rules(self) -> None:
        """Take notice that the rules, or its name, may have changed."""
        if self._generation != in_force.generation:
            self._handled = _NOTHING_HANDLED
            self._called.clear()
            self._generation = in_force.generation
            rules = in_force.rules
            self._sees = not self.ours and rules.sees_server(self.server, self.module)
            self._remember(rules.recorder)
            self.keeps_payloads = rules.payloads

    def _remember(self, size: int) -> None:
        """Have it remember so many messages: a named server, unless too many others do."""
        if size <= 0 or not self._sees or not self.named or not self.serves or self.ended:
            self.forget_recent()
        elif self.recent is not None or (len(_recording) + 1) * size <= MAX_REMEMBERED:
            _recording.add(self.pid)
            self.recent = deque(self.recent or (), size)

    def forget_recent(self) -> None:
        """Forget what it has handled."""
        self.recent = None
        _recording.discard(self.pid)

    def handled(self, kind: str, payload: Any) -> Handled:
        """Return what is made of a message of a kind."""
        if self._generation != in_force.generation:
            self._go_by_rules()
        word = payload[0] if type(payload) is tuple and payload else payload
        # What is looked up is text or nothing: anything else may not even be hashable.
        found = self._handled[kind].get(word) if type(word) is str else None
        return self._looked_up(kind, payload, word) if found is None else found

    def _looked_up(self, kind: str, payload: Any, word: Any) -> Handled:
        tag = tag_of(payload)
        if self._handled is _NOTHING_HANDLED:
            self._handled = {CALL: {}, CAST: {}, INFO: {}}
        known = self._handled[kind]
        found = known.get(tag)
        if found is None:
            rules = in_force.rules
            metadata = {"server": self.server, "module": self.module, "message": tag, "kind": kind}
            found = Handled(self._sees and rules.sees_message(tag), metadata, rules.relation(kind))
        if len(known) >= _MAX_HANDLED:
            known.clear()
        known[word if word is tag else tag] = found
        return found

    def called(self, tag: str) -> dict[str, Any] | None:
        """Return the metadata of a call to it; None for one that is not recorded."""
        self._go_by_rules()
        if tag not in self._called:
            if len(self._called) >= _MAX_HANDLED:
                self._called.clear()
            seen = self._sees and in_force.rules.sees_message(tag)
            self._called[tag] = self.told({"message": tag}) if seen else None
        return self._called[tag]

    @property
    def seen(self) -> bool:
        """Whether anything of it is recorded."""
        if self._generation != in_force.generation:
            self._go_by_rules()
        return self._sees

    def told(self, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the metadata of an event about it."""
        return {"server": self.server, "module": self.module, **(more or {})}


#: How many messages all servers remember together, at most: else memory would grow with the processes.
MAX_REMEMBERED: Final = 20_000

_recording: set[Any] = set()

_own: ContextVar[Identity | None] = ContextVar("otpylib_telemetry_identity", default=None)

#: All that are known, by number, until they end.
known: Final[dict[Any, Identity]] = {}


def own(module_class: Any = None) -> Identity | None:
    """Return the identity of the running process; None outside of any."""
    pid = current_process()
    found = _own.get()
    # A process begins with what its maker had.
    if found is not None and found.pid is pid:
        return found
    if pid is None:
        return None
    found = of(pid, module_class)
    if found is not None:
        _own.set(found)
    return found


def of(pid: Any, module_class: Any = None) -> Identity | None:
    """Return the identity of a process of the present runtime; None if there is no such process."""
    found = known.get(pid)
    if found is not None and found.pid is pid:
        return found
    record = process_record(pid)
    if record is None:
        return None
    # A name may have been given to it since it was spawned.
    runtime = get_runtime()
    name = record.name or (None if runtime is None else runtime.whereis_name(pid))
    return met(record, name, module_class)


def met(record: Any, name: Any, module_class: Any = None) -> Identity:
    """Return the identity of a process by what otpylib knows of it, and the name it is registered under."""
    found = known.get(record.pid)
    if found is not None and found.pid is record.pid:
        return found
    module, ours = module_of(record, module_class)
    serves = _runs_a_class(record.func) and record.func.__name__ in _LOOPS
    made = Identity(record.pid, name, module, ours=ours, serves=serves)
    made.began_ns -= max(0, int((time.time() - record.info.created_at) * 1e9))
    # Numbers are looked up on other threads, too. One that another runtime has given out counts no more.
    if found is not None:
        known[record.pid] = made
        return made
    return known.setdefault(record.pid, made)


def forget(record: Any) -> None:
    """Forget a process."""
    found = known.get(record.pid)
    if found is not None and found.pid is record.pid:
        del known[record.pid]


def forget_the_dead() -> None:
    """Forget the processes whose ends nobody has seen."""
    for pid, found in list(known.items()):
        record = process_record(pid)
        if record is None or record.pid is not found.pid:
            known.pop(pid, None)
            found.forget_recent()


def runs_ours(pid: Any) -> bool:
    """Tell whether a process of the present runtime is one of our own."""
    record = process_record(pid)
    return record is not None and module_of(record)[1]


def readable_name(name: Any) -> str:
    """Return a registered name as text: names are strings or atoms, each in a namespace of its own."""
    if type(name) is Atom:
        return str(name.name)[:_MAX_NAME]
    return text(name, _MAX_NAME)


def module_of(record: Any, module_class: Any = None) -> tuple[str, bool]:
    """Return the module a process runs, and whether it is ours."""
    function = record.func
    while type(function) is functools.partial:
        function = function.func
    if module_class is None and record.args and _runs_a_class(function):
        module_class = record.args[0]
    module_class = served_class(module_class)
    if isinstance(module_class, type):
        return short_name(module_class), is_ours(module_class)
    try:
        name, module = function.__qualname__, function.__module__
    except Exception:  # noqa: BLE001  # an object that can be called, whose own code may do anything
        name = module = None
    if type(name) is not str:
        return short_name(type(function)), False
    name = name.replace(".<locals>", "")
    is_bridge = name == _BRIDGE and str(module).startswith("otpylib.")
    return name, is_bridge or _is_ours(module)


def _runs_a_class(function: Any) -> bool:
    """Tell whether it is one of otpylib's loops, or ours, which have a class as their first argument."""
    if type(function) is not FunctionType or function.__name__ not in _CLASS_LOOPS:
        return False
    return function.__module__.split(".", 1)[0] in {"otpylib", "otpylib_telemetry"}


def is_ours(module_class: Any) -> bool:
    """Tell whether processes of a class are ours; an exporter of somebody else is so, too."""
    if not isinstance(module_class, type):
        return False
    named = vars(module_class)
    kept = named.get("exporter_type")
    return _is_ours(named.get("__module__")) or (isinstance(kept, type) and issubclass(kept, Exporter))


def _is_ours(module: Any) -> bool:
    return type(module) is str and module.split(".", 1)[0] in _OURS
