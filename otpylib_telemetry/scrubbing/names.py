"""Which keys name a secret.

A key names what its last word says: ``db.password`` is a password, ``password_reset`` is none. Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class SecretName(NamedTuple):
    """What a key names: the rule that says so, and whether a number under it is none."""

    rule: str
    is_loose: bool = False


_LONGEST: Final = 255

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

#: Endings that mean a secret, with the words before them joined: ``x-api-key``, ``apiKey``, ``MYAPIKEY``.
_ENDINGS: Final = {
    **dict.fromkeys(("password", "passwd", "passphrase", "passcode"), "password"),
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
    **dict.fromkeys(("connectionstring", "amzsignature", "googsignature"), "credential"),
}

#: The same for short words that are the end of others, or mean something else as well: "bypass" is no
#: password, and so many have passed. Written as words are, lest three letters of any text are one.
_WORDS: Final = {
    "pass": "password",
    "pwd": "password",
    "auth": "authorization",
    "bearer": "authorization",
    "cvv": "card",
    "cvc": "card",
    "iban": "card",
}
_COUNTED: Final = frozenset({"pass", "auth"})

#: What may follow and changes nothing.
_AFTER: Final = frozenset(
    {
        *("value", "hash", "hashed", "text", "raw", "plain", "plaintext", "string", "bytes", "header", "pem"),
        *("new", "old", "current", "confirm", "confirmation", "confirmed", "repeat", "repeated", "again"),
        *("encoded", "decoded", "encrypted", "base", "b"),
    }
)

_ENDING: Final = re.compile(f"(?:{'|'.join(sorted(_ENDINGS, key=len, reverse=True))})\\Z")


def may_name(small: str) -> bool:
    """Tell of a text in small letters whether the name of a secret may be in it: all have one of these."""
    # One after the other, because a loop over them costs twice as much.
    return (
        "pass" in small
        or "key" in small
        or "secret" in small
        or "token" in small
        or "auth" in small
        or "cookie" in small
        or "cred" in small
        or "pwd" in small
        or "sess" in small
        or "card" in small
        or "signature" in small
        or "connection" in small
        or "bearer" in small
        or "cvv" in small
        or "cvc" in small
        or "iban" in small
    )


def secret_name(key: str) -> SecretName | None:
    """Return what kind of secret a key names, or None."""
    key = key[-_LONGEST:]
    words = _WORD.findall(key)
    is_numbered = False
    while words:
        if (found := _named_by(words, None if is_numbered else key)) is not None:
            return found
        last = words.pop()
        is_numbered = is_numbered or last.isdigit()
        if last.lower() not in _AFTER and not last.isdigit():
            break
    return None


def _named_by(words: list[str], key: str | None) -> SecretName | None:
    """Return what words name; ``key`` is the whole, unless numbers were left away at its end."""
    last = words[-1]
    rule = _WORDS.get(last.lower())
    if rule is not None and key is not None and _stands_alone(last, key):
        return SecretName(rule, is_loose=last.lower() in _COUNTED)
    joined = "".join(words).lower()
    if found := _ENDING.search(joined):
        return SecretName(_ENDINGS[found[0]])
    if joined.endswith("s") and (found := _ENDING.search(joined[:-1])):
        return SecretName(_ENDINGS[found[0]], is_loose=True)
    return None


def _stands_alone(word: str, key: str) -> bool:
    """Tell whether a short word is one of a key as people write them: chance makes three letters, too."""
    before = key[: key.rindex(word)]
    if before and not _SEPARATED.search(before):
        return word.istitle() and before[-1].islower()
    return word.islower() or word.isupper() or (word.istitle() and not before)


#: What people put between words: of a key that has anything else in it, short words are no words.
_SEPARATED: Final = re.compile(r"\A[A-Za-z0-9_.\-/:]*[A-Za-z0-9][_.\-/:]\Z")
