"""The pictures that are drawn from the code are up to date, and what they are drawn from is right."""

import re
from xml.etree import ElementTree as ET

import pytest

from scripts.pictures import application, event, house, layers, svg
from tests.project.test_layers import LAYERS, ROOT

DRAWN = {module.PAGE: module for module in (application, event, house, layers)}
ARCHITECTURE = ROOT / "docs" / "architecture.md"


@pytest.mark.parametrize("page", DRAWN, ids=lambda page: page.name)
def test_a_drawn_picture_is_up_to_date(page):
    assert page.read_text(encoding="utf-8") == DRAWN[page].draw(), "run: make pictures"


@pytest.mark.parametrize("page", sorted(svg.PICTURES.glob("*.svg")), ids=lambda page: page.name)
def test_a_picture_is_of_modest_size_and_says_what_it_shows(page):
    text = page.read_text(encoding="utf-8")
    title = ET.fromstring(text).find("{http://www.w3.org/2000/svg}title")  # noqa: S314  # our own
    assert title is not None
    assert title.text
    assert len(text) < 400_000


@pytest.mark.parametrize("page", sorted(svg.PICTURES.glob("*.png")), ids=lambda page: page.name)
def test_a_picture_of_the_page_is_of_modest_size_and_says_what_it_shows(page):
    assert page.read_bytes().startswith(b"\x89PNG")
    assert page.stat().st_size < 150_000
    shown = (ROOT / "docs/how-to/operate/admin-page.md").read_text("utf-8")
    assert re.search(rf"!\[[^\]]{{20,}}\]\(\S*pictures/{re.escape(page.name)}\)", shown)


def test_every_picture_is_on_a_page():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {name for page in pages for name in re.findall(r"pictures/([\w.-]+)", page.read_text("utf-8"))}
    assert {picture.name for picture in svg.PICTURES.iterdir()} == shown


@pytest.mark.parametrize("package", LAYERS)
def test_the_house_shows_every_part_and_arrows_that_point_down(package):
    graph = house.parts_of(package)
    assert set(graph) == set(LAYERS[package])
    rows = house.rows_of(graph)
    assert all(rows[part] > rows[other] for part, others in graph.items() for other in others)


def test_an_arrow_is_left_out_where_a_longer_way_says_the_same():
    graph = {"roof": {"wall", "ground"}, "wall": {"ground"}, "ground": set()}
    assert house.needed_arrows(graph) == {"roof": {"wall"}, "wall": {"ground"}, "ground": set()}


@pytest.mark.parametrize("package", LAYERS)
def test_the_page_lists_every_part_in_its_order(package):
    page = ARCHITECTURE.read_text(encoding="utf-8")
    section = re.search(rf"^### `{package}`$(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == list(LAYERS[package])
