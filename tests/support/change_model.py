"""A small model of one section's configuration, and random changes held against the real one.

The model knows nothing of layers or resolutions: each key has a pile of wishes, of which the topmost counts.
"""

import random

from pydantic import Field

from otpylib_telemetry.config import transactions
from otpylib_telemetry.config.acts import Cause
from otpylib_telemetry.config.history import History
from otpylib_telemetry.config.live import LiveConfig
from otpylib_telemetry.config.settings import SectionSettings
from otpylib_telemetry.config.toml_source import Written

SECTION = "telemetry.modelled"
PATH = "/etc/shop/config.toml"
FILE = f"file {PATH}"
KEYS = ("a", "b")
BAD = -1


class Settings(SectionSettings):
    a: float = Field(0.0, ge=0, strict=True, description="One.")
    b: float = Field(0.0, ge=0, strict=True, description="Another.")


class Manager:
    """otpylib-config, as far as a section sees it."""

    def __init__(self):
        self.life = 0
        self.read = {}
        self.puts = {}

    def get(self):
        return {**self.read, **self.puts}

    def put(self, key, value):
        """Put a value; returns whether its subscribers hear of it."""
        known = self.puts.get(key, self.read.get(key))
        if known == value:
            if value is not None:
                self.puts[key] = value
            return False
        if value is None:
            self.puts.pop(key, None)
        else:
            self.puts[key] = value
        return True


class Model:
    """What is expected."""

    def __init__(self, argument):
        self.now = 0.0
        self.argument = argument
        self.layer = {}
        self.wishes = {key: [] for key in KEYS}
        self.effective = dict.fromkeys(KEYS, (0, "default"))
        self.history = []
        self.settle("start", None)
        self.history.clear()

    def below(self, key):
        """What counts of a key without any wish, given what counts now."""
        for value, origin in ((self.argument.get(key), "argument"), self.layer.get(key, (None, None))):
            if value is not None:
                return (value, origin) if value >= 0 else self.effective[key]
        return 0, "default"

    def counts(self, key):
        pile = self.wishes[key]
        if pile and pile[-1][0] is not None:
            value, origin = pile[-1][:2]
            return (value, origin) if value >= 0 else self.effective[key]
        return self.below(key)

    def is_refused(self, key):
        """Tell whether the strongest value of a key is a bad one."""
        pile = self.wishes[key]
        values = [pile[-1][0] if pile else None, self.argument.get(key), self.layer.get(key, (None,))[0]]
        return next((value for value in values if value is not None), 0) < 0

    def settle(self, origin, by, outcome="applied"):
        before, self.effective = self.effective, {key: self.counts(key) for key in KEYS}
        changes = {
            key: (before[key][0], self.effective[key][0])
            for key in KEYS
            if before[key][0] != self.effective[key][0]
        }
        if changes:
            self.history.append([origin, by, changes, outcome])

    def wish(self, changes, origin, by=None, until=None, *, lasting=False):
        """Somebody wants values; what is bad is forgotten unless it stands in a file."""
        words = origin if by is None else f"{origin} by {by}"
        refused = {}
        for key, value in changes.items():
            pile = self.wishes[key]
            if value is not None and value < 0:
                refused[key] = (None, value)
                if not lasting:
                    continue
            if until is None:
                pile[:] = [] if value is None else [(value, words, None)]
            else:
                pile.append((value, words, until, self.effective[key]))
        self.settle(origin, by)
        if refused:
            changes = {key: (self.effective[key][0], value) for key, (_, value) in refused.items()}
            self.history.append([origin, by, changes, "rejected"])

    def advance(self, seconds):
        self.now += seconds
        is_due = False
        for key, pile in self.wishes.items():
            over = None
            while pile and pile[-1][2] is not None and pile[-1][2] <= self.now:
                over = over or pile[-1][3]
                pile.pop()
                is_due = True
            # What lies below and is over by then never counts again.
            pile[:] = [wish for wish in pile if wish[2] is None or wish[2] > self.now]
            if over is not None and self.is_refused(key):
                pile[:] = [(*over, None)]
        if is_due:
            self.settle("revert", None)

    def roll_back(self, then, by):
        """Have what counted at a point of the history count again."""
        for key in KEYS:
            value, pile = then[key]
            if value == self.effective[key][0]:
                continue
            if pile and pile[-1][2] is not None:
                # What was for a while has the time left, or what was before it counts.
                while pile and pile[-1][2] is not None and pile[-1][2] <= self.now:
                    pile = pile[:-1]
                if pile and pile[-1][2] is not None:
                    wish = pile[-1]
                    self.wishes[key] = [*pile[:-1], (wish[0], f"api by {by}", *wish[2:])]
                    continue
                value = pile[-1][0] if pile else None
            if value is None or self.below(key)[0] == value:
                self.wishes[key] = []
            else:
                self.wishes[key] = [(value, f"api by {by}", None)]
        self.settle("rollback", by)


