"""``otpylib-telemetry completion SHELL``: what makes a shell complete commands, options and keys."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.command.known import installed
from otpylib_telemetry.command.screen import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.command.screen import Screen

NAME: Final = "completion"
HELP: Final = "write what makes a shell complete commands, options and keys"
DESCRIPTION: Final = (
    "Write a script for a shell. bash: source <(otpylib-telemetry completion bash). zsh: the same with zsh, "
    "after compinit. fish: otpylib-telemetry completion fish | source."
)

_PROGRAM: Final = "otpylib-telemetry"
_FUNCTION: Final = "_otpylib_telemetry"

#: Commands with keys among their arguments, and those with files.
_WITH_KEYS: Final = frozenset({"set", "config"})
_WITH_FILES: Final = frozenset({"check"})
_FILE_OPTIONS: Final = ("--socket", "--output", "--env")
_SHELLS: Final = ("bash", "fish", "zsh")


class Described(NamedTuple):
    """A command: what it is for, its options with what these are for, and further words."""

    help: str
    options: dict[str, str]
    words: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("shell", metavar="SHELL", choices=_SHELLS, help="bash, zsh or fish")


def run(arguments: argparse.Namespace, screen: Screen) -> int:
    """Write it; return the exit status."""
    script = _SCRIPTS[arguments.shell](described(arguments.parser))
    if arguments.json:
        screen.json({"shell": arguments.shell, "script": script})
    else:
        screen.line(script)
    return GOOD


def described(parser: argparse.ArgumentParser) -> dict[str, Described]:
    """Return all commands with their options; ``""`` has those before the command."""
    found = {"": Described("", _options(parser), ())}
    keys = _keys()
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # the same
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
        for name, below in action.choices.items():
            words = keys if name in _WITH_KEYS else _SHELLS if name == NAME else ()
            found[name] = Described(helps.get(name, ""), _options(below), words)
    return found


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {
        option: (action.help or "").split(";")[0].split(" (default")[0]
        for action in parser._actions  # noqa: SLF001  # argparse has no other way
        for option in action.option_strings
        if option.startswith("--")
    }


def _keys() -> tuple[str, ...]:
    """Return the keys of what is installed here."""
    return tuple(
        f"{name}.{key}"
        for name, each in installed().items()
        if each.settings_type is not None
        for key in each.settings_type.model_fields
    )


def _words(found: Described) -> str:
    return " ".join([*found.options, *found.words])


def _bash(found: dict[str, Described]) -> str:
    commands = [name for name in found if name]
    cases = "\n".join(f"    {name or QUOTES}) words={_quoted(_all(found, name))} ;;" for name in found)
    return f"""\
{_FUNCTION}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= words= word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in {"|".join(commands)}) command=$word; break ;; esac
  done
  case $previous in {"|".join(_FILE_OPTIONS)}) COMPREPLY=($(compgen -f -- "$current")); return ;; esac
  case $command in
{cases}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case $command in {"|".join(sorted(_WITH_FILES))}) COMPREPLY+=($(compgen -f -- "$current")) ;; esac
}}
complete -o filenames -F {_FUNCTION} {_PROGRAM}"""


#: An empty word in a case of a shell.
QUOTES: Final = "''"


def _all(found: dict[str, Described], name: str) -> str:
    words = _words(found[name])
    return words if name else f"{words} {' '.join(each for each in found if each)}"


def _zsh(found: dict[str, Described]) -> str:
    commands = "\n".join(
        f"    {_quoted(f'{name}:{_plain(each.help)}')}" for name, each in found.items() if name
    )
    cases = "\n".join(f"    {name or QUOTES}) words=({_words(each)}) ;;" for name, each in found.items())
    names = "|".join(name for name in found if name)
    return f"""\
#compdef {_PROGRAM}
{_FUNCTION}() {{
  local command= each
  local -a commands options
  commands=(
{commands}
  )
  for each in ${{words[2,CURRENT-1]}}; do
    case $each in {names}) command=$each; break ;; esac
  done
  case $words[CURRENT-1] in {"|".join(_FILE_OPTIONS)}) _files; return ;; esac
  case $command in
{cases.replace("words=", "options=")}
  esac
  [[ -z $command ]] && _describe command commands
  [[ $command == ({"|".join(sorted(_WITH_FILES))}) ]] && _files
  compadd -a options
}}
compdef {_FUNCTION} {_PROGRAM}"""


def _fish(found: dict[str, Described]) -> str:
    lines = [f"complete -c {_PROGRAM} -f"]
    for name, each in found.items():
        condition = f"__fish_seen_subcommand_from {name}" if name else "__fish_use_subcommand"
        if name:
            lines.append(
                f"complete -c {_PROGRAM} -n __fish_use_subcommand -a {name} -d {_quoted(_plain(each.help))}"
            )
        for option, text in each.options.items():
            files = " -r -F" if option in _FILE_OPTIONS else ""
            described_as = f"-l {option.removeprefix('--')}{files} -d {_quoted(_plain(text))}"
            lines.append(f"complete -c {_PROGRAM} -n {_quoted(condition)} {described_as}")
        if each.words:
            lines.append(f"complete -c {_PROGRAM} -n {_quoted(condition)} -a {_quoted(' '.join(each.words))}")
        if name in _WITH_FILES:
            lines.append(f"complete -c {_PROGRAM} -n {_quoted(condition)} -F")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("'", "").replace(":", ",")


def _quoted(text: str) -> str:
    return f"'{text}'"


_SCRIPTS: Final[dict[str, Callable[[dict[str, Described]], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
