"""What became of a measurement, or of all those of an event together: bits."""

from typing import Final

#: There was nothing to take.
SKIPPED: Final = 0
TAKEN: Final = 1
REFUSED: Final = 2
