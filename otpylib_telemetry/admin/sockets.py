"""Sockets to listen on: addresses, and a path that belongs to this user alone."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otpylib_telemetry.admin.settings import is_loopback
from otpylib_telemetry.primitives import listening
from otpylib_telemetry.primitives.fork import after_fork_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

_BACKLOG: Final = 32

#: The longest path that every system takes for a Unix socket: of 104 bytes, of which one is the end.
_LONGEST_PATH: Final = 103

#: Seconds that a live process may take to accept a connection.
_ACCEPTING: Final = 1.0

#: Seconds that others may take to put a socket into the same directory, and between two looks.
_TAKING: Final = 5.0
_LOOK: Final = 0.01


#: What this process listens on.
_listening: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class UnavailableError(Exception):
    """There is nothing to listen on; the message says what, why, and what can be done."""


def bind_path(path: str) -> socket.socket:
    """Listen on a Unix socket that this user alone can open; a dead one's socket is replaced.

    May block for a moment: for a thread.
    """
    where = f"the admin API cannot be served on the socket {path}"
    if not hasattr(socket, "AF_UNIX"):
        raise UnavailableError(f"{where}: this system has none; set telemetry.admin.port instead")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise UnavailableError(f"{where}: expected a path of at most {_LONGEST_PATH} bytes")
    directory = Path(path).parent
    _check_directory(where, directory)
    with _one_at_a_time(where, directory):
        _make_room(where, path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _listening.add(listening)
        try:
            listening.setblocking(False)
            listening.bind(path)
            # Nobody can connect before it listens.
            Path(path).chmod(0o600)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise UnavailableError(f"{where}: {error.strerror or error}") from error
    return listening


@contextlib.contextmanager
def _one_at_a_time(where: str, directory: Path) -> Iterator[None]:
    """Keep others out of a directory while it is found out whether a socket there is dead, and replaced.

    Of two that find it dead, the second would remove the one that the first has just put there. The lock is
    on the directory, so that nothing is left behind; it ends with the process.
    """
    import fcntl  # noqa: PLC0415  # where there are such sockets, there is this

    try:
        lock = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # It may be written into and not be read.
        yield
        return
    try:
        deadline = time.monotonic() + _TAKING
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{where}: another process holds a lock on its directory (flock {directory}). "
                        "Expected a directory that is this application's"
                    ) from None
                time.sleep(_LOOK)
            except OSError:
                # Some file systems have no locks.
                break
        yield
    finally:
        with contextlib.suppress(OSError):
            # A child that was forked meanwhile would keep it.
            fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _check_directory(where: str, directory: Path) -> None:
    """Refuse a directory in which somebody else could put another socket in the place of ours."""
    try:
        found = directory.stat()
    except OSError as error:
        raise UnavailableError(
            f"{where}: its directory cannot be used ({error.strerror}). Expected one that exists, such as "
            "/run/user/$UID or one that the service manager makes"
        ) from error
    if found.st_uid not in {os.geteuid(), 0}:
        raise UnavailableError(
            f"{where}: its directory belongs to another user. Expected one of this user's or of root's"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        raise UnavailableError(
            f"{where}: others may write into its directory. Expected one that this user alone may write into "
            f"(chmod 700 {directory})"
        )


def _make_room(where: str, path: str) -> None:
    """Remove what a process that has ended left there; anything else is not ours."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnavailableError(f"{where}: {error.strerror or error}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise UnavailableError(
            f"{where}: there is something else, which stays. Expected no file, or a socket"
        )
    if found.st_uid != os.geteuid():
        raise UnavailableError(f"{where}: there is a socket of another user, which stays")
    if _is_alive(path):
        raise UnavailableError(f"{where}: another process serves there. Expected a path for each process")
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()


def _is_alive(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_ACCEPTING)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # It is there and busy, or may not be asked.
            return True
    return True


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells a socket in the file system from another one of the same path."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove(path: str, was: tuple[int, int] | None) -> None:
    """Remove a socket that is still the one that was put there."""
    if was is not None and identity(path) == was:
        with contextlib.suppress(OSError):
            Path(path).unlink()


def bind_port(host: str, port: int, *, has_token: bool) -> list[socket.socket]:
    """Listen on every address that a host stands for. May block for a name server: for a thread."""
    where = f"the admin API cannot be served on {listening.joined(host, port)}"
    try:
        addresses = listening.look_up(host, port)
    except (OSError, UnicodeError) as error:
        raise UnavailableError(
            f"{where}: the host cannot be resolved ({error}). Expected an address or a name of this machine"
        ) from error
    if not has_token and any(not is_loopback(str(each.sockaddr[0])) for each in addresses):
        raise UnavailableError(
            f"{where}: others can reach {addresses[0].sockaddr[0]}, and there is no telemetry.admin.token"
        )
    try:
        found = listening.bind_all(addresses, port, backlog=_BACKLOG)
    except OSError as error:
        raise UnavailableError(f"{where}: {listening.reason(error)}") from error
    _listening.update(found)
    return found


def _leave_to_parent() -> None:
    """Listen on nothing of the parent's, which would look alive as long as a child, and never answer."""
    for each in [*_listening]:
        each.close()
    _listening.clear()


after_fork_in_child(_leave_to_parent)


def user_of(connected: socket.socket) -> str | None:
    """Return the name of the user at the other end of a Unix socket, where the system tells."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    try:
        import pwd  # noqa: PLC0415  # not on every system

        _, uid, _ = struct.unpack(
            "3i", connected.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
        )
        return pwd.getpwuid(uid).pw_name
    except (OSError, ImportError, KeyError, struct.error):
        return None