class Run:
    """One sequence: what is done to both, and compared after each step."""

    def __init__(self, seed, monkeypatch):
        self.random = random.Random(seed)
        self.files = {}
        self.manager = Manager()
        self.steps = []
        monkeypatch.setattr("otpylib_telemetry.config.toml_source.written_in", lambda _: dict(self.files))
        argument = self.some_argument()
        self.history = History(wall_clock=lambda: 0.0)
        self.model = Model(argument)
        self.live = LiveConfig(
            Settings, SECTION, argument, {}, history=self.history, monotonic=lambda: self.model.now
        )
        if self.random.random() < 0.7:
            self.files = {"a": Written(3, 3, PATH)}
            self.manager.read = {"a": 3}
        self.begin()
        # Before it began it had no state.
        self.states = {1: self.state()}
        self.note_states()

    def some_argument(self):
        return {key: self.random.randrange(4) for key in KEYS if self.random.random() < 0.3}

    def begin(self):
        self.observe()
        self.model.layer = {key: (value, FILE) for key, value in self.manager.read.items()}
        self.model.settle("start", None)

    def observe(self):
        self.live.observe(self.manager.get(), self.manager.life, frozenset(self.manager.puts))

    def note_states(self):
        for number in range(max(self.states) + 1, self.history.generation + 1):
            self.states[number] = self.state()

    def state(self):
        """What counts now, and what lies below it."""
        model = self.model
        return {key: (value, tuple(model.wishes[key])) for key, (value, _) in model.effective.items()}

    def go(self, length):
        for _ in range(length):
            step = self.random.choice(STEPS)
            before = self.history.generation
            self.steps.append(step.__name__)
            step(self)
            self.compare()
            if self.history.generation > before:
                self.note_states()

    def compare(self):
        answer = self.live.as_dict()
        model = self.model
        assert answer["config"] == {key: value for key, (value, _) in model.effective.items()}, self.steps
        assert answer["origins"] == {key: origin for key, (_, origin) in model.effective.items()}, self.steps
        assert answer["wished"] == {}
        entries = self.history.entries()
        found = [
            [entry.origin, entry.by, {key: tuple(change[:2]) for key, change in entry.changes.items()}]
            for entry in entries
        ]
        assert found == [entry[:3] for entry in model.history[-len(found) :]] if found else True, self.steps
        assert len(found) == min(len(model.history), 200), self.steps
        rejected = [entry.outcome == "rejected" for entry in entries]
        assert rejected == [entry[3] == "rejected" for entry in model.history[-len(found) :]], self.steps

    def value(self):
        # Some are of equal worth and of another type.
        return self.random.choice((None, BAD, 1, 1.0, 2, 3, 3.0, 4))


