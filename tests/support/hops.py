"""Which functions of ours an event passes on its way: the frames on the stack where it changes hands."""

import sys
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _place(code):
    path = code.co_filename
    if not path.startswith(str(ROOT / "otpylib_telemetry")):
        return None
    name = code.co_qualname.replace("<locals>.", "")
    return f"{Path(path).relative_to(ROOT)}: {name}"


def _way(frame):
    """Our functions on the stack, the outermost first."""
    found = []
    while frame is not None:
        if (place := _place(frame.f_code)) is not None and place not in found:
            found.append(place)
        frame = frame.f_back
    return found[::-1]


@contextmanager
def watched(places):
    """Note the way to the first call of each ``file: function``, whatever thread makes it.

    A place may come with another one that has to lie on the way: ``{place: None, place: through}``.
    """
    ways = {}

    def notice(frame, event, _argument):
        if event != "call" or (place := _place(frame.f_code)) not in places or place in ways:
            return
        way = _way(frame)
        if places[place] is None or places[place] in way:
            ways[place] = way

    earlier = sys.getprofile()
    threading.setprofile(notice)
    sys.setprofile(notice)
    try:
        yield ways
    finally:
        sys.setprofile(earlier)
        threading.setprofile(None)
