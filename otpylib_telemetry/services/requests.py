"""What may be asked of a process about its configuration: changes, dry runs, history, rollback, reload.

The same for exporters and services. What changes anything is done at once, in the order of the mailbox; the
answer waits until it is known whether the change is in force.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry import otp
from otpylib_telemetry.config import history, sections, toml_source, transactions
from otpylib_telemetry.config.acts import Cause
from otpylib_telemetry.primitives.errors import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otpylib_telemetry.config.live import LiveConfig
    from otpylib_telemetry.services.section_server import SectionServer

#: Seconds that a change for a while may last, at most.
LONGEST: Final = 30 * 86_400.0

#: Characters of what names somebody.
_LONGEST_NAME: Final = 100


#: Tries something, and returns what it was, in words, or raises what is wrong.
Trial = Callable[[], Awaitable["Sequence[str] | None"]]


def answer(message: Any, host: SectionServer) -> Awaitable[Any] | None:
    """Do what a message asks for, and return what becomes the answer; None if it asks for nothing of this."""
    ask = next((ask for tag, size, ask in _ASKED if otp.is_request(message, tag, size)), None)
    if ask is None:
        return None
    try:
        return ask(host, *message[1:])
    except KeyboardInterrupt:
        raise
    except (_WrongRequestError, history.NotKeptError) as error:
        return _now(("error", str(error)))
    except BaseException as error:  # noqa: BLE001  # values that cannot even be looked at, exit included
        return _now(("error", host.configuration.scrub(f"looking at it failed ({describe(error)})")))


class _WrongRequestError(ValueError):
    """What is wrong with a message, for whoever sent it."""


async def _now(value: Any) -> Any:
    return value


def _reload(host: SectionServer) -> Awaitable[dict[str, Any]]:
    changed = host.followed.reload()
    host.configure()

    async def reloaded() -> dict[str, Any]:
        await host.at_rest()
        found: dict[str, Any] = {"changed": sorted(changed)}
        if errors := _errors(host.configuration):
            found["errors"] = errors
        return found

    return reloaded()


def _errors(configuration: LiveConfig[Any]) -> dict[str, str]:
    """Return what in the files does not count, and why: by file if it cannot be read, else by key."""
    found = {}
    stays, never = "what was read from it last stays in force", "nothing was read from it yet"
    for source in toml_source.known_sources():
        path = str(source.path)
        if source.in_use and source.trouble is not None:
            found[path] = f"{path} {source.trouble}; {stays if source.version else never}"
        elif source.in_use:
            found |= {
                key: f"{key} in {path} is left out: {why}"
                for key, why in source.left_out
                if configuration.key_of(key) is not None
            }
    wrong = [each for each in configuration.resolution.problems if each.origin.startswith("file ")]
    # Beside sections that nobody reads this tells of variables, which are in no file.
    wrong += [each for each in sections.problems() if each.key.startswith("telemetry")]
    return found | {each.key: each.message for each in wrong}


def _apply(host: SectionServer, changes: object, about: object) -> Awaitable[dict[str, Any]]:
    return _done(host, transactions.apply(host.configuration, _changes(changes), _cause(about)))


def _roll_back(host: SectionServer, generation: object, by: object) -> Awaitable[dict[str, Any]]:
    cause = Cause("api", _name(by))
    return _done(host, transactions.roll_back(host.configuration, _number(generation), cause))


def _take_back(host: SectionServer, generation: object, by: object) -> Awaitable[dict[str, Any]]:
    cause = Cause("api", _name(by))
    return _done(host, transactions.take_back(host.configuration, _number(generation), cause))


def _number(generation: object) -> int:
    if not isinstance(generation, int) or isinstance(generation, bool):
        raise _WrongRequestError("rollback takes the number of a generation")
    return generation


def _done(host: SectionServer, done: transactions.Done) -> Awaitable[dict[str, Any]]:
    host.configure()

    async def settled() -> dict[str, Any]:
        await host.at_rest()
        return done.as_dict(host.configuration)

    return settled()


def _try(host: SectionServer, changes: object) -> Awaitable[dict[str, Any]]:
    tried = transactions.attempt(host.configuration, _changes(changes))
    return _tell(host, tried)


async def _tell(host: SectionServer, tried: transactions.Tried) -> dict[str, Any]:
    configuration = host.configuration
    # What is wanted and not in force is nothing that it has.
    before, after = configuration.in_force, tried.resolution.settings
    found: dict[str, Any] = {
        "valid": not tried.problems,
        "problems": [configuration.scrub(text) for text in tried.problems],
        "changes": tried.changes,
        "effects": [],
        "probe": None,
    }
    changed = tried.waiting.union(tried.changes)
    if tried.problems or not changed:
        return found
    if tried.waiting:
        reason = f": {configuration.scrub(configuration.trouble)}" if configuration.trouble else ""
        found["effects"] = [
            f"wished already, and not in force yet ({', '.join(sorted(tried.waiting))}){reason}"
        ]
    found["effects"] += host.effects(before, after, changed)
    found["probe"] = await _tried(host.probes(before, after, changed), configuration)
    return found


async def _tried(trials: Sequence[Trial], configuration: LiveConfig[Any]) -> dict[str, Any] | None:
    """Return what came of trying something; None if there was nothing to try."""
    told, is_good = list[str](), True
    for trial in trials:
        try:
            told += [f"{what}: ok" for what in await trial() or ()]
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            is_good = False
            told.append(configuration.scrub(str(error) or describe(error)))
    return {"ok": is_good, "reason": "; ".join(told)} if told else None


def _changes(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(type(key) is str for key in value):
        raise _WrongRequestError("changes are a table of keys of the section and their new values")
    return dict(value)


def _cause(about: object) -> Cause:
    """Return who asks for a change, and for how long."""
    if about is None:
        return Cause("api")
    if not isinstance(about, Mapping):
        raise _WrongRequestError("about a change there is a table with origin, by and for")
    origin = _name(about.get("origin")) or "api"
    return Cause(origin, _name(about.get("by")), _seconds(about.get("for")))


def _name(value: object) -> str | None:
    """Return a name as one short line, whatever was sent in its place."""
    if not isinstance(value, str):
        return None
    text = "".join(letter if letter.isprintable() else "?" for letter in str.__str__(value))
    return text.strip()[:_LONGEST_NAME] or None


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 < value <= LONGEST:  # type: ignore[arg-type,operator]  # a number
        raise _WrongRequestError(
            f"a change for a while is for a number of seconds above 0, up to {LONGEST:g}"
        )
    return float(value)  # type: ignore[arg-type]  # a number


def _tell_history(host: SectionServer) -> Awaitable[list[dict[str, Any]]]:
    del host
    return _now(history.entries())


#: The messages: tag, size, and what is done, given the process and the rest of the message.
_ASKED: Final[tuple[tuple[str, int, Callable[..., Awaitable[Any]]], ...]] = (
    ("get_history", 1, _tell_history),
    ("reload", 1, _reload),
    ("try_config", 2, _try),
    ("apply_config", 3, _apply),
    ("rollback", 3, _roll_back),
    # One change alone, which the admin API could not make whole.
    ("take_back", 3, _take_back),
)
