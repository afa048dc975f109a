"""Which keys name a secret.

A key names what its last word says: ``db.password`` is a password, ``password_reset`` is none. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class SecretName(NamedTuple):
    """What a key names: the rule that says so, and whether a number under it is none."""

    rule: str
    many: bool = False


_LONGEST: Final = 255

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

#: Endings that mean a secret, with the words before them joined: ``x-api-key``, ``apiKey``, ``MYAPIKEY``.
_ENDINGS: Final = {
    **dict.fromkeys(("password", "passwd", "passphrase", "passcode", "pwd"), "password"),
    "secret": "secret",
    "token": "token",
    "cookie": "cookie",
    "credential": "credential",
    **dict.fromkeys(("authorization", "authorisation"), "authorization"),
    **dict.fromkeys(("apikey", "accesskey", "accountkey", "subscriptionkey", "authkey"), "api_key"),
    **dict.fromkeys(
        ("privatekey", "secretkey", "signingkey", "encryptionkey", "sharedkey", "sshkey", "masterkey"),
        "private_key",
    ),
    **dict.fromkeys(("cardnumber", "creditcard", "cardno"), "card"),
    **dict.fromkeys(("jsessionid", "phpsessid", "aspsessionid"), "cookie"),
    **dict.fromkeys(("connectionstring",), "credential"),
}

#: The same for words that are the end of others: "bypass" is no password.
_WORDS: Final = {
    "pass": "password",
    "auth": "authorization",
    "bearer": "authorization",
    "jwt": "token",
    "cvv": "card",
    "cvc": "card",
    "iban": "card",
    "ssn": "credential",
}

#: What may follow and changes nothing.
_AFTER: Final = frozenset(
    {
        *("value", "hash", "hashed", "text", "raw", "plain", "plaintext", "string", "bytes", "header", "pem"),
        *("new", "old", "current", "confirm", "confirmation", "confirmed", "repeat", "repeated", "again"),
        *("encoded", "decoded", "encrypted", "base", "b"),
    }
)

_ENDING: Final = re.compile(f"(?:{'|'.join(sorted(_ENDINGS, key=len, reverse=True))})\\Z")


def secret_name(key: str) -> SecretName | None:
    """Return what kind of secret a key names, or None."""
    words = [word.lower() for word in _WORD.findall(key[-_LONGEST:])]
    while words:
        if (found := _named_by(words)) is not None:
            return found
        if words[-1] not in _AFTER and not words[-1].isdigit():
            break
        words.pop()
    return None


def _named_by(words: list[str]) -> SecretName | None:
    if rule := _WORDS.get(words[-1]):
        return SecretName(rule)
    joined = "".join(words)
    if found := _ENDING.search(joined):
        return SecretName(_ENDINGS[found[0]])
    if joined.endswith("s") and (found := _ENDING.search(joined[:-1])):
        return SecretName(_ENDINGS[found[0]], many=True)
    return None
