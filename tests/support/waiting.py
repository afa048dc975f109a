"""Waiting for something to become true, without asserting how long it took."""

import asyncio
import inspect
import time

POLL = 0.01
#: Seconds. On a busy machine everything takes long; only what never comes costs them all.
PATIENCE = 60.0


class HopelessError(AssertionError):
    """Raised by a predicate to end the waiting at once: what is waited for can no longer come."""


class _Poll:
    """One wait: the deadline, and what was seen last."""

    def __init__(self, predicate, timeout, message):
        self.predicate = predicate
        self.timeout = timeout
        self.message = message
        self.deadline = time.monotonic() + timeout
        self.seen = "it was never evaluated"

    def took(self, value):
        self.seen = f"it last gave {value!r}"
        return value

    def raised(self, error):
        self.seen = f"it last raised {type(error).__name__}: {error}"

    def check_deadline(self):
        if time.monotonic() >= self.deadline:
            what = self.message or _source(self.predicate)
            raise AssertionError(f"not so within {self.timeout} s: {what}; {self.seen}")


def _source(predicate):
    try:
        return " ".join(inspect.getsource(predicate).split())
    except (OSError, TypeError):
        return repr(predicate)


async def eventually(predicate, timeout=PATIENCE, message=None):
    """Poll until ``predicate()`` (plain or async) gives something true, and return that.

    An exception counts as "not yet" (HopelessError apart): a predicate may itself assert, index or connect.
    """
    poll = _Poll(predicate, timeout, message)
    while True:
        try:
            value = predicate()
            if inspect.isawaitable(value):
                value = await value
            if poll.took(value):
                return value
        except HopelessError:
            raise
        except Exception as error:
            poll.raised(error)
        poll.check_deadline()
        await asyncio.sleep(POLL)


def wait_until(predicate, timeout=PATIENCE, message=None):
    """The same where there is no event loop: fixtures, threads."""
    poll = _Poll(predicate, timeout, message)
    while True:
        began = time.monotonic()
        try:
            if value := poll.took(predicate()):
                return value
        except HopelessError:
            raise
        except Exception as error:
            poll.raised(error)
        poll.check_deadline()
        # To ask takes no more than half of the time, which others need to get there.
        time.sleep(max(POLL, time.monotonic() - began))
