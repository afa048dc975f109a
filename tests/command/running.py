"""The real command, as a process of its own."""

import json
import os
from pathlib import Path

from tests.support import programs

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments, cwd, env=None):
    """Run the command in a directory; variables of the surroundings that it would read are not there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TELEMETRY_"))}
    for name in ("NO_COLOR", "PROMETHEUS_MULTIPROC_DIR"):
        kept.pop(name, None)
    return programs.run(
        ["-m", "otpylib_telemetry", *arguments],
        options=("-W", "error"),
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **(env or {})},
        timeout=200,
    )


def check(text, *arguments, cwd, env=None):
    """Check a file with this text; give the exit status and what the command says as JSON."""
    (cwd / "config.toml").write_text(text, encoding="utf-8")
    done = command("check", "config.toml", "--json", *arguments, cwd=cwd, env=env)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def lines(said):
    """What was found, as (level, line, message)."""
    return [(each["level"], each["line"], each["message"]) for each in said["findings"]]
