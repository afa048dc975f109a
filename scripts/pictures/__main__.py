"""``python -m scripts.pictures [name ...]``: makes the pictures anew, all of them or those that are named."""

from __future__ import annotations

import importlib
import sys
from typing import Final

#: The scripts. Each has a ``PAGE``, the file it writes, and a ``draw``, which returns what is in it.
NAMES: Final = ("house", "event")


def main(names: list[str]) -> None:
    """Make pictures."""
    for name in names or NAMES:
        module = importlib.import_module(f"scripts.pictures.{name}")
        module.PAGE.write_text(module.draw(), encoding="utf-8")
        sys.stdout.write(f"{module.PAGE.name}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
