"""What the demonstration claims, each claim with what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.shop.processor import Waited


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is either so or not, unless the machine was too busy to tell.

    Attributes:
        text: What is claimed.
        held: Whether it was so.
        evidence: What was seen, in numbers.
        step: Of the demonstration.
        waited: Of a claim about time: how long the shop waited for a processor meanwhile.
    """

    text: str
    held: bool
    evidence: str
    step: int = 0
    waited: Waited | None = None

    @property
    def failed(self) -> bool:
        """Whether it was not so, and nobody else is to blame."""
        return not self.held and not self.undecided

    @property
    def undecided(self) -> bool:
        """Whether it was not so, but other programs had the processors."""
        return not self.held and self.waited is not None and self.waited.is_much


class Claims:
    """The list of them."""

    def __init__(self) -> None:
        self.all: list[Claim] = []
        #: The step that claims are made in.
        self.step = 0
        #: Whether everything was claimed that there is to claim.
        self.complete = False

    def check(self, text: str, held: object, evidence: str, waited: Waited | None = None) -> Claim:
        """Enter a claim.

        Args:
            text: What is claimed.
            held: Whether it is so.
            evidence: What was seen, in numbers.
            waited: Of a claim about time: how long the shop waited for a processor meanwhile.
        """
        claim = Claim(text, bool(held), evidence, self.step, waited)
        self.all.append(claim)
        return claim

    @property
    def failed(self) -> list[Claim]:
        """Those that did not hold."""
        return [claim for claim in self.all if claim.failed]

    @property
    def undecided(self) -> list[Claim]:
        """Those that the machine was too busy for."""
        return [claim for claim in self.all if claim.undecided]
