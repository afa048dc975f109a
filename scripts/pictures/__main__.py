"""``python -m scripts.pictures [name ...]``: makes the pictures anew, all of them or those that are named."""

from __future__ import annotations

import importlib
import sys
from typing import Final

#: The scripts. One has a ``PAGE``, the file it writes, and a ``draw``, which returns what is in it; one that
#: draws what a real run shows has a ``make``, which returns what is in each of its files.
NAMES: Final = ("house", "event", "layers", "application", "demo", "dashboards", "actors", "page")


def main(names: list[str]) -> None:
    """Make pictures."""
    for name in names or NAMES:
        module = importlib.import_module(f"scripts.pictures.{name}")
        made = module.make() if hasattr(module, "make") else {module.PAGE: module.draw()}
        for page, drawn in made.items():
            page.write_bytes(drawn if isinstance(drawn, bytes) else drawn.encode())
            sys.stdout.write(f"{page.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
