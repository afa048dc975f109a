"""The description of the built packages: README.md, readable where its relative links lead nowhere.

Everything else that a build needs is in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
#: Code, which is left as it is, or ``[text](target)`` or ``![text](target)``.
PARTS = re.compile(
    r"(?P<code>```.*?```|(?<!\[)`[^`\n]*`)"
    r"|(?P<picture>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s]+)\)",
    re.DOTALL,
)
NOTE = "\n\nPages named like `docs/...` are in the source distribution, beside the tests and the examples.\n"


def described(readme: str) -> str:
    """Return the text with relative links as their text and the file they lead to; pictures as text alone."""
    return PARTS.sub(_plain, readme).rstrip() + NOTE


def _plain(found: re.Match[str]) -> str:
    if found["code"] or re.match(r"[a-z][a-z0-9+.-]*:", found["target"]):
        return found[0]
    place = found["target"].partition("#")[0]
    named = place in found["text"] or found["picture"] or not place
    return found["text"] if named else f"{found['text']} (`{place}`)"


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(long_description=described(readme), long_description_content_type="text/markdown")
