"""Forks while another thread imports a module through the library; the child imports it as well."""

import os
import signal
import sys
import threading

from otpylib_telemetry.primitives import fork

#: Seconds after which a child that hangs is ended by a signal.
PATIENCE = 60

begun, forking = threading.Event(), threading.Event()


def main():
    module = sys.argv[1]
    importer = threading.Thread(target=fork.import_module, args=(module,))
    importer.start()
    begun.wait()
    # What is registered last is called first.
    os.register_at_fork(before=forking.set)
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        os._exit(0 if fork.import_module(module).WHOLE else 1)
    importer.join()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    # The module looks for the events here.
    sys.modules["tests.support.forking_while_importing"] = sys.modules["__main__"]
    main()
