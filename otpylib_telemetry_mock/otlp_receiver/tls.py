"""What a receiver identifies itself with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """What a receiver identifies itself with.

    Attributes:
        certificate: A PEM file.
        key: The key that belongs to it.
        client_authority: The authority of its clients' certificates, which are then asked for.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None