def edit(run):
    """The file is edited; it is noticed by the watch, by otpylib-config, or by both in either order."""
    changes = {key: run.value() for key in run.random.sample(KEYS, run.random.choice((1, 1, 2)))}
    found = {}
    for key, value in changes.items():
        old = run.files.get(key)
        if value is None:
            if run.files.pop(key, None) is not None:
                found[key] = None
        elif old is None or repr(old.value) != repr(value):
            run.files[key] = Written(value, value, PATH)
            found[key] = value
    how = run.random.choice(("watch", "reload", "both"))
    if how != "reload":
        run.live.files_changed()
    if how != "watch":
        run.manager.read = {key: written.value for key, written in run.files.items()}
        run.observe()
    for key, value in found.items():
        if value is None:
            run.model.layer.pop(key, None)
        else:
            run.model.layer[key] = (value, FILE)
    if found:
        run.model.wish(found, FILE, lasting=True)
    else:
        run.model.settle("start", None)


def reload(run):
    """otpylib-config reads what the watch has told of long ago."""
    run.manager.read = {key: written.value for key, written in run.files.items()}
    run.observe()
    run.model.settle("start", None)


def put(run):
    key, value = run.random.choice(KEYS), run.value()
    was_put = key in run.manager.puts
    heard = run.manager.put(key, value)
    # Where the manager tells nobody of it, a reading may come before, after, or not at all.
    reading = "before" if heard else run.random.choice(("before", "after", "none"))
    if reading == "before":
        run.observe()
    if not heard and value is not None:
        run.live.put_again({key: value})
    if reading == "after":
        run.observe()
    if not heard and value is None:
        return
    if value is not None:
        run.model.layer[key] = (value, "put")
        run.model.wish({key: value}, "put")
        return
    if not was_put or run.model.layer.get(key, (None, None))[1] != "put":
        return
    written = run.files.get(key)
    if written is None:
        run.model.layer.pop(key)
    else:
        run.model.layer[key] = (written.value, FILE)
    pile = run.model.wishes[key]
    if not pile or pile[-1][1] == "put":
        run.model.wish({key: None}, "put")
    else:
        pile[:] = [wish for wish in pile if wish[1] != "put"]
        run.model.settle("start", None)


def message(run):
    key, value = run.random.choice(KEYS), run.value()
    run.live.change({key: value})
    run.model.wish({key: value}, "message")


def api(run):
    changes = {key: run.value() for key in run.random.sample(KEYS, run.random.choice((1, 2)))}
    by = run.random.choice((None, "ada", "bob"))
    seconds = run.random.choice((None, None, 10.0, 25.0))
    done = transactions.apply(run.live, changes, Cause("api", by, seconds)).as_dict(run.live)
    if BAD in changes.values():
        assert done["outcome"] == "rejected", run.steps
        old = {key: run.model.effective[key][0] for key in changes}
        changes = {key: (old[key], value) for key, value in changes.items()}
        run.model.history.append(["api", by, changes, "rejected"])
        return
    assert done["outcome"] == "applied", run.steps
    run.model.wish(changes, "api", by, None if seconds is None else run.model.now + seconds)


def time(run):
    run.model.advance(run.random.choice((5.0, 10.0, 30.0)))
    run.live.revert_due()


def restart(run):
    argument = run.some_argument() if run.random.random() < 0.5 else run.model.argument
    # Time passes while no process is there to notice.
    seconds = run.random.choice((0.0, 0.0, 12.0))
    run.model.advance(seconds)
    run.model.argument = argument
    run.live.restart(argument, {})
    run.observe()
    run.model.settle("start", None)


def manager_crash(run):
    """otpylib-config forgets what was put; nobody wished that."""
    run.manager.life += 1
    run.manager.puts.clear()
    run.manager.read = {key: written.value for key, written in run.files.items()}
    # A process reads the section as soon as another manager is there.
    run.observe()
    run.model.settle("start", None)


def rollback(run):
    kept = [number for number in run.states if number <= run.history.generation]
    number = run.random.choice(kept)
    done = transactions.roll_back(run.live, number, Cause("api", "eve")).as_dict(run.live)
    assert done["outcome"] == "applied", (run.steps, done)
    run.model.roll_back(run.states[number], "eve")


STEPS = [edit, edit, reload, put, put, message, api, api, time, restart, manager_crash, rollback]
