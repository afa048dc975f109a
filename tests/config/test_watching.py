"""The files are looked at by the clock of the event loop: an edit counts within a second."""

import pytest

from otpylib_telemetry import TomlSource
from otpylib_telemetry.config import toml_source, watching

#: Seconds within which the pages promise that an edit counts.
PROMISED = 1.0


class Loop:
    """Has the timers of an event loop, and time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, seconds, function, *, context):
        timer = Timer(self.now + seconds, function, context)
        self.timers.append(timer)
        return timer

    def pass_by(self, seconds):
        end = self.now + seconds
        while due := [each for each in self.timers if each.when <= end]:
            timer = min(due, key=lambda each: each.when)
            self.timers.remove(timer)
            self.now = timer.when
            if not timer.is_cancelled:
                timer.context.run(timer.function)
        self.now = end


class Timer:
    def __init__(self, when, function, context):
        self.when, self.function, self.context = when, function, context
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


@pytest.fixture
def source(tmp_path):
    toml_source.forget()
    path = tmp_path / "config.toml"
    path.write_text("[telemetry.x]\nrate = 0.5\n")
    found = TomlSource(path)
    found.in_use = True
    found.refresh()
    yield found
    toml_source.forget()


def test_an_edit_is_noticed_within_a_second(source):
    loop, heard = Loop(), []

    def changed():
        heard.append(loop.now)

    watching.begin(loop, changed)
    loop.pass_by(60)
    assert heard == []
    for number in range(1, 5):
        source.path.write_text(f"[telemetry.x]\nrate = 0.{'1' * number}\n")
        edited = loop.now
        loop.pass_by(PROMISED)
        assert len(heard) == number
        assert heard[-1] - edited <= PROMISED
        loop.pass_by(0.3)
    watching.end(loop, changed)
    source.path.write_text("[telemetry.x]\nrate = 0.75\n")
    loop.pass_by(60)
    assert len(heard) == 4


def test_the_files_are_looked_at_now_and_then_and_not_all_the_time(source, monkeypatch):
    loop, looks = Loop(), []
    monkeypatch.setattr(TomlSource, "refresh", lambda self, *, at_once=False: looks.append(loop.now))
    listeners = [lambda: None, lambda: None]
    for each in listeners:
        watching.begin(loop, each)
    loop.pass_by(10)
    for each in listeners:
        watching.end(loop, each)
    assert 10 <= len(looks) <= 40
