"""The secrets that one section had in its settings, taken out of any text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otpylib_telemetry.config.redaction import scrubber, secret_texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpylib_telemetry.config.resolution import Resolution

#: Secret texts that are remembered, those of the past included: an error may still speak of them.
MOST_SECRETS: Final = 200


class KnownSecrets:
    """The latest secrets; those in force are never among the ones forgotten."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}
        self._scrub: Callable[[str], str] | None = None

    def learn(self, resolution: Resolution[Any]) -> None:
        """Remember the secrets of settings."""
        for key in resolution.secrets:
            for text in secret_texts(getattr(resolution.settings, key, None)):
                # The latest ones last.
                self._texts.pop(text, None)
                self._texts[text] = None
        for text in list(self._texts)[:-MOST_SECRETS]:
            del self._texts[text]
        self._scrub = None

    def scrub(self, text: str) -> str:
        """Return a text without them."""
        if self._scrub is None:
            self._scrub = scrubber(self._texts)
        return self._scrub(text)
