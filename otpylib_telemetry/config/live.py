"""The configuration of one section through time: layers in, settings out, changes remembered."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Generic

from otpylib_telemetry.config import acts, resolve, toml_source
from otpylib_telemetry.config.acts import Act, Cause
from otpylib_telemetry.config.history import BEGINNING, HISTORY, Change, Entry, History
from otpylib_telemetry.config.interpolation import expand
from otpylib_telemetry.config.layers import Given
from otpylib_telemetry.config.messages import beaten_words, offered, taken_back_words
from otpylib_telemetry.config.observed import PUT, Observed, differ
from otpylib_telemetry.config.redaction import scrubber, secret_texts
from otpylib_telemetry.config.resolution import Problem, Resolution, S, changed_keys, redacted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

#: Keys that are remembered for having been changed in otpylib-config, at most.
MOST_ENTRIES = 1000

#: Secret texts that are remembered, those of the past included: an error may still speak of them.
MOST_SECRETS = 200

#: What a life of the process begins with: argument, environment, and what otpylib-config says first.
START = Cause(BEGINNING)

#: A ``config_changed`` message.
MESSAGE = Cause("message")

#: The end of a change that was made for a while.
REVERT = Cause("revert")


class LiveConfig(Generic[S]):
    """Keeps the layers of one section apart, and the last good settings in force.

    ``history`` is where changes are entered; ``monotonic`` returns seconds on a clock that only goes forward.
    """

    def __init__(  # noqa: PLR0913  # the clock and the history are for tests
        self,
        settings_type: type[S],
        section: str,
        argument: Mapping[str, Any],
        environ: Mapping[str, str],
        *,
        history: History = HISTORY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings_type = settings_type
        self.section = section
        self.history = history
        #: That of the last change of this section: generations are numbers of the whole process.
        self.generation = history.generation
        self.observed = Observed(section)
        #: Keys to ask otpylib-config for beside the known ones: entries of tables (``headers.x``) that were
        #: changed by themselves, and unknown keys that somebody put.
        self.entries: set[str] = set()
        self._monotonic = monotonic
        self._argument = dict(argument)
        self._environ = environ
        self._directory = _working_directory()
        self._acts: dict[str, Act] = {}
        # Changes that are not in force yet, and those that end by themselves.
        self._pending: list[Entry] = []
        self._temporary: list[Entry] = []
        self._last_entry: Entry | None = None
        self._news: list[tuple[int, str]] = []
        self._reported: set[tuple[object, ...]] = set()
        self._secret_texts: dict[str, None] = {}
        self._scrub: Callable[[str], str] | None = None
        self.resolution: Resolution[S] = self._resolve(None, self._acts)
        # What this life of the exporter goes by, key by key; None while it has nothing but what is wanted.
        self._in_force: Resolution[S] | None = None
        # The keys that are tried and do not work, there being no others to go on with; and why.
        self._failing = frozenset[str]()
        self.trouble: str | None = None

    @property
    def settings(self) -> S:
        """The last good settings: those that are wanted."""
        return self.resolution.settings

    @property
    def in_force(self) -> S:
        """The settings that the exporter goes by, while it is being brought in line with those wanted."""
        return (self._in_force or self.resolution).settings

    @property
    def waiting(self) -> frozenset[str]:
        """The keys of which another value is wanted than is in force."""
        return changed_keys(self.resolution.settings, self.in_force)

    @property
    def doubted(self) -> bool:
        """Whether otpylib-config has lost the whole section, which is not believed."""
        return self.observed.doubted

    def restart(self, argument: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Begin another life of the exporter: a new argument, while changes made at runtime stay on top.

        What they wait for is waited for in this life too, save what its argument says anew.
        """
        self.revert_due()
        earlier = self._in_force
        waiting = {key for key in self.waiting if not differ(argument.get(key), self._argument.get(key))}
        self._argument = dict(argument)
        self._environ = environ
        self._in_force = None
        self._apply({}, START)
        if earlier is None:
            return
        wanted = self.resolution.settings
        as_it_was = wanted.model_copy(update={key: getattr(earlier.settings, key) for key in waiting})
        if waiting and next(iter(as_it_was.conflicts()), None) is None:
            self._in_force = earlier
            self.put_in_force(as_it_was, self.resolution, failing=self._failing)

    def key_of(self, path: object) -> str | None:
        """Return the section's key a path names, or None for a path of another section."""
        prefix = f"{self.section}."
        if isinstance(path, str) and path.startswith(prefix) and len(path) > len(prefix):
            return path[len(prefix) :]
        return None

    def note_entry(self, path: object) -> None:
        """Remember a key of otpylib-config that only whoever asks for it by name gets to see."""
        key = self.key_of(path)
        if key is None or key in self.settings_type.model_fields:
            return
        if len(self.entries) < MOST_ENTRIES:
            self.entries.add(key)

    def scrub(self, text: str) -> str:
        """Return a text without what came from secret settings or a ``${...}``, now or earlier."""
        if self._scrub is None:
            self._scrub = scrubber(self._secret_texts)
        return self._scrub(text)

    # --- changes --------------------------------------------------------------------------------------------

    def change(self, changes: Mapping[str, Any], cause: Cause = MESSAGE) -> frozenset[str]:
        """Apply changes made while running, which beat every other layer; return the keys that changed.

        None takes a change back. A key ``table.name`` changes one entry of a table. Where a value cannot even
        be looked at, the exception passes and nothing has changed.
        """
        return self._apply(self.acts_for(changes, cause), cause)

    def acts_for(self, changes: Mapping[str, Any], cause: Cause) -> dict[str, Act]:
        """Return what somebody asks for, key by key; entries of a table are laid over the rest of it."""
        until = None if cause.seconds is None else self._monotonic() + cause.seconds
        wished: dict[str, Any] = {}
        said: dict[str, dict[str, Any]] = {}
        for key, value in changes.items():
            table, dot, entry = key.partition(".")
            if dot and table in self.settings_type.model_fields:
                current = dict(wished.get(table, getattr(self.settings, table)) or {})
                if value is None:
                    current.pop(entry, None)
                else:
                    current[entry] = value
                if table not in changes:
                    said.setdefault(table, {})[entry] = value
                wished[table] = current
            else:
                wished[key] = value
        return {
            key: Act(
                None if value is None else Given(value, cause.words),
                until,
                counted=None if until is None else self._what_counts(key),
                entries_said=said.get(key),
            )
            for key, value in wished.items()
        }

    def _what_counts(self, key: str) -> Given | None:
        """Return what is in force for a key, to count again some time."""
        now = self.resolution
        if key not in now.origins:
            return None
        return Given(getattr(now.settings, key), now.origins[key], secret=key in now.secrets, literal=True)

    def commit(self, wished: Mapping[str, Act], cause: Cause) -> Entry | None:
        """Apply what was found good by :meth:`trial`; return what was entered, None if nothing changed."""
        return self._last_entry if self._apply(wished, cause) else None

    def trial(self, wished: Mapping[str, Act]) -> Resolution[S]:
        """Return what would come of changes; nothing is changed."""
        return self._resolve(self.resolution, self._with(wished))

    def refusals(self, resolution: Resolution[S], wished: Mapping[str, Act]) -> list[Problem]:
        """Return what is wrong with changes in particular."""
        origins = {act.given.origin for act in wished.values() if act.given is not None} | {"default"}
        return [
            problem
            for problem in resolution.problems
            if problem.origin in origins and not wished.keys().isdisjoint(_keys_of(problem, self.section))
        ]

    def observe(
        self, snapshot: Mapping[str, Any], manager: object = None, puts: Collection[str] | None = None
    ) -> frozenset[str]:
        """Take what otpylib-config says now; what differs from the last time is a change made at runtime.

        ``puts`` are the keys that were put into it. Returns the keys whose value in force changed.
        """
        if not self.observed.is_seen:
            self.observed.begin(snapshot, manager, puts)
            changed = self._apply({}, START)
            self.history.begin(self.section)
            return changed
        changed = self.files_changed()
        found = self.observed.differences(snapshot, manager, puts)
        return changed | self._take_over(found)

    def files_changed(self) -> frozenset[str]:
        """Take what was edited in the TOML files; return the keys whose value in force changed."""
        return self._take_over(self.observed.edits())

    def put_again(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Take what was put into otpylib-config, which held it already; return the keys that changed."""
        return self._take_over(self.observed.put_again(values))

    def _take_over(self, found: Mapping[str, Given]) -> frozenset[str]:
        by_origin: dict[str, dict[str, Act]] = {}
        for key, given in found.items():
            if key not in self.settings_type.model_fields:
                continue
            if (beaten := self._over_a_put(key, given)) is not None:
                self._acts[key] = beaten
            else:
                act = Act(None if given.value is None else given)
                by_origin.setdefault(given.origin, {})[key] = act
        if not by_origin:
            return self._apply({}, START)
        changed = frozenset[str]()
        for origin, wished in by_origin.items():
            changed |= self._apply(wished, Cause(origin), lasting=origin != PUT)
        return changed

    def _over_a_put(self, key: str, given: Given) -> Act | None:
        """Return what counts in place of a put that was taken back, because it had been beaten before."""
        act = self._acts.get(key)
        if given.origin != PUT or given.value is not None or act is None:
            return None
        is_put = act.given is not None and act.given.origin == PUT
        return None if is_put else acts.without(act, PUT)

    def revert_due(self) -> frozenset[str]:
        """Take back the changes whose time is up; return the keys that changed."""
        now = self._monotonic()
        due = {key: act for key, act in self._acts.items() if act.until is not None and act.until <= now}
        if not due:
            return frozenset()
        ended = [act.entry for act in due.values() if act.entry is not None]
        for entry in ended:
            entry.reverted, entry.outcome = True, "reverted"
        left = {key: acts.still(act, now) or Act(None) for key, act in due.items()}
        for problem in self.trial(left).problems:
            for key in left.keys() & set(problem.keys):
                left[key] = Act(due[key].counted)
        changed = self._apply(left, REVERT, lasting=True)
        self._news += [
            (logging.INFO, taken_back_words(self.section, key, self.resolution, entry))
            for entry in dict.fromkeys(ended)
            for key in sorted(changed & entry.changes.keys())
        ]
        return changed

    def left_of(self, act: Act) -> Act | None:
        """Return what counts by now of an act: itself, or what was before it."""
        return acts.still(act, self._monotonic())

    def next_revert(self) -> float | None:
        """Return in how many seconds a change has to be taken back; None if there is none."""
        ends = [act.until for act in self._acts.values() if act.until is not None]
        return max(0.0, min(ends) - self._monotonic()) if ends else None

    def new_problems(self) -> list[Problem]:
        """Return the problems nobody was told of yet; one that went away and comes back is told again."""
        fresh = [problem for problem in self.resolution.problems if _identity(problem) not in self._reported]
        self._reported = {_identity(problem) for problem in self.resolution.problems}
        return fresh

    def news(self) -> list[tuple[int, str]]:
        """Return what else is to be logged, once: whose wish a change beat, and which one ended."""
        news, self._news = self._news, []
        return news

    # --- what is in force -----------------------------------------------------------------------------------

    def put_in_force(
        self, settings: S, wanted: Resolution[S], *, failing: frozenset[str] = frozenset()
    ) -> None:
        """Hear what the exporter goes by: of each key what is ``wanted``, or what it had before.

        What is ``failing`` is what it tries to go by: it has nothing else, and changes of it wait.
        """
        self._failing = failing
        before = self._in_force or wanted
        kept = changed_keys(wanted.settings, settings)
        origins = {**wanted.origins, **{key: before.origins[key] for key in kept}}
        secrets = (wanted.secrets - kept) | (before.secrets & kept)
        self._in_force = Resolution(settings, origins, secrets)
        self._settle()

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration in force, where each value came from, and what is wrong; no secrets.

        Of the keys for which another value is wanted, that is under ``wished``.
        """
        wanted, found = self.resolution, self._in_force or self.resolution
        wished = redacted(wanted)
        return {
            "section": self.section,
            "generation": self.generation,
            "config": redacted(found),
            "wished": {key: wished[key] for key in sorted(self.waiting)},
            "origins": dict(found.origins),
            "problems": [problem.message for problem in wanted.problems],
            "files": {str(source.path): source.trouble for source in toml_source.known_sources()},
        }

    def _settle(self) -> None:
        """Enter which changes are in force by now."""
        waiting = self.waiting | self._failing
        for entry in self._pending:
            if entry.outcome in {"pending", "applied"}:
                entry.outcome = "applied" if waiting.isdisjoint(entry.changes) else "pending"
        self._pending = [entry for entry in self._pending if entry.outcome == "pending"]

    # --- how it is done -------------------------------------------------------------------------------------

    def _apply(self, wished: Mapping[str, Act], cause: Cause, *, lasting: bool = False) -> frozenset[str]:
        """Lay acts over what was done before, and enter what came of it.

        What is refused is forgotten, unless it is ``lasting``, as what stands in a file is.
        """
        before, earlier, waiting = self._acts, self.resolution, self.waiting
        laid = self._with(wished)
        # A value that cannot be looked at ends this here, before anything has changed.
        self.resolution = self._resolve(earlier, laid)
        self._acts = laid
        refused = self.refusals(self.resolution, wished)
        changed = changed_keys(earlier.settings, self.resolution.settings)
        changes = {key: self._change_of(key, earlier) for key in sorted(changed)}
        refused = [problem for problem in refused if problem.kind == "rejected"]
        bad = {key for problem in refused for key in problem.keys} & wished.keys()
        if not lasting:
            self._forget_refused(refused, bad, before)
        if changes:
            self._enter(changes, cause, waiting, {key: wished[key] for key in wished.keys() - bad})
            self._tell_of_beaten(changes, cause, earlier, before)
        if bad:
            offers = {key: self._refused_change(key, wished[key]) for key in sorted(bad)}
            self.history.add(self.section, cause.origin, offers, by=cause.by, outcome="rejected")
        self._see_what_ends()
        return changed

    def _with(self, wished: Mapping[str, Act]) -> dict[str, Act]:
        """Return all acts with these on top."""
        laid, now = dict(self._acts), self._monotonic()
        for key, act in wished.items():
            if act.is_for_good:
                laid.pop(key, None)
            else:
                # What comes back lies where it lay.
                is_placed = act.restored or act.entry is not None
                laid[key] = act if is_placed else act.over(self._acts.get(key), now)
        return laid

    def _forget_refused(self, refused: Iterable[Problem], bad: set[str], before: Mapping[str, Act]) -> None:
        """Undo refused changes, which must not come into force by themselves some time later."""
        for problem in refused:
            # Whoever asks for it again is told again.
            self._reported.discard(_identity(problem))
        # What was to protect something goes on being asked for: it must not be open after all.
        kept = {key for problem in refused if problem.withholds for key in problem.keys}
        for key in bad - kept:
            if key in before:
                self._acts[key] = before[key]
            else:
                self._acts.pop(key, None)

    def _enter(
        self,
        changes: Mapping[str, Change],
        cause: Cause,
        waiting: frozenset[str],
        wished: Mapping[str, Act],
    ) -> None:
        for other in self._pending:
            if not waiting.isdisjoint(other.changes.keys() & changes.keys()):
                other.outcome = "superseded"
        # One of another change, which changed nothing, has no entry; a rollback brings back what ends.
        ends = {
            key: act.until
            for key, act in wished.items()
            if act.until is not None and act.entry is None and (cause.seconds is not None or act.restored)
        }
        seconds = min(ends.values()) - self._monotonic() if ends and cause.seconds is None else cause.seconds
        entry = self.history.add(
            self.section,
            cause.origin,
            changes,
            by=cause.by,
            outcome="applied" if self._in_force is None else "pending",
            reverts_in=seconds,
        )
        entry.for_a_while = {key: acts.bare(act) for key, act in self._acts.items() if act.until is not None}
        self.generation, self._last_entry = entry.generation, entry
        # Whether one that comes before anything was in force works is known when something is.
        self._pending = [*self._pending, entry][-MOST_ENTRIES:]
        if self._in_force is not None:
            self._settle()
        if ends:
            self._temporary.append(entry)
            self._acts |= {key: self._acts[key].entered(entry, until) for key, until in ends.items()}

    def _tell_of_beaten(
        self, changed: Iterable[str], cause: Cause, earlier: Resolution[S], before: Mapping[str, Act]
    ) -> None:
        if cause is START or cause is REVERT:
            return
        for key in changed:
            if (text := beaten_words(self.section, key, earlier, self.resolution, cause.words)) is not None:
                # Who changed it while running may not know that somebody else does.
                self._news.append((logging.WARNING if key in before else logging.INFO, text))

    def _see_what_ends(self) -> None:
        """Enter which changes do not end by themselves any more: something else was wished meanwhile."""
        if not self._temporary:
            return
        still = {id(entry) for act in self._acts.values() for entry in act.entries()}
        for entry in self._temporary:
            if id(entry) not in still and not entry.reverted:
                entry.reverts_at = None
        self._temporary = [entry for entry in self._temporary if id(entry) in still]

    def _change_of(self, key: str, earlier: Resolution[S]) -> Change:
        old, new = getattr(earlier.settings, key), getattr(self.settings, key)
        return Change(old, new, key in earlier.secrets, key in self.resolution.secrets)

    def _refused_change(self, key: str, act: Act) -> Change:
        current = getattr(self.settings, key, None)
        secret = key in self.resolution.secrets or (act.given is not None and act.given.secret)
        return Change(current, None if act.given is None else offered(act.given.value), secret, secret)

    def _left_out(self) -> dict[str, Any]:
        """Return what was to protect something, is in a TOML file and cannot be read, as it is written there.

        Whoever reads the file leaves out what names a variable that is not set.
        """
        return {
            key: value
            for key, value in self.observed.written.items()
            if self.settings_type.meant_protection(key) is not None
            and expand(value, self._environ).problem is not None
        }

    def _resolve(self, previous: Resolution[S] | None, laid: Mapping[str, Act]) -> Resolution[S]:
        resolution = resolve.resolve(
            self.settings_type,
            self.section,
            environ=self._environ,
            config={**self._left_out(), **self.observed.layer},
            argument=self._argument,
            runtime=acts.given(laid),
            previous=previous,
            directory=self._directory,
        )
        for key in resolution.secrets:
            for text in secret_texts(getattr(resolution.settings, key, None)):
                # The latest ones last: those in force are never among the ones forgotten.
                self._secret_texts.pop(text, None)
                self._secret_texts[text] = None
        self._forget_oldest_secrets()
        return resolution

    def _forget_oldest_secrets(self) -> None:
        for text in list(self._secret_texts)[:-MOST_SECRETS]:
            del self._secret_texts[text]
        self._scrub = None


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # settings have paths as text
    except OSError:  # it was deleted
        return None


def _identity(problem: Problem) -> tuple[object, ...]:
    return problem.key, problem.kind, problem.token


def _keys_of(problem: Problem, section: str) -> set[str]:
    """Return the keys of a section that a problem is about, that of a table where it is about an entry."""
    if problem.keys:
        return set(problem.keys)
    return {problem.key.removeprefix(f"{section}.").split(".")[0].split(",")[0]}
