"""Whatever is scrubbed, nothing is raised and nothing is shown that could not be looked at."""

from collections import Counter
from collections.abc import Mapping

import pytest

from otpylib_telemetry.scrubbing.events import scrubbed_value
from otpylib_telemetry.scrubbing.plan import ScrubPlan
from otpylib_telemetry.scrubbing.scrubber import Scrubber
from tests.support.secrets import BARE, KEYS, MARK, texts


class Raising:
    """Raises at whatever it is asked."""

    def _raise(self, *_):
        raise RuntimeError(MARK)

    __eq__ = __hash__ = __str__ = __repr__ = __bool__ = __len__ = __iter__ = __float__ = __int__ = _raise


class RaisingText(str):
    """Text that raises."""

    __slots__ = ()

    def __eq__(self, _):
        raise RuntimeError(MARK)

    def __hash__(self):
        raise RuntimeError(MARK)

    __len__ = __str__ = __repr__ = __hash__


class RaisingTable(Mapping):
    """A table that cannot be read."""

    def __getitem__(self, key):
        raise RuntimeError(MARK)

    def __iter__(self):
        raise RuntimeError(MARK)

    def __len__(self):
        return 1


class Telling:
    """Says a secret only as text."""

    def __str__(self):
        return f"Bearer {MARK}.abc123"

    __repr__ = __str__


def cyclic():
    found = [f"password={MARK}"]
    found.append(found)
    return found


def deep():
    found = {"password": MARK}
    for _ in range(3_000):
        found = {"a": found}
    return found


ODD = {
    "raising": Raising(),
    "text": RaisingText(f"password={MARK}"),
    "table": RaisingTable(),
    "telling": Telling(),
    "telling more": [Telling(), {"a": (Telling(),)}],
    "cyclic": cyclic(),
    "deep": deep(),
    "kind": type(MARK, (), {}),
    "surrogate": "\ud800 password=" + MARK,
    "huge": 10**5_000,
    "bytes": bytearray(f"password={MARK}", "ascii"),
    "set": {f"token={MARK}", 5},
    "long": f"password={MARK} " * 20_000,
}


@pytest.mark.parametrize("name", ODD)
def test_nothing_is_raised_and_no_secret_is_left(name):
    scrubber = Scrubber(ScrubPlan(), Counter())
    for found in (
        scrubbed_value({"odd": ODD[name], "fine": 1}),
        scrubbed_value({ODD[name] if name in {"telling", "surrogate"} else "odd": 1, "fine": 1}),
        scrubbed_value(ODD[name]),
        scrubber.attributes({"odd": ODD[name], "fine": 1}),
        scrubber.attributes(ODD[name] if isinstance(ODD[name], Mapping) else {}),
        scrubber.value(ODD[name]),
        scrubber.labels((("odd", ODD[name]), ("fine", "1"))),
    ):
        assert f"={MARK}" not in _shown(found)
        assert f"Bearer {MARK}" not in _shown(found)


def _shown(value):
    try:
        return repr(value)
    except (RuntimeError, ValueError):
        return ""


def test_what_cannot_be_read_is_masked_as_a_whole_and_counted():
    scrubber = Scrubber(ScrubPlan(), Counter())

    def fail(*_, **__):
        raise RuntimeError(MARK)

    scrubber._table = fail
    assert scrubber.attributes({"password": "x", "n": 1}) == {"password": "<redacted>", "n": "<redacted>"}
    scrubber._value = fail
    assert scrubber.text("anything") == "<redacted>"
    assert scrubber.labels((("a", "password=x"),)) == (("a", "<redacted>"),)
    assert scrubber.counts["unreadable"] == 4


def test_a_keyboard_interrupt_passes():
    scrubber = Scrubber(ScrubPlan(), Counter())

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    scrubber._table = scrubber._value = scrubber._labels = interrupt
    for call in (
        lambda: scrubber.attributes({"password": "x"}),
        lambda: scrubber.value("x"),
        lambda: scrubber.labels(()),
    ):
        with pytest.raises(KeyboardInterrupt):
            call()


def test_an_event_is_shown_without_its_secrets():
    metadata = dict.fromkeys(KEYS, MARK)
    metadata |= {f"text{number}": text for number, text in enumerate([*texts(), *BARE])}
    found = scrubbed_value({**metadata, "order": 7, "user": {"name": "joe", "token": MARK}})
    assert MARK not in repr(found)
    assert not any(bare in repr(found) for bare in BARE)
    assert (found["order"], found["user"]) == (7, {"name": "joe", "token": "<redacted>"})
