"""What only one process on the machine can do at a time, such as serving on a well-known port."""

import contextlib
import fcntl
import tempfile
from pathlib import Path


@contextlib.contextmanager
def alone(name):
    """Wait until no other process does ``name``, in this run of the tests or another's."""
    path = Path(tempfile.gettempdir()) / f"otpylib-telemetry-{name}.lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
