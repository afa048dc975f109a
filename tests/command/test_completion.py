"""Completion in each shell, as somebody types at its prompt: what the shell then gives the command."""

import os
import pty
import re
import select

import pytest

from otpylib_telemetry.command.main import COMMANDS
from tests.support import peers
from tests.support.operated import environment, said
from tests.support.terminal import started_in
from tests.support.waiting import wait_until

#: How each is started without files of the user's, and what makes it complete.
SHELLS = {
    "bash": (["--norc", "--noprofile", "-i"], "source ./script"),
    "fish": (["--no-config", "--private"], "source ./script"),
    "zsh": (["-f", "-i"], "autoload -Uz compinit; compinit -D -u; source ./script"),
}
#: What is typed before Tab is pressed, and the word that it becomes.
TYPED = {
    "ro": "rollback",
    "--ver": "--version",
    "set otel.sampling_ra": "otel.sampling_rate",
    "--json set --dr": "--dry-run",
    "config prometheus.max_ser": "prometheus.max_series",
    "history otpylib_": "otpylib_logger",
    "flush datad": "datadog",
    "reset prom": "prometheus",
    "flush --ti": "--timeout",
    "tap otpy": "otpylib.*",
    "check conf": "config.toml",
    "bundle --output hel": "help.tar.gz",
    "--socket adm": "admin.sock",
    "--socket admin.sock sta": "status",
    "completion fi": "fish",
}

HOME, END, TAB, DELETE = b"\x01", b"\x05", b"\t", b"\x15"


class Shell:
    """A shell in a terminal of its own."""

    def __init__(self, name, directory):
        arguments, self._begin = SHELLS[name]
        self._ours, theirs = pty.openpty()
        program = peers.find_program(name, f"the Debian package {name}")
        variables = {**environment(TERM="xterm", HOME=str(directory)), "PS1": "$ "}
        self._process = started_in(theirs, [program, *arguments], directory, variables)
        os.close(theirs)
        self.output = ""

    def begin(self):
        self._type(self._begin.encode() + b"; echo REA''DY\n")
        self._until("READY")

    def completed(self, text):
        """The words of a line after Tab, as the shell would give them to the command."""
        begun = len(self.output)
        self._type(DELETE + f"otpylib-telemetry {text}".encode() + TAB)
        # The line becomes one that tells its own words; a second line tells that it is over.
        self._type(HOME + b"printf '<%s>\\n' " + END + b"; echo O''VER\n")
        self._until("OVER", begun)
        return re.findall(r"<([^<>%]*)>\r?$", self.output[begun:], re.MULTILINE)

    def _type(self, keys):
        os.write(self._ours, keys)

    def _until(self, word, begun=0):
        def is_there():
            if select.select([self._ours], [], [], 0.05)[0]:
                self.output += os.read(self._ours, 65536).decode("utf-8", "replace")
            return word in self.output[begun:]

        wait_until(is_there, message=lambda: self.output[begun:])

    def close(self):
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.mark.process
@pytest.mark.peer
@pytest.mark.parametrize("name", SHELLS)
def test_a_word_is_completed_at_the_prompt(name, tmp_path):
    for file in ("config.toml", "help.tar.gz", "admin.sock", "otpylib.here"):
        (tmp_path / file).touch()
    (tmp_path / "script").write_text(said("completion", name).out)
    shell = Shell(name, tmp_path)
    try:
        shell.begin()
        found = {text: shell.completed(text) for text in TYPED}
    finally:
        shell.close()
    expected = {text: ["otpylib-telemetry", *text.split()[:-1], word] for text, word in TYPED.items()}
    assert found == expected, shell.output[-3000:]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_knows_every_command(shell):
    script = said("completion", shell).out
    assert all(each.NAME in script for each in COMMANDS)
    assert said("completion", shell, "--json").json == {"shell": shell, "script": script.removesuffix("\n")}


def test_a_shell_that_nobody_knows():
    assert said("completion", "tcsh").status == 2
