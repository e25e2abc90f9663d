"""The suite's quick part against the installed wheel: `make test-wheel`, or `python -m release.suite [ARGUMENTS OF PYTEST]`.

The tests get the wheel's names as its sources did. They run in a fresh folder, from which this checkout cannot be imported, beside the index's own
`verifiers` and `drafters`, or stand-ins of these where the index cannot be reached. Nobody may import those.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from release.house import PACKAGES, ROOT, House
from release.rewrite import rewritten
from release.wheel import Inside

TAKEN = ("verifiers", "drafters")  # names of ours that other projects' packages have on the index
PARTS = ("tests/spec", "tests/drafters", "tests/verifiers")
STRICT = ("-o", "empty_parameter_set_mark=fail_at_collect")  # tests that find no configurations must not be skipped
REFUSAL = "raise ImportError('another project\\'s package was imported: {name}')\n"
ALONE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "").lower()]
sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in repr(hook).lower()]
sys.path[:] = [place for place in sys.path if place != {root!r}]
"""


def write_tests(out: Path, house: House | None = None) -> None:
    """`out/tests/` and the settings of pytest, under the wheel's names."""
    house = house or House()
    scheme = Inside(house)
    for file in house.files(("tests",)):
        place = out / file.relative_to(house.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".py":
            place.write_text(rewritten(file.read_text(encoding="utf-8"), scheme), encoding="utf-8")
        else:
            shutil.copyfile(file, place)
    shutil.copyfile(house.root / "pyproject.toml", out / "pyproject.toml")


def install(site: Path) -> None:
    """The wheel, built and unpacked into `site`."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from release.wheel import build_wheel; build_wheel({folder!r})"  # by itself, since setuptools says much
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as archive:
            archive.extractall(site)


def put_strangers(site: Path) -> str:
    """Packages of our names beside the wheel: real ones from the index, a stand-in for each other name; returns a line about them."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(site), *TAKEN]
    real = subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
    for name in PACKAGES:
        if not (site / name).exists():
            (site / name).mkdir(parents=True)
            (site / name / "__init__.py").write_text(REFUSAL.format(name=name))
    return f"beside {' and '.join(TAKEN)} of the index" if real else "the index cannot be reached: beside stand-ins"


def environment(start: Path, places: Sequence[Path]) -> dict[str, str]:
    """Variables for a process that finds `places` before what is installed, and this checkout nowhere; `start` is a folder for its first file."""
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(ALONE.format(root=str(ROOT)))
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (start, *places)))}


def main(arguments: Sequence[str]) -> int:
    """Runs the tests; returns pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        write_tests(out)
        print(put_strangers(out / "strangers"), flush=True)
        install(out / "site")
        found = environment(out / "start", [out / "strangers", out / "site"])
        command = [
            sys.executable,
            "-P",
            "-m",
            "pytest",
            "-m",
            "not slow",
            *STRICT,
            *arguments,
            *([] if any(item.startswith("tests") for item in arguments) else PARTS),
        ]
        return subprocess.run(command, cwd=out, env=found, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
