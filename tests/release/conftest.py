"""The wheel and the hub's folder, made once, and a Python process in which our checkout cannot be imported."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from release import wheel
from release.hub import write_folder

ROOT = Path(__file__).resolve().parents[2]
STRANGERS = ("spec", "drafters", "verifiers", "experiments", "conf")
NO_FINDER = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.path[:] = [place for place in sys.path if place != {root!r}]
"""
Process = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources that the wheel is built from."""
    folder = tmp_path_factory.mktemp("tree")
    wheel.write_tree(folder)
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's file."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", f"from release.wheel import build_wheel; build_wheel({str(folder)!r})"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def site(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other projects' packages of our names, which nobody may import."""
    folder = tmp_path_factory.mktemp("strangers")
    for name in STRANGERS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('the stranger {name} was imported')\n")
    return folder


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what goes to the hub: the folder `custom_generate/` lies in it."""
    folder = tmp_path_factory.mktemp("hub")
    write_folder(folder)
    return folder


@pytest.fixture
def process(tmp_path: Path) -> Process:
    """Runs `python ARGUMENTS` in an empty folder, offline, with `paths` in front of installed packages and without this checkout."""
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(NO_FINDER.format(root=str(ROOT)))
    (tmp_path / "here").mkdir()

    def run(*arguments: str, paths: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        found = {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path / "start", *paths))), "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | found
        return subprocess.run(
            [sys.executable, "-P", *arguments], cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False, timeout=250
        )

    return run
