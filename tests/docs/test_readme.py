"""README: its links lead somewhere, its pictures are there for light and dark pages, and figures in its advice stand in a table."""

import re
from pathlib import Path

import pytest

from tests.docs.printed import FENCE, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FIGURE = re.compile(r"(?<![\d.])\d\.\d\d(?![\d.])")


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    astray = []
    for link in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        place, _, anchor = link.partition("#")
        if ":" not in place:
            file = path.parent / place if place else path
            if not file.exists() or (anchor and anchor not in anchors(file)):
                astray.append(link)
    assert astray == []


def test_pictures_are_there_for_light_and_dark_pages() -> None:
    for path, text in ((ROOT, README), *((page.parent, page.read_text(encoding="utf-8")) for page in (ROOT / "docs").glob("*.md"))):
        for dark, light in re.findall(r'<picture>.*?srcset="([^"]+)".*?src="([^"]+)".*?</picture>', text):
            assert dark.replace("-dark", "-light") == light
            assert (path / dark).exists()
            assert (path / light).exists()
    assert README.count("<picture>") == 2


def test_figures_in_the_advice_stand_in_a_table() -> None:
    """A table that is made again must not leave the advice behind."""
    advice = README.split("## Choosing a drafter\n")[1].split("\n## ")[0]
    tables = re.findall(r"<!-- \w+:begin -->(.*?)<!-- \w+:end -->", README + (ROOT / "docs" / "speed.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(tables) == 3
    figures = set(FIGURE.findall(advice))
    assert len(figures) >= 10
    assert sorted(figures - set(FIGURE.findall("".join(tables)))) == []


def test_the_first_screen_is_what_it_is_and_two_commands() -> None:
    first = README.split("<picture>")[0]
    assert [line.split()[:2] for line in first.split("```bash\n")[1].split("```")[0].splitlines()] == [["make", "run"], ["make", "test"]]
    assert len(first.splitlines()) < 14
    assert len(README.splitlines()) < 225
