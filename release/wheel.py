"""The build backend (PEP 517): a wheel in which everything lies under `draftproof`, so that it takes no other package's name.

An editable install and an sdist are setuptools' own: there the folders keep their names. The wheel is built in a temporary folder from rewritten
sources. `python -m release.wheel FOLDER` writes that tree.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import build_editable, build_sdist, get_requires_for_build_editable, get_requires_for_build_sdist

from release.house import PACKAGES, House
from release.rewrite import rewritten, rewritten_yaml

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
KEPT = {  # files whose strings stay as they are, and why
    "draftproof.py": "it puts the package's name before its own table of names",
    "experiments/recording/": "names as records hold them, which are the same everywhere",
    "experiments/replay/settings.py": "a sampler as a record would hold it",
}
RECORDED_NAME = re.compile(rf"\bdraftproof\.(?=(?:{'|'.join(PACKAGES)})\b)")
MAIN = '''"""`python -m draftproof`: the command `draftproof`."""

from draftproof import main

if __name__ == "__main__":
    main()
'''
BESIDE = ("README.md", "LICENSE")  # what the metadata hold


@dataclass(frozen=True)
class Inside:
    """The names of the wheel: a module's own, in the package `draftproof`."""

    house: House

    def said(self, module: str) -> str:
        return f"draftproof.{module}"

    def place(self, module: str) -> str:
        return f"draftproof.{module}"

    def import_from(self, module: str, names: Sequence[str]) -> str:
        return f"from draftproof.{module}"

    def import_as(self, module: str, alias: str | None) -> str:
        bound = f" as {alias}" if alias else f"; from draftproof import {module.split('.')[0]}"
        return f"import draftproof.{module}{bound}"


def write_tree(out: Path, house: House | None = None) -> None:
    """The wheel's sources below `out`, with a pyproject.toml to build them by. Raises ValueError where a source could not be hashed as before."""
    house = house or House()
    scheme = Inside(house)
    for file in [house.root / "draftproof.py", *house.files(PACKAGES)]:
        name = file.relative_to(house.root).as_posix()
        place = out / "draftproof" / ("__init__.py" if name == "draftproof.py" else name)
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".py":
            place.write_text(_checked(name, file.read_text(encoding="utf-8"), scheme), encoding="utf-8")
        elif file.suffix == ".yaml":
            place.write_text(rewritten_yaml(file.read_text(encoding="utf-8"), scheme), encoding="utf-8")
        else:
            shutil.copyfile(file, place)
    (out / "draftproof" / "__main__.py").write_text(MAIN, encoding="utf-8")
    for name in BESIDE:
        shutil.copyfile(house.root / name, out / name)
    (out / "pyproject.toml").write_text(_project((house.root / "pyproject.toml").read_text(encoding="utf-8")), encoding="utf-8")


def is_kept(name: str) -> bool:
    """Whether the strings of a file, by its path in the repository, stay as they are."""
    return any(name == kept or (kept.endswith("/") and name.startswith(kept)) for kept in KEPT)


def _checked(name: str, source: str, scheme: Inside) -> str:
    """The source under its new names. Hashes of code undo them (`experiments.recording.moved.as_in_checkout`), so they must be all that differs."""
    new = rewritten(source, scheme, strings=not is_kept(name))
    if RECORDED_NAME.sub("", new) != RECORDED_NAME.sub("", source):
        raise ValueError(f"{name}: the wheel's source differs from it by more than names; import modules by `import spec.masks as masks`")
    return new


def _project(text: str) -> str:
    """The repository's pyproject.toml with the packages of the wheel in place of its own, and without the tables of other tools."""
    head, _, tools = text.partition("\n[tool.")
    own = re.search(r"^\[tool\.setuptools\.package-data\]\n((?:.+\n)*)", f"[tool.{tools}", re.MULTILINE)
    if own is None:
        raise ValueError("pyproject.toml has no table [tool.setuptools.package-data]")
    data = "".join(f'"draftproof.{line.split(" = ")[0]}" = {line.split(" = ")[1]}\n' for line in own[1].splitlines())
    return (
        f'{head}\n[tool.setuptools.dynamic]\nversion = {{attr = "draftproof.__version__"}}\n\n'
        f'[tool.setuptools.packages.find]\ninclude = ["draftproof*"]\nnamespaces = false\n\n[tool.setuptools.package-data]\n{data}'
    )


@contextmanager
def _tree() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder))
        with chdir(folder):
            yield


def build_wheel(wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None) -> str:
    """Builds the wheel from the rewritten tree; returns its file's name."""
    target = str(Path(wheel_directory).resolve())
    with _tree():
        return build_meta.build_wheel(target, config_settings)  # pyright: ignore[reportArgumentType]


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """The metadata that the wheel will have; returns the folder's name."""
    target = str(Path(metadata_directory).resolve())
    with _tree():
        return build_meta.prepare_metadata_for_build_wheel(target, config_settings)  # pyright: ignore[reportArgumentType]


def get_requires_for_build_wheel(config_settings: Mapping[str, Any] | None = None) -> list[str]:
    """Nothing but setuptools, which pyproject.toml names."""
    return []


if __name__ == "__main__":
    write_tree(Path(sys.argv[1]))
