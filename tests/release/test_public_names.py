"""`from draftproof import ...`: what is there, where it lies, and that asking costs no import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import draftproof
import spec
from spec.named import DRAFTERS, STOPPING, VERIFIERS, class_at

ROOT = Path(__file__).resolve().parents[2]
NAMED = [place for places in (DRAFTERS, VERIFIERS, STOPPING) for place in places.values()]


def test_the_names_are_those_of_the_core_and_of_every_method() -> None:
    wanted = {name: "spec" for name in spec.__all__ if name != "__version__"} | {place.split(":")[1]: place.split(":")[0] for place in NAMED}
    assert wanted == draftproof.PUBLIC
    assert set(wanted) <= set(dir(draftproof))


def test_they_are_the_same_objects() -> None:
    assert draftproof.decode is spec.decode
    assert all(getattr(draftproof, place.split(":")[1]) is class_at(place) for place in NAMED)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        draftproof.nothing  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


def test_type_checkers_see_the_same_names() -> None:
    block = next(node for node in ast.parse((ROOT / "draftproof.py").read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == draftproof.PUBLIC


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, draftproof; dir(draftproof); print(sorted({'torch', 'transformers', 'spec', 'hydra'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_stranger_is_named_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "verifiers").mkdir()
    (tmp_path / "verifiers" / "__init__.py").write_text("raise SystemExit('the stranger was imported')\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; from draftproof import decode"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"ImportError: the package 'verifiers' of Draftproof ({ROOT / 'verifiers'}) is taken by {tmp_path / 'verifiers'}" in done.stderr


def test_what_the_experiments_lack_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SystemExit, match="2"):
        draftproof.main()
    assert capsys.readouterr().err == "error: the experiments need pandas: pip install 'draftproof[experiments]'\n"


def test_a_star_brings_the_public_names_alone():
    found: dict[str, object] = {}
    exec("from draftproof import *", found)
    assert found.keys() - {"__builtins__"} == set(draftproof.PUBLIC)
