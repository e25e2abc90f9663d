"""The site builds without a warning, has every public name and every page, and its links and pictures lead somewhere."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spec

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.stem for path in DOCS.glob("*.md"))
GIVEN = re.compile(r'(?:href|src)="([^"#:?]+)(?:#[^"]*|\?[^"]*)?"')  # of this site: no address with a colon, no bare anchor
METHODS = [path for part in ("drafters", "drafters/stopping", "verifiers") for path in sorted((ROOT / part).glob("[!_]*.py"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a process of its own, without the network. Fails, and does not skip, where Sphinx is not installed: it belongs to `dev`."""
    out = tmp_path_factory.mktemp("site")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(out / "trees"), str(DOCS), str(out / "html")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert found.returncode == 0, found.stderr[-4000:]
    return out / "html"


def test_every_page_is_in_a_list_of_contents(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    assert [name for name in PAGES if name != "index" and f'href="{name}.html"' not in home] == []


def test_links_and_pictures_lead_to_files_of_the_site(site: Path) -> None:
    astray = []
    for page in PAGES:
        given = set(GIVEN.findall((site / f"{page}.html").read_text(encoding="utf-8")))
        assert len(given) > len(PAGES)
        astray += [f"{page}: {name}" for name in sorted(given) if not (site / name).exists()]
    assert astray == []


def test_nothing_is_fetched(site: Path) -> None:
    loaded = re.compile(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//')
    assert [page for page in PAGES if loaded.search((site / f"{page}.html").read_text(encoding="utf-8"))] == []


def test_pictures_follow_the_readers_switch(site: Path) -> None:
    text = (site / "concepts.html").read_text(encoding="utf-8")
    assert re.search(r'class="only-light"[^>]*loop-light', text)
    assert re.search(r'class="only-dark"[^>]*loop-dark', text)


@pytest.mark.parametrize("name", [name for name in spec.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_reference(site: Path, name: str) -> None:
    assert f'id="spec.{name}"' in (site / "reference.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.relative_to(ROOT).with_suffix("").as_posix())
def test_every_method_is_in_the_reference(site: Path, path: Path) -> None:
    """Its class, and the first line of its file, which says what the method is."""
    module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    text = re.sub(r"<[^>]+>|\s+", "", (site / "reference.html").read_text(encoding="utf-8"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert f'id="{module}.' in (site / "reference.html").read_text(encoding="utf-8")
    assert re.sub(r"\W", "", (ast.get_docstring(tree) or "").split("\n")[0])[:40] in re.sub(r"[^\w]", "", text)


def test_the_reference_says_shapes_and_errors(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "reference.html").read_text(encoding="utf-8"))
    assert "[B, N, V] or None: every distribution is one-hot" in text  # a field's comment
    assert text.count("Raises ValueError") >= 10
    assert "`" not in text
