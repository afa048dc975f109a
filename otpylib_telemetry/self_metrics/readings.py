"""How the numbers of a metric about the telemetry itself are found in an answer to ``get_stats``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otpylib_telemetry.self_metrics.model import Reading, Stats


def _at(stats: Stats, path: str) -> Any:
    """Return what is at a path such as ``push.failures``."""
    found: Any = stats
    for key in path.split("."):
        if not isinstance(found, Mapping):
            raise LookupError(path)  # noqa: TRY004  # to whoever asks for a metric there is none, that is all
        found = found[key]
    if found is None:
        raise LookupError(path)
    return found


def one(path: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read one number."""
    return lambda stats: [("", (), _at(stats, path))]


def size(path: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read how many entries there are."""
    return lambda stats: [("", (), len(_at(stats, path)))]


def whether(path: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read whether there is anything to be told: 1 if there is."""

    def read(stats: Stats) -> Iterable[Reading]:
        above, _, key = path.rpartition(".")
        return [("", (), int(bool(_at(stats, above)[key])))]

    return read


def each(path: str, known: Iterable[str] = ()) -> Callable[[Stats], Iterable[Reading]]:
    """Read numbers by reason, those of known reasons in any case."""

    def read(stats: Stats) -> Iterable[Reading]:
        numbers = {**dict.fromkeys(known, 0), **_at(stats, path)}
        return [("", (str(reason),), number) for reason, number in numbers.items()]

    return read


def which(path: str, possible: tuple[str, ...]) -> Callable[[Stats], Iterable[Reading]]:
    """Read a state: 1 for the one that is, 0 for all others."""

    def read(stats: Stats) -> Iterable[Reading]:
        present = _at(stats, path)
        states = possible if present in possible else (*possible, str(present))
        return [("", (state,), int(state == present)) for state in states]

    return read


def listed(path: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read a list of names: 1 for each."""
    return lambda stats: [("", (str(name),), 1) for name in _at(stats, path)]


def pairs(path: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read what is listed by name: 1 for each of each name."""
    return lambda stats: [
        ("", (str(name), str(entry)), 1) for name, entries in _at(stats, path).items() for entry in entries
    ]


def of(**paths: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read a number from each of several places, which is its reason."""
    return lambda stats: [("", (reason,), _at(stats, path)) for reason, path in paths.items()]


def summed(count: str, total: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read how often something was measured, and the sum."""
    return lambda stats: [("_count", (), _at(stats, count)), ("_sum", (), _at(stats, total))]


def added_up(path: str, key: str) -> Callable[[Stats], Iterable[Reading]]:
    """Read one number of each entry of a list, and add them up; an entry may lack it."""
    return lambda stats: [("", (), sum(entry.get(key, 0) for entry in _at(stats, path)))]
