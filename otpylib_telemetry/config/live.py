"""The configuration of one section through time: layers in, settings out, changes remembered."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any, Generic

from otpylib_telemetry.config import acts, resolve, toml_source
from otpylib_telemetry.config.acts import Act, Cause
from otpylib_telemetry.config.history import BEGINNING, HISTORY, Change, Entry, History
from otpylib_telemetry.config.known_secrets import KnownSecrets
from otpylib_telemetry.config.messages import beaten_words, offered, taken_back_words
from otpylib_telemetry.config.observed import PUT, Observed, differ
from otpylib_telemetry.config.requested import acts_for, refusals
from otpylib_telemetry.config.resolution import Problem, Resolution, S, changed_keys, redacted
from otpylib_telemetry.config.section_history import SectionHistory, change_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from otpylib_telemetry.config.layers import Given

#: Keys that are remembered for having been changed in otpylib-config, at most.
MOST_ENTRIES = 1000

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
        self.entered = SectionHistory(section, history)
        self.observed = Observed(section)
        #: Keys to ask otpylib-config for beside the known ones: entries of tables (``headers.x``) that were
        #: changed by themselves, and unknown keys that somebody put.
        self.entries: set[str] = set()
        self._monotonic = monotonic
        self._argument = dict(argument)
        self._environ = environ
        self._directory = _working_directory()
        self._acts: dict[str, Act] = {}
        self._last_entry: Entry | None = None
        self._news: list[tuple[int, str]] = []
        self._reported: set[tuple[object, ...]] = set()
        self._known_secrets = KnownSecrets()
        self.resolution: Resolution[S] = self._resolve(None, self._acts)
        # What this life of the exporter goes by, key by key; None while it has nothing but what is wanted.
        self._in_force: Resolution[S] | None = None
        # The keys that are tried and do not work, there being no others to go on with; and why.
        self._failing = frozenset[str]()
        self.trouble: str | None = None

    @property
    def generation(self) -> int:
        """The number of the last change of this section."""
        return self.entered.generation

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
    def unsettled(self) -> frozenset[str]:
        """The keys that are not in force as they are wanted: they wait, or do not work."""
        return self.waiting | self._failing

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
        return self._known_secrets.scrub(text)

    # --- changes --------------------------------------------------------------------------------------------

    def change(self, changes: Mapping[str, Any], cause: Cause = MESSAGE) -> frozenset[str]:
        """Apply changes made while running, which beat every other layer; return the keys that changed.

        None takes a change back. A key ``table.name`` changes one entry of a table. Where a value cannot even
        be looked at, the exception passes and nothing has changed.
        """
        return self._apply(self.acts_for(changes, cause), cause)

    def acts_for(self, changes: Mapping[str, Any], cause: Cause) -> dict[str, Act]:
        """Return what somebody asks for, key by key; entries of a table are laid over the rest of it."""
        return acts_for(changes, cause, self.resolution, self._monotonic())

    def commit(self, wished: Mapping[str, Act], cause: Cause) -> Entry | None:
        """Apply what was found good by :meth:`trial`; return what was entered, None if nothing changed."""
        return self._last_entry if self._apply(wished, cause) else None

    def trial(self, wished: Mapping[str, Act]) -> Resolution[S]:
        """Return what would come of changes; nothing is changed."""
        return self._resolve(self.resolution, acts.laid_over(self._acts, wished, self._monotonic()))

    def observe(
        self, snapshot: Mapping[str, Any], manager: object = None, puts: Collection[str] | None = None
    ) -> frozenset[str]:
        """Take what otpylib-config says now; what differs from the last time is a change made at runtime.

        ``puts`` are the keys that were put into it. Returns the keys whose value in force changed.
        """
        if not self.observed.is_seen:
            self.observed.begin(snapshot, manager, puts)
            changed = self._apply({}, START)
            self.entered.history.begin(self.section)
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
            if (beaten := acts.over_a_put(self._acts.get(key), given)) is not None:
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
        self.entered.settle(self.unsettled)

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

    # --- how it is done -------------------------------------------------------------------------------------

    def _apply(self, wished: Mapping[str, Act], cause: Cause, *, lasting: bool = False) -> frozenset[str]:
        """Lay acts over what was done before, and enter what came of it.

        What is refused is forgotten, unless it is ``lasting``, as what stands in a file is.
        """
        before, earlier, waiting = self._acts, self.resolution, self.waiting
        laid = acts.laid_over(self._acts, wished, self._monotonic())
        # A value that cannot be looked at ends this here, before anything has changed.
        self.resolution = self._resolve(earlier, laid)
        self._acts = laid
        refused = refusals(self.resolution, wished)
        changed = changed_keys(earlier.settings, self.resolution.settings)
        changes = {key: change_of(key, earlier, self.resolution) for key in sorted(changed)}
        refused = [problem for problem in refused if problem.kind == "rejected"]
        bad = {key for problem in refused for key in problem.keys} & wished.keys()
        if not lasting:
            self._forget_refused(refused, bad, before)
        if changes:
            self._enter(changes, cause, waiting, {key: wished[key] for key in wished.keys() - bad})
            self._tell_of_beaten(changes, cause, earlier, before)
        if bad:
            self.refuse({key: wished[key] for key in sorted(bad)}, cause)
        self.entered.see_what_ends(self._acts)
        return changed

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
        # One of another change, which changed nothing, has no entry; a rollback brings back what ends.
        ends = {
            key: act.until
            for key, act in wished.items()
            if act.until is not None and act.entry is None and (cause.seconds is not None or act.restored)
        }
        seconds = min(ends.values()) - self._monotonic() if ends and cause.seconds is None else cause.seconds
        entry = self._last_entry = self.entered.enter(
            changes,
            cause,
            self._acts,
            waiting=waiting,
            seconds=seconds,
            is_in_force=self._in_force is None,
        )
        if self._in_force is not None:
            self.entered.settle(self.unsettled)
        if ends:
            self.entered.expect_end(entry)
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

    def refuse(self, wished: Mapping[str, Act], cause: Cause) -> Entry:
        """Enter changes that were refused."""
        return self.entered.refuse({key: self._offered(key, act) for key, act in wished.items()}, cause)

    def _offered(self, key: str, act: Act) -> Change:
        is_known = key in self.settings_type.model_fields
        secret = (
            not is_known or key in self.resolution.secrets or (act.given is not None and act.given.secret)
        )
        value = None if act.given is None else offered(act.given.value)
        return Change(getattr(self.settings, key, None), value, secret, secret)

    def _resolve(self, previous: Resolution[S] | None, laid: Mapping[str, Act]) -> Resolution[S]:
        resolution = resolve.resolve(
            self.settings_type,
            self.section,
            environ=self._environ,
            config={**self.observed.left_out(self.settings_type, self._environ), **self.observed.layer},
            argument=self._argument,
            runtime=acts.given(laid),
            previous=previous,
            directory=self._directory,
        )
        self._known_secrets.learn(resolution)
        return resolution


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109  # settings have paths as text
    except OSError:  # it was deleted
        return None


def _identity(problem: Problem) -> tuple[object, ...]:
    return problem.key, problem.kind, problem.token
