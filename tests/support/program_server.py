"""A program that begins others, each in a fork of itself, which has imported already what they will import.

``python program_server.py DESCRIPTOR MODULE...``; ``programs`` starts it, and asks it on that socket.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import socket
import sys
import types
import warnings
from pathlib import Path


def next_program(requests):
    """Return, in a fork, what is to be run there; the process that forks never returns.

    It answers each request with the process id, and writes to its last descriptor how the program ended.
    """
    running = {}
    while True:
        ready, _, _ = select.select([requests, *running], [], [])
        for ended in running.keys() & set(ready):
            pid, outcome = running.pop(ended)
            os.write(outcome, b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os.close(ended)
            os.close(outcome)
        if requests not in ready:
            continue
        message, descriptors, *_ = socket.recv_fds(requests, 1 << 18, 4)
        if not message:
            raise SystemExit
        if (pid := os.fork()) == 0:
            requests.close()
            for ended, (_, outcome) in running.items():
                os.close(ended)
                os.close(outcome)
            for number, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, number)
            for descriptor in descriptors:
                os.close(descriptor)
            return json.loads(message)
        *files, outcome = descriptors
        for descriptor in files:
            os.close(descriptor)
        running[os.pidfd_open(pid)] = pid, outcome
        requests.send(b"%d" % pid)


def run(program, *arguments):
    """Run a file, the module that follows -m, or the text that follows -c, as Python does at its start."""
    if program == "-m":
        sys.argv[:] = arguments
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        return
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=__builtins__)
    if program == "-c":
        text, *arguments = arguments
        sys.path.insert(0, "")
        name = "<string>"
    else:
        text = Path(program).read_bytes()
        sys.path.insert(0, str(Path(program).resolve().parent))
        main.__file__ = name = program
    sys.argv[:] = [program, *arguments]
    exec(compile(text, name, "exec", dont_inherit=True), main.__dict__)  # noqa: S102


if __name__ == "__main__":
    del sys.path[0]  # this directory; in its place comes that of the program
    for module in sys.argv[2:]:
        with contextlib.suppress(ImportError):  # not installed: a program does without it as well
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    asked = next_program(socket.socket(fileno=int(sys.argv[1])))
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.warnoptions.extend(asked["warnings"])
    warnings._processoptions(asked["warnings"])  # what -W does
    # Nothing comes after it: what ends or fails now ends or fails as in an interpreter of its own.
    run(*asked["arguments"])
