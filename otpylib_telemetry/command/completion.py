"""``otpylib-telemetry completion SHELL``: what makes a shell complete commands, options and keys."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, NamedTuple

from otpylib_telemetry.command.screen import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otpylib_telemetry.command.known import Known
    from otpylib_telemetry.command.screen import Screen

NAME: Final = "completion"
HELP: Final = "write what makes a shell complete commands, options and keys"
DESCRIPTION: Final = (
    "Write a script for a shell. bash: source <(otpylib-telemetry completion bash). zsh: the same with zsh, "
    "after compinit. fish: otpylib-telemetry completion fish | source."
)

_PROGRAM: Final = "otpylib-telemetry"
_FUNCTION: Final = "_otpylib_telemetry"

#: What the words of a command may be, besides its options.
_WITH_KEYS: Final = frozenset({"set", "config"})
_WITH_SECTIONS: Final = frozenset({"config", "history"})
_WITH_EXPORTERS: Final = frozenset({"flush", "reset"})
_WITH_FILES: Final = frozenset({"check"})
_FILE_OPTIONS: Final = ("--socket", "--output", "--env")
_SHELLS: Final = ("bash", "fish", "zsh")
#: What the suite itself emits; the names of the application's own events are known to it alone.
_PATTERNS: Final = ("otpylib.*", "telemetry.*")


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
    from otpylib_telemetry.command.known import installed  # noqa: PLC0415  # it imports the exporters

    known = installed()
    found = {"": Described("", _options(parser), ())}
    for action in parser._actions:  # noqa: SLF001  # argparse has no other way
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # the same
            continue
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001
        for name, below in action.choices.items():
            found[name] = Described(helps.get(name, ""), _options(below), _words(name, known))
    return found


def _options(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {
        option: (action.help or "").split(";")[0].split(" (default")[0]
        for action in parser._actions  # noqa: SLF001  # argparse has no other way
        for option in action.option_strings
        if option.startswith("--")
    }


def _words(command: str, known: Mapping[str, Known]) -> tuple[str, ...]:
    """Return the words of a command: sections and keys of what is installed here, for instance."""
    found: list[str] = []
    if command in _WITH_SECTIONS:
        found += known
    if command in _WITH_EXPORTERS:
        found += [name for name, each in known.items() if each.exporter is not None]
    if command in _WITH_KEYS:
        found += [
            f"{name}.{key}"
            for name, each in known.items()
            if each.settings_type is not None
            for key in each.settings_type.model_fields
        ]
    if command == "tap":
        found += _PATTERNS
    if command == NAME:
        found += _SHELLS
    return tuple(found)


def _bash(found: dict[str, Described]) -> str:
    commands = [name for name in found if name]
    all_words = {
        name: [*each.options, *each.words, *(() if name else commands)] for name, each in found.items()
    }
    cases = "\n".join(f"    {name or _NONE}) words={_quoted(' '.join(all_words[name]))} ;;" for name in found)
    return f"""\
{_FUNCTION}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= words= word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in {"|".join(commands)}) command=$word; break ;; esac
  done
  local files=
  case $command in
{cases}
  esac
  case $command in {"|".join(sorted(_WITH_FILES))}) files=yes ;; esac
  case $previous in {"|".join(_FILE_OPTIONS)}) files=yes words= ;; esac
  COMPREPLY=()
  # Line by line: a pattern stands for itself, and names of files may have blanks.
  while IFS= read -r word; do COMPREPLY+=("$word"); done < <(
    compgen -W "$words" -- "$current"
    [[ -n $files ]] && compgen -f -- "$current"
  )
}}
complete -o filenames -F {_FUNCTION} {_PROGRAM}"""


#: An empty word in a case of a shell.
_NONE: Final = "''"


def _zsh(found: dict[str, Described]) -> str:
    def described(words: dict[str, str]) -> str:
        return " ".join(_quoted(f"{word}:{text.replace(':', _COLON)}") for word, text in words.items())

    commands = {name: each.help for name, each in found.items() if name}
    cases = "\n".join(
        f"    {name or _NONE}) options=({described(each.options)}); more=({_listed(each.words)}) ;;"
        for name, each in found.items()
    )
    return f"""\
#compdef {_PROGRAM}
{_FUNCTION}() {{
  local command= each
  local -a commands options more
  commands=({described(commands)})
  for each in ${{words[2,CURRENT-1]}}; do
    case $each in {"|".join(commands)}) command=$each; break ;; esac
  done
  case $words[CURRENT-1] in {"|".join(_FILE_OPTIONS)}) _files; return ;; esac
  case $command in
{cases}
  esac
  [[ -z $command ]] && _describe command commands
  [[ $command == ({"|".join(sorted(_WITH_FILES))}) ]] && _files
  compadd -a more
  _describe -o option options
}}
compdef {_FUNCTION} {_PROGRAM}"""


#: How _describe of zsh tells a colon from the end of a word.
_COLON: Final = "\\:"


def _fish(found: dict[str, Described]) -> str:
    begin = f"complete -c {_PROGRAM}"
    no_command = f"not __fish_seen_subcommand_from {' '.join(name for name in found if name)}"
    lines = [f"{begin} -f"]
    for name, each in found.items():
        when = f"{begin} -n {_quoted(f'__fish_seen_subcommand_from {name}' if name else no_command)}"
        if name:
            lines.append(f"{begin} -n {_quoted(no_command)} -a {name} -d {_quoted_in_fish(each.help)}")
        for option, text in each.options.items():
            files = " -r -F" if option in _FILE_OPTIONS else ""
            lines.append(f"{when} -l {option.removeprefix('--')}{files} -d {_quoted_in_fish(text)}")
        if each.words:
            # Within the argument a shell reads words once more: a pattern is quoted there.
            words = " ".join(f'"{word}"' for word in each.words)
            lines.append(f"{when} -a {_quoted_in_fish(words)}")
        if name in _WITH_FILES:
            lines.append(f"{when} -F")
    return "\n".join(lines)


def _listed(words: Iterable[str]) -> str:
    return " ".join(map(_quoted, words))


def _quoted(text: str) -> str:
    """Return a text as one word of bash and zsh."""
    return "'{}'".format(text.replace("'", "'\\''"))


def _quoted_in_fish(text: str) -> str:
    return "'{}'".format(text.replace("\\", "\\\\").replace("'", "\\'"))


_SCRIPTS: Final[dict[str, Callable[[dict[str, Described]], str]]] = {
    "bash": _bash,
    "fish": _fish,
    "zsh": _zsh,
}
