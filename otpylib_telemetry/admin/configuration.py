"""Configuration from outside: what is in force, changes, dry runs, history, rollback, reload.

A change may be of several sections. It is tried with each of them first, and made with none if any of them
refuses it.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal

from otpylib_telemetry.admin import processes, resting
from otpylib_telemetry.admin.models.base import Fault
from otpylib_telemetry.admin.models.changes import (
    MOST_KEYS,
    Change,
    Changed,
    Configuration,
    History,
    HistoryEntry,
    Probed,
    Reloaded,
    Section,
    Value,
)
from otpylib_telemetry.admin.plain import plain, scrubbed
from otpylib_telemetry.admin.problems import ProblemError, of_faults
from otpylib_telemetry.admin.processes import Process, SilentError
from otpylib_telemetry.admin.routing import Answer
from otpylib_telemetry.config.interpolation import has_placeholder

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from otpylib_telemetry.admin.routing import Call

#: Seconds that trying or making a change may take: destinations are probed.
_CHANGING: Final = 30.0


async def get_config(_call: Call) -> Configuration:
    """Answer with the configuration of everything that runs."""
    sections, files = {}, {}
    for process, answer in await processes.ask_all(processes.everything(), ("get_config",)):
        if isinstance(answer, SilentError):
            sections[process.short] = Section(
                name=process.name, section=process.section, generation=0, keys={}, problems=[str(answer)]
            )
            continue
        files.update(answer.get("files", {}))
        sections[process.short] = _section(process, answer)
    return Configuration(sections=sections, files=files)


def _section(process: Process, found: Mapping[str, Any]) -> Section:
    wished, origins = found.get("wished", {}), found.get("origins", {})
    return Section(
        name=process.name,
        section=process.section,
        generation=found["generation"],
        keys={
            key: Value(
                value=plain(value),
                origin=str(origins.get(key, "default")),
                wished=plain(wished[key]) if key in wished else None,
                pending=key in wished,
            )
            for key, value in found["config"].items()
        },
        problems=[str(each) for each in found.get("problems", ())],
    )


async def patch_config(call: Call) -> Answer:
    """Change keys of any sections, all of them or none; or say what that would do."""
    wanted = _by_process(call.body.root)
    about = {"origin": "api", "by": call.by, "for": call.parameters.seconds}
    if len(wanted) == 1 and not call.parameters.dry_run and not any(map(resting.rests, wanted)):
        # All or nothing by itself; what is refused is in the history then.
        [(process, changes)] = wanted.items()
        found = await _asked(process, ("apply_config", changes, about), _CHANGING)
        return _answer(_of_changes([(process, found)]))
    tried = [(process, await _tried(process, changes)) for process, changes in wanted.items()]
    refused = [text for _, found in tried if not found["valid"] for text in found["problems"]]
    if call.parameters.dry_run:
        return _answer(_of_dry_run(tried, refused))
    if refused:
        raise _refusal(refused)
    for process in wanted:
        if resting.rests(process):
            await resting.start(process)
    return _answer(_of_changes(await _made(wanted, about)))


async def _tried(process: Process, changes: Mapping[str, Any]) -> dict[str, Any]:
    if resting.rests(process):
        return await resting.attempt(process, changes)
    return await _asked(process, ("try_config", changes), _CHANGING)


async def _made(
    wanted: Mapping[Process, Mapping[str, Any]], about: Mapping[str, Any]
) -> list[tuple[Process, dict[str, Any]]]:
    """Make changes of several sections; where one fails after all, those before it are taken back."""
    done: list[tuple[Process, dict[str, Any]]] = []
    for process, changes in wanted.items():
        try:
            found = await processes.ask(process, ("apply_config", changes, about), _CHANGING)
            failed = None if found["outcome"] != "rejected" else "; ".join(map(str, found["problems"]))
        except SilentError as error:
            # It may still do it: its time was over, and the message is in its mailbox.
            found, failed = {}, scrubbed(str(error))
        if failed is None:
            done.append((process, found))
            continue
        kept = await _taken_back(done, about["by"])
        what_became = f"{kept} stay changed" if kept else "the others are taken back"
        raise ProblemError(
            HTTPStatus.CONFLICT,
            failed,
            where=f"body: {process.short}",
            expected=f"what the message says; {what_became}",
        )
    return done


async def _taken_back(done: Sequence[tuple[Process, Mapping[str, Any]]], by: str | None) -> str:
    """Take these changes back, and nobody else's; return the sections that stay changed."""
    kept = []
    for process, found in done:
        if not found.get("changes"):
            # It was so already: the generation is that of another change.
            continue
        try:
            back = await processes.ask(process, ("take_back", found["generation"], by), _CHANGING)
            if back["outcome"] == "rejected":
                kept.append(process.short)
        except SilentError:
            kept.append(process.short)
    return ", ".join(kept)


