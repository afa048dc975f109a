"""What is scrubbed and how, as settings say it; and what stands in the place of a secret. Pure."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from otpylib_telemetry.config.redaction import REDACTED

Action: TypeAlias = Literal["mask", "hash", "drop"]

#: Which of the rules that are there by default count.
Scope: TypeAlias = Literal["all", "keys", "own", "off"]

#: Digits of a keyed hash: enough to tell values apart, and far too few to tell them from.
_DIGITS: Final = 16

#: What stands for a secret: hashed, or hidden. It is none itself.
STANDS: Final = re.compile(r"<(?:redacted|hmac:[0-9a-f]{16})>")

#: Of this process, where no salt is set.
_process_key: Final = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class ScrubPlan:
    """What is scrubbed and how; ``keys`` and ``values`` are patterns with actions."""

    scope: Scope = "all"
    action: Action = "mask"
    keys: tuple[tuple[str, Action | None], ...] = ()
    values: tuple[tuple[str, Action | None], ...] = ()
    keep: tuple[str, ...] = ()
    salt: str = ""

    def stand_in(self, secret: Any, action: Action) -> str:
        """Return what stands for a secret: a keyed hash, or that there was one."""
        if action != "hash":
            return REDACTED
        written = secret if type(secret) is str else repr(secret)
        key = self.salt.encode("utf-8", "surrogatepass") or _process_key
        digest = hmac.new(key, written.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return f"<hmac:{digest.hexdigest()[:_DIGITS]}>"


#: What is scrubbed where nobody says anything.
DEFAULT_PLAN: Final = ScrubPlan()
