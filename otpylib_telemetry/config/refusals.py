"""What a settings class says is wrong with a value, with several together, or with a variable."""

from __future__ import annotations

from dataclasses import dataclass


class RefusedError(ValueError):
    """Raised by a validator that can say itself what is wrong with a value.

    Args:
        reason: What was expected, as the middle of a sentence: "expected a path that begins with '/'".
        public: The same without anything taken from the value, for values that came from a ``${...}``.
            Without it, ``reason`` is held to be fit for everybody. For a key that is itself marked secret,
            neither may contain anything secret.
    """

    def __init__(self, reason: str, public: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.public = public or reason


@dataclass(frozen=True, slots=True)
class Conflict:
    """Settings that are each valid but do not go together.

    Attributes:
        keys: The keys involved, the one to blame first.
        reason: What is wrong, as the middle of a sentence.
        public: The same without anything taken from the values; None if ``reason`` has nothing of them.
        entry: The entry of the table under the first key that is to blame; the others stay.
    """

    keys: tuple[str, ...]
    reason: str
    public: str | None = None
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """An environment variable whose value cannot even be offered to the field it stands for.

    Attributes:
        value: What the variable holds.
        reason: What was expected, as the middle of a sentence.
    """

    value: str
    reason: str
