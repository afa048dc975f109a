"""The command in a real terminal of a size: what it draws, and keys that are pressed."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios

from tests.support.operated import environment
from tests.support.waiting import wait_until

_HOME = b"\x1b[H"
_CODE = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")


#: As a shell starts a program: the terminal is its own, and sends it the interrupt key and changes of size.
_BEGIN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def started_in(terminal, command, directory, variables):
    """Start a program in a terminal, the number of which is given."""
    return subprocess.Popen(
        [sys.executable, "-c", _BEGIN, *command],
        cwd=directory,
        env=variables,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )


class PseudoTerminal:
    """``output`` is all that was written so far."""

    def __init__(self, arguments, directory, *, columns, lines):
        self.output = b""
        self._pictures = 0
        self._ours, self._theirs = pty.openpty()
        self.resize(columns=columns, lines=lines)
        self._modes = termios.tcgetattr(self._theirs)
        command = [sys.executable, "-m", "otpylib_telemetry", *arguments]
        self.process = started_in(self._theirs, command, directory, environment(TERM="xterm"))

    def resize(self, *, columns, lines):
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        os.write(self._ours, keys)

    def _read(self):
        if select.select([self._ours], [], [], 0.01)[0]:
            self.output += os.read(self._ours, 65536)

    def next_picture(self, test=lambda _: True):
        """Wait for a picture that is drawn from now on, as lines without colours."""
        begun = self.output.count(_HOME)

        def found():
            assert self.process.poll() is None, self.output
            self._read()
            whole = self.output.split(_HOME)[begun + 1 : -1]
            shown = [_CODE.sub("", each.decode()).split("\r\r\n") for each in whole]
            return next((lines for lines in shown if test(lines)), None)

        return wait_until(found)

    def end(self):
        """Wait until it has ended; its exit status."""

        def ended():
            self._read()
            return self.process.poll() is not None

        wait_until(ended)
        self._read()
        return self.process.returncode

    @property
    def is_as_before(self):
        """Whether the modes of the terminal are those that it began with."""
        return self._modes == self._left

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._left = termios.tcgetattr(self._theirs)
        os.close(self._theirs)
        os.close(self._ours)