def _by_process(changes: Mapping[str, Any]) -> dict[Process, dict[str, Any]]:
    """Sort keys such as ``otel.sampling_rate`` by whose they are."""
    if not 0 < len(changes) <= MOST_KEYS:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{len(changes)} keys are to be changed",
            where="body",
            expected=f"1 to {MOST_KEYS} keys",
        )
    known = {process.short: process for process in (*resting.services(), *processes.everything())}
    found: dict[Process, dict[str, Any]] = {}
    faults = []
    for path, value in changes.items():
        section, dot, key = path.removeprefix("telemetry.").partition(".")
        if section in known and dot and key and has_placeholder(value):
            # What the environment has is for those who may read it, and metrics may show what is set.
            what = "a placeholder stands for a variable of the environment, which the API does not read"
            faults.append(Fault(where=f"body: {path[:200]}", what=what, expected="the value; $${ for ${"))
        elif section in known and dot and key:
            found.setdefault(known[section], {})[key] = value
        else:
            expected = f"a key of {', '.join(sorted(known))}: otel.sampling_rate, for instance"
            faults.append(Fault(where=f"body: {path[:200]}", what="nobody reads this", expected=expected))
    if faults:
        raise of_faults(faults)
    return found


async def _asked(process: Process, message: tuple[Any, ...], seconds: float) -> dict[str, Any]:
    try:
        found: dict[str, Any] = await processes.ask(process, message, seconds)
    except SilentError as error:
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, scrubbed(str(error)), expected="an answer; what came before stays"
        ) from None
    return found


def _refusal(problems: Sequence[str]) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        problems[0],
        where="body",
        expected="what the message says; nothing was changed",
        faults=[Fault(where="body", what=text) for text in problems],
    )


def _of_dry_run(tried: Sequence[tuple[Process, Mapping[str, Any]]], refused: list[str]) -> Changed:
    return Changed(
        outcome="would_reject" if refused else "would_apply",
        changes=_changes(tried),
        problems=refused,
        effects=[f"{process.short}: {text}" for process, found in tried for text in found.get("effects", ())],
        probes={
            process.short: Probed(ok=found["probe"]["ok"], reason=found["probe"].get("reason"))
            for process, found in tried
            if found.get("probe") is not None
        },
    )


def _of_changes(done: Sequence[tuple[Process, Mapping[str, Any]]]) -> Changed:
    outcomes = {str(found["outcome"]) for _, found in done}
    ends = [found["reverts_at"] for _, found in done if found.get("reverts_at") is not None]
    outcome = _worst(outcomes)
    # Why one is not in force yet is not why another was refused.
    telling = [each for each in done if outcome != "rejected" or each[1]["outcome"] == outcome]
    generations = [found["generation"] for _, found in done if found.get("generation") is not None]
    return Changed(
        outcome=outcome,
        generation=max(generations, default=None),
        changes=_changes(done),
        problems=[
            # A refusal names its key, and so the section.
            str(text) if outcome == "rejected" else f"{process.short}: {text}"
            for process, found in telling
            for text in found.get("problems", ())
        ],
        overrode={
            f"{process.short}.{key}": str(origin)
            for process, found in done
            for key, origin in found.get("overrode", {}).items()
        },
        reverts_at=min(ends, default=None),
    )


