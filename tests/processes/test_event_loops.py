"""Both exporters work on whatever event loop the application brings."""

import subprocess
import sys

import pytest

from tests.processes.test_process_ends import ROOT
from tests.support import programs
from tests.support.waiting import wait_until

LOOPS = ["asyncio", "debug", "thread", "uvloop", "nest_asyncio", "gevent"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_what_is_emitted_arrives_at_both_exits(loop, protocol, request):
    if (loop, protocol) == ("gevent", "grpc"):
        pytest.skip("gRPC's threads know nothing of gevent, unless gRPC's own gevent support is set up")
    receiver = request.getfixturevalue("grpc_receiver" if protocol == "grpc" else "http_receiver")
    command = ["-m", "tests.support.odd_loop_app", loop, receiver.endpoint, protocol]
    if loop in {"gevent", "nest_asyncio"}:
        # They patch what others would have imported.
        command.insert(0, sys.executable)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    else:
        done = programs.run(command, timeout=120)
    assert done.stdout == "0 odd_counted_total 5\n", done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    wait_until(lambda: [one.name for one in receiver.spans] == ["odd.work"])
