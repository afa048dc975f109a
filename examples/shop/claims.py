"""What the demonstration claims, each claim with what was seen of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is either so or not.

    Attributes:
        text: What is claimed.
        held: Whether it was so.
        evidence: What was seen, in numbers.
        step: Of the demonstration.
    """

    text: str
    held: bool
    evidence: str
    step: int = 0


class Claims:
    """The list of them."""

    def __init__(self) -> None:
        self.all: list[Claim] = []
        #: The step that claims are made in.
        self.step = 0
        #: Whether everything was claimed that there is to claim.
        self.complete = False

    def check(self, text: str, held: object, evidence: str) -> Claim:
        """Enter a claim.

        Args:
            text: What is claimed.
            held: Whether it is so.
            evidence: What was seen, in numbers.
        """
        claim = Claim(text, bool(held), evidence, self.step)
        self.all.append(claim)
        return claim

    @property
    def failed(self) -> list[Claim]:
        """Those that did not hold."""
        return [claim for claim in self.all if not claim.held]