_Outcome = Literal["rejected", "pending", "superseded", "applied"]


def _worst(outcomes: Collection[str]) -> _Outcome:
    bad: tuple[_Outcome, ...] = ("rejected", "pending", "superseded")
    return next((outcome for outcome in bad if outcome in outcomes), "applied")


def _changes(found: Sequence[tuple[Process, Mapping[str, Any]]]) -> dict[str, Change]:
    return {
        f"{process.short}.{key}": change
        for process, answer in found
        for key, change in _plain(answer.get("changes", {})).items()
    }


def _plain(changes: Mapping[str, Any]) -> dict[str, Change]:
    return {key: Change(old=plain(each["old"]), new=plain(each["new"])) for key, each in changes.items()}


def _answer(changed: Changed) -> Answer:
    if changed.outcome == "rejected":
        raise _refusal(changed.problems or ["it was refused"])
    waits = changed.outcome in {"pending", "superseded"}
    status = HTTPStatus.ACCEPTED if waits else HTTPStatus.OK
    return Answer(status, changed.model_dump_json().encode())


async def get_history(call: Call) -> History:
    """Answer with the changes that are kept."""
    found: dict[tuple[Any, ...], HistoryEntry] = {}
    for _, answer in await processes.ask_all(processes.everything(), ("get_history",)):
        for entry in () if isinstance(answer, SilentError) else answer:
            # Each process may tell of those of all.
            found[entry["generation"], entry["section"], entry["time"]] = HistoryEntry(
                **{**entry, "changes": _plain(entry["changes"])}
            )
    wanted = call.parameters.section
    kept = [
        entry
        for _, entry in sorted(found.items(), key=lambda item: item[0])
        if wanted is None or entry.section.removeprefix("telemetry.") == wanted.removeprefix("telemetry.")
    ]
    return History(entries=kept[-call.parameters.limit :])


async def roll_back(call: Call) -> Answer:
    """Go back to the state of everything after a generation."""
    message = ("rollback", call.parameters.generation, call.by)
    done, silent = [], {}
    for process in processes.everything():
        try:
            done.append((process, await processes.ask(process, message, _CHANGING)))
        except SilentError as error:
            silent[process.name] = scrubbed(str(error))
    changed = _of_changes(done)
    # What all of them say is said once: they share one count of generations.
    same = {text.removeprefix(f"{name}: ") for name, text in silent.items()}
    problems = [*changed.problems, *(same if len(same) == 1 and not done else silent.values())]
    went = [process.short for process, found in done if found["outcome"] != "rejected"]
    if went and changed.outcome == "rejected":
        raise ProblemError(
            HTTPStatus.CONFLICT,
            changed.problems[0],
            where="path: generation",
            expected=f"what the message says; back are {', '.join(went)}",
            faults=[Fault(where="path: generation", what=text) for text in problems],
        )
    if not done or changed.outcome == "rejected":
        raise ProblemError(
            HTTPStatus.NOT_FOUND,
            problems[0] if problems else "there is nothing with a configuration",
            where="path: generation",
            expected="the number of a generation that GET /history tells of",
            faults=[Fault(where="path: generation", what=text) for text in problems],
        )
    return _answer(changed.model_copy(update={"problems": problems}))


async def reload(_call: Call) -> Reloaded:
    """Read the configuration files again, now."""
    changed: list[str] = []
    errors: dict[str, str] = {}
    for process, answer in await processes.ask_all(processes.everything(), ("reload",), _CHANGING):
        if isinstance(answer, SilentError):
            errors[process.name] = scrubbed(str(answer))
        else:
            changed += [f"{process.short}.{key}" for key in answer["changed"]]
            errors |= {str(name): scrubbed(str(why)) for name, why in answer.get("errors", {}).items()}
    return Reloaded(changed=sorted(changed), errors=errors)
