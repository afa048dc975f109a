"""Packages of npm, installed on first use into a directory for temporary files that later runs find again."""

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support import peers

#: Seconds that npm may take.
INSTALLING = 300


def find(name, *packages):
    """The directory that they are installed in and the program node, or ``peers.missing``."""
    found, complaint = _install(name, packages)
    return found or peers.missing(complaint)


@functools.cache
def _install(name, packages):
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None, f"node and npm are not installed; {name} needs them"
    directory = Path(tempfile.gettempdir()) / f"otpylib-telemetry-{name}-{os.getuid()}"
    if directory.exists():
        return (directory, node), None
    # Made elsewhere and then put into its place in one step: tests may run side by side.
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=directory.parent) as fresh:
        made = Path(fresh, "made")
        made.mkdir()
        (made / "package.json").write_text("{}")
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        try:
            done = subprocess.run(
                command, cwd=made, capture_output=True, encoding="utf-8", timeout=INSTALLING
            )
        except subprocess.TimeoutExpired:
            return None, f"npm did not install {', '.join(packages)} within {INSTALLING} s"
        if done.returncode != 0:
            return None, f"npm cannot install {', '.join(packages)}: {done.stderr.strip()[-500:]}"
        # Whoever was faster has installed the same.
        with contextlib.suppress(OSError):
            made.rename(directory)
    return (directory, node), None
