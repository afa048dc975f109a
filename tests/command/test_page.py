"""The page about checking a configuration: what it shows is what the command says."""

import socket
from itertools import pairwise

import pytest

from otpylib_telemetry_mock.otlp_receiver import GrpcReceiver
from tests.command.running import ROOT, command
from tests.project.test_docs import blocks_of

BLOCKS = blocks_of(ROOT / "docs" / "how-to" / "operate" / "check-configuration.md")
COMMANDS = [
    (block.text.split()[1:], after.text)
    for block, after in pairwise(BLOCKS)
    if block.language == "sh" and (after.language, after.title) == ("text", "")
]


@pytest.mark.process
@pytest.mark.parametrize(("arguments", "output"), COMMANDS, ids=lambda part: part[1] if part[1:] else None)
def test_the_output_is_what_the_page_shows(arguments, output, tmp_path):
    with GrpcReceiver() as receiver, socket.create_server(("127.0.0.1", 0)) as taken:
        # The ports of the page are well-known ones, which somebody else may have.
        shown = [("http://localhost:4317", receiver.endpoint), ("9464", str(taken.getsockname()[1]))]
        for block in BLOCKS:
            if block.title:
                (tmp_path / block.title).write_text(_with(block.text, shown), encoding="utf-8")
        done = command(*arguments, cwd=tmp_path)
    assert (done.stderr, done.stdout) == ("", _with(output, shown))
    assert done.returncode == int("error:" in output or "failed:" in output)


def _with(text, replacements):
    for old, new in replacements:
        text = text.replace(old, new)
    return text
