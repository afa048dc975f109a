"""Random changes of a running exporter, with a real file and a real otpylib-config, against the model."""

import json
import random

from otpylib_config import Config
from pydantic import Field

from otpylib_telemetry import Exporter, ExporterSettings, TomlSource, exporter_child_spec, exporter_module
from otpylib_telemetry.config import history
from tests.supervision.test_supervision import tree
from tests.support.change_model import BAD, Manager, Model
from tests.support.chassis import call, cast, crash, runner, up
from tests.support.runtime import in_process
from tests.support.waiting import eventually

NAME, SECTION = "sequence_exporter", "telemetry.sequence"
SEQUENCES, LENGTH = 300, 2


class Settings(ExporterSettings):
    a: int = Field(0, ge=0, strict=True, description="One.")
    b: int = Field(0, ge=0, strict=True, description="Another.")


class Sequences(Exporter[Settings]):
    settings_type = Settings

    async def apply(self, settings, changed):
        self.settings = settings
        return True


class World:
    """The model, and what it is a model of."""

    def __init__(self, path):
        self.random = random.Random(12)
        self.path = path
        self.file = {}
        self.manager = Manager()
        self.model = Model({})
        self.done = []

    @property
    def origin(self):
        return f"file {self.path}"

    @property
    def observed(self):
        return runner(NAME).configuration.observed

    def write(self):
        text = f"[{SECTION}]\nflush_interval = 0.05\n" + "".join(
            f"{key} = {json.dumps(value)}\n" for key, value in self.file.items()
        )
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def value(self):
        return self.random.choice((None, BAD, 1, 2, 3))

    async def edit(self, key, value):
        if value is None or self.file.get(key) == value:
            # A key that is missing is believed to be deleted after a second: too long for this.
            return
        self.file[key] = value
        self.write()
        await eventually(
            lambda: self.observed._files[key].value == value if key in self.observed._files else 0
        )
        self.model.layer[key] = (value, self.origin)
        self.model.wish({key: value}, self.origin, lasting=True)

    async def put(self, key, value):
        was_put = key in self.manager.puts
        heard = self.manager.put(key, value)
        await Config.put(f"{SECTION}.{key}", value)
        if not heard and value is None:
            return
        if value is not None:
            await eventually(lambda: self.observed.snapshot.get(key) == value)
            # What is held already is heard of in a message.
            await call(("get_stats",), NAME)
            self.model.layer[key] = (value, "put")
            self.model.wish({key: value}, "put")
        elif was_put:
            wanted = self.manager.read.get(key)
            await eventually(lambda: self.observed.snapshot.get(key) == wanted)
            self.take_put_back(key)

    def take_put_back(self, key):
        if self.model.layer.get(key, (None, None))[1] != "put":
            return
        if key in self.file:
            self.model.layer[key] = (self.file[key], self.origin)
        else:
            self.model.layer.pop(key)
        pile = self.model.wishes[key]
        if not pile or pile[-1][1] == "put":
            self.model.wish({key: None}, "put")
        else:
            pile[:] = [wish for wish in pile if wish[1] != "put"]
            self.model.settle("start", None)

    async def message(self, key, value):
        await cast(("config_changed", f"{SECTION}.{key}", None, value), NAME)
        # Two that wait together would be one change.
        await call(("get_stats",), NAME)
        self.model.wish({key: value}, "message")

    async def api(self, key, value):
        by = self.random.choice((None, "ada"))
        answer = await call(("apply_config", {key: value}, {"origin": "api", "by": by}), NAME)
        if value is not None and value < 0:
            assert answer["outcome"] == "rejected"
            change = {key: (self.model.effective[key][0], value)}
            self.model.history.append(["api", by, change, "rejected"])
        else:
            assert answer["outcome"] == "applied"
            self.model.wish({key: value}, "api", by)

    async def crash(self, key, value):
        # What is taken in and not applied yet is not lost.
        await cast(("config_changed", f"{SECTION}.{key}", None, value), NAME)
        self.model.wish({key: value}, "message")
        lives = runner(NAME).state.lives
        await crash(NAME)
        await eventually(lambda: runner(NAME) is not None and runner(NAME).state.lives == lives + 1)
        await up(NAME)

    async def step(self):
        steps = [self.edit, self.put, self.put, self.message, self.api]
        chosen = self.crash if self.random.random() < 0.02 else self.random.choice(steps)
        key, value = self.random.choice("ab"), self.value()
        self.done.append((chosen.__name__, key, value))
        await chosen(key, value)

    async def compare(self):
        answer = await call(("get_config",), NAME)
        last = str(self.done[-9:])
        for key in "ab":
            assert (answer["config"][key], answer["origins"][key]) == self.model.effective[key], last
        entries = [entry for entry in history.entries(SECTION) if not entry["changes"].keys() - {"a", "b"}]
        found = [
            [
                entry["origin"],
                entry["by"],
                {key: (change["old"], change["new"]) for key, change in entry["changes"].items()},
                # What another took the place of before the exporter came to it was accepted all the same.
                "applied" if entry["outcome"] == "superseded" else entry["outcome"],
            ]
            for entry in entries
        ]
        expected = self.model.history[-len(found) :] if found else []
        assert (found[-4:], found == expected) == (expected[-4:], True), last


async def test_a_running_exporter_does_what_the_model_says(runtime, config_manager, tmp_path, monkeypatch):
    monkeypatch.setattr("otpylib_telemetry.config.watching.INTERVAL", 0.01)
    monkeypatch.setattr("otpylib_telemetry.services.section.RELOAD_PAUSE", 0.0)
    world = World(tmp_path / "config.toml")
    world.write()
    await config_manager(TomlSource(world.path), reload_interval=600)
    module = exporter_module("SequenceExporter", Sequences, name=NAME, section=SECTION, module=__name__)
    tree_ = tree(exporter_child_spec(module, {"event_patterns": ["nothing.*"]}))
    await in_process(tree_.start_link, None, "application")
    await up(NAME)
    for _ in range(SEQUENCES):
        for _ in range(LENGTH):
            await world.step()
        await world.compare()
