"""The map from paper to code: every source that a method names is on it, and it leads to files that name the paper."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "papers.md"
ID = re.compile(r"(?<![\d.])\d{4}\.\d{5}(?!\d)")
FILE = re.compile(r"`([\w/]+\.py)`")


def rows() -> list[str]:
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|") and FILE.search(line)]


def test_every_source_of_a_method_is_on_the_map():
    files = [*ROOT.glob("drafters/**/*.py"), *ROOT.glob("verifiers/*.py")]
    named = {number for file in files for number in ID.findall(file.read_text(encoding="utf-8"))}
    assert len(named) > 15
    assert named - set(ID.findall(PAGE.read_text(encoding="utf-8"))) == set()


def test_the_map_leads_to_files_that_name_the_paper():
    astray = []
    for row in rows():
        text = "".join((ROOT / file).read_text(encoding="utf-8") for file in FILE.findall(row))
        astray += [(number, row) for number in ID.findall(row) if number not in text]
    assert astray == []


def test_every_verifier_and_drafter_with_a_source_is_on_the_map():
    with_source = [file for part in ("drafters", "verifiers") for file in (ROOT / part).rglob("*.py") if ID.search(file.read_text(encoding="utf-8"))]
    mapped = {file for row in rows() for file in FILE.findall(row)}
    assert {file.relative_to(ROOT).as_posix() for file in with_source} - mapped == set()
