"""What CITATION.cff says of the package is so, and the embedded models have a license beside them."""

import tomllib
from pathlib import Path

import yaml

import draftproof

ROOT = Path(__file__).resolve().parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_names_this_version() -> None:
    assert CITATION["version"] == draftproof.__version__
    assert CITATION["authors"] == [{"name": "The Draftproof authors"}]


def test_the_license_is_that_of_the_package() -> None:
    assert CITATION["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["license"]


def test_the_models_have_a_license_that_names_their_source() -> None:
    text = " ".join((ROOT / "spec" / "embedded" / "LICENSE").read_text(encoding="utf-8").split())
    card = " ".join((ROOT / "spec" / "embedded" / "CARD.md").read_text(encoding="utf-8").split())
    assert "Apache License, Version 2.0" in text
    assert "PSF License Agreement" in text
    for version in ("Python 3.11.7 standard library as installed",):
        assert version in text
        assert version in card
