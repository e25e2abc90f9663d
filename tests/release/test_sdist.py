"""An sdist holds what a wheel is built from, `release/` too, and an editable install stays setuptools' own."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from setuptools import build_meta

from release import wheel
from release.house import PACKAGES, House
from tests.release.conftest import ROOT

ALONE = ("draftproof.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The sdist of a copy of this repository, unpacked."""
    copy, out = tmp_path / "copy", tmp_path / "out"
    for name in (*PACKAGES, "release"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ALONE:
        shutil.copyfile(ROOT / name, copy / name)
    out.mkdir()
    code = f"from release.wheel import build_sdist; build_sdist({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(out, filter="data")
    return next(path for path in out.iterdir() if path.is_dir())


def test_a_wheel_can_be_built_from_an_sdist(unpacked: Path, tree: Path, tmp_path: Path) -> None:
    assert {path.name for path in (unpacked / "release").glob("*.py")} == {path.name for path in (ROOT / "release").glob("*.py")}
    wheel.write_tree(tmp_path / "again", House(unpacked))
    files = {path.relative_to(tree): path for path in tree.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path / "again"): path for path in (tmp_path / "again").rglob("*") if path.is_file()}
    assert set(again) == set(files)
    assert [name for name, path in files.items() if path.read_bytes() != again[name].read_bytes()] == []


def test_an_editable_install_is_setuptools_own() -> None:
    for name in ("build_editable", "get_requires_for_build_editable", "prepare_metadata_for_build_editable", "build_sdist"):
        assert getattr(wheel, name) == getattr(build_meta, name)
    assert wheel.get_requires_for_build_wheel() == []
