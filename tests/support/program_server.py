"""A program that runs others, each in a fork of itself, which has imported already what they will import.

``python program_server.py DESCRIPTOR MODULE...``; ``programs`` starts it, and asks it on that socket.
"""

import gc
import importlib
import json
import os
import runpy
import socket
import sys
import types
from pathlib import Path


def next_program(requests):
    """Return, in a fork, what is to be run there; the process that forks never returns."""
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 1 << 18, 3)
        if not message:
            raise SystemExit
        if os.fork() == 0:
            requests.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(b"%d" % os.waitstatus_to_exitcode(os.wait()[1]))


def run(program, *arguments):
    """Run a file, or the module that follows -m, as Python does at its start."""
    if program == "-m":
        sys.argv[:] = arguments
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    sys.argv[:] = [program, *arguments]
    sys.path.insert(0, str(Path(program).resolve().parent))
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__dict__.update(__file__=program, __builtins__=__builtins__)
    exec(compile(Path(program).read_bytes(), program, "exec", dont_inherit=True), main.__dict__)  # noqa: S102


if __name__ == "__main__":
    del sys.path[0]  # this directory; in its place comes that of the program
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    asked = next_program(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    # Nothing comes after it: what ends or fails now ends or fails as in an interpreter of its own.
    run(*asked["arguments"])
