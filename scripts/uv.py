"""uv, told to look for packages where pip does: python -m scripts.uv ... It takes a tenth of pip's time."""

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Final

#: What uv calls the settings by which pip finds a package index.
NAMES: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
}


@functools.cache
def variables() -> dict[str, str]:
    """What tells uv to look for packages where pip does here."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, encoding="utf-8", check=True
    )
    return translated(listed.stdout.splitlines())


def translated(listed: Iterable[str]) -> dict[str, str]:
    """The same, from what ``pip config list`` says."""
    # The variables come last: they are stronger than the files.
    lines = sorted(listed, key=lambda line: line.startswith(":env:"))
    settings = {}
    for line in lines:
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = " ".join(str(ast.literal_eval(value)).split())
    found = {NAMES[name]: value for name, value in settings.items() if name in NAMES}
    if "find-links" in settings:
        found["UV_FIND_LINKS"] = settings["find-links"].replace(" ", ",")
    # As pip does: of several indexes, the best version of any.
    return {**found, "UV_INDEX_STRATEGY": "unsafe-best-match"}


if __name__ == "__main__":
    os.execve(  # noqa: S606  # uv takes the place of this program, with the same arguments
        sys.executable, [sys.executable, "-m", "uv", *sys.argv[1:]], os.environ | variables()
    )
