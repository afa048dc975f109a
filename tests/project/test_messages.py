"""What the code may say to a user and what the pages explain are the same texts."""

import ast
import re
import textwrap

import pytest

from tests.support import messages
from tests.support.messages import GAP, PAGES, explained, is_in, pattern, sentences, texts

HOW = (
    "Write a row into docs/reference/messages.md: what it means, what happens now, what to do. Or a section "
    "into troubleshooting.md, with a test that provokes it."
)


@pytest.fixture(scope="module")
def said():
    return texts()


@pytest.fixture(scope="module")
def pages():
    return explained()


def test_every_text_of_the_code_is_on_a_page(said, pages):
    missing = [
        f"{each.where}: {each.text}"
        for each in said
        if each.counts and not any(is_in(each.text, text) for _, text in pages)
    ]
    assert missing == [], HOW


def test_every_text_on_the_page_of_messages_is_said(said, pages):
    patterns = [pattern(each.text) for each in said if each.counts]
    literals = "\n".join(each.text for each in said)
    unsaid = [
        f"{where}: {text}"
        for where, text in pages
        if where.startswith(PAGES[1].name)
        and not any(each.fullmatch(text) for each in patterns)
        and not (sentences(text) and all(sentence in literals for sentence in sentences(text)))
    ]
    assert unsaid == [], "No code says it: correct the row or take it out."


def test_no_text_has_two_rows(pages):
    rows = [text for where, text in pages if where.startswith(PAGES[1].name)]
    assert sorted({text for text in rows if rows.count(text) > 1}) == []


def test_every_row_says_something():
    rows = [line for line in PAGES[1].read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) > 400
    cells = [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows]
    assert [row for row in cells if len(row) != 2 or not all(cell.strip() for cell in row)] == []


def found(code):
    tree = ast.parse(textwrap.dedent(code))
    return [each.text for each in messages._texts_of(tree, "somewhere.py") if each.counts]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('_log.warning("%s is gone", name)', [f"{GAP} is gone"]),
        ('_log.debug("nobody reads %s in here at all", name)', []),
        ('_WORDS: Final = "Gone: %s"\n_log.error(_WORDS, name)', [f"Gone: {GAP}"]),
        ('self._log.info("up" if up else "down")', ["up", "down"]),
        ('raise ValueError(f"{name}: expected {what!r}")', [f"{GAP}: expected {GAP}"]),
        ('raise ValueError("one " "two")', ["one two"]),
        ('raise ValueError("too big" + hint)', ["too big"]),
        ('return f"the port {port} is taken by somebody"', [f"the port {GAP} is taken by somebody"]),
        ('reasons = {1: "the port is taken by somebody"}', ["the port is taken by somebody"]),
        ('Field(1, description="how many of them there may be")', []),
        ('def f():\n    """Return what is there to be had."""', []),
        ('x: "Callable[[int, str], a | b | c]"', []),
        ('Shape = "Mapping[Callable[[Any], None], Any, Other, More]"', []),
    ],
)
def test_texts_are_found_wherever_they_stand(code, expected):
    assert found(code) == expected


@pytest.mark.parametrize(
    ("code", "page", "there"),
    [
        (f"{GAP} is gone", f"the file {GAP} is gone since then", True),
        (f"cannot serve {GAP}: {GAP}", f"cannot serve {GAP}: the port is taken", True),
        (f"cannot serve {GAP}: gone", f"cannot serve {GAP}: taken", False),
    ],
)
def test_a_text_is_found_in_one_that_says_more(code, page, there):
    assert is_in(code, page) is there
    assert bool(pattern(code).search(page)) is there
