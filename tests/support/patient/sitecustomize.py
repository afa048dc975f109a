"""Imported by Python at its start: whoever opens a page waits until somebody serves it."""

import time
import urllib.error
import urllib.request

_LONGEST = 60.0
_urlopen = urllib.request.urlopen


def urlopen(*arguments, **options):
    """Try again while the connection is refused."""
    until = time.monotonic() + _LONGEST
    while True:
        try:
            return _urlopen(*arguments, **options)
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError) or time.monotonic() > until:
                raise
        time.sleep(0.1)


urllib.request.urlopen = urlopen
