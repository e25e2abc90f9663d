"""The floor plan as a test: which file may import what, and how long a file may be."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("spec", "drafters", "verifiers", "experiments", "conf", "release", "tests")
MAY_IMPORT = {  # what of ours each part may import
    "spec": {"spec"},
    "drafters": {"spec"},
    "verifiers": {"spec"},
    "conf": set(),
    "experiments": {"spec", "drafters", "verifiers", "experiments", "conf"},
    "release": {"release"},  # and nothing else but the standard library and setuptools
    "tests": set(PARTS),
}
SPEC_ORDER = [  # a file imports files of earlier lines only
    {"tree", "arguments", "mass", "checkpoint", "named", "reach", "once", "native", "attention", "costs"},
    {"store", "converted"},
    {"types", "loading", "auto", "windows"},
    {"noise", "residual", "checks", "tokenizer_files"},
    {"chains", "probe", "vocabulary"},
    {"sampling", "cache", "servable"},
    {"masks", "runtime", "rows", "prefill"},
    {"state", "lean"},
    {"model"},
    {"assistant"},
    {"growth", "stopping"},
    {"interfaces", "stats"},
    {"batches", "assisted", "kept", "trial"},
    {"decode"},
    {"generate"},
]
EXPERIMENTS_ORDER = [  # a room of experiments/ imports rooms of earlier lines only; `cost` runs the main job for a sweep of its own
    {"recording"},
    {"analysis"},
    {"parts"},
    {"training", "lossless"},  # `lossless` below `run`, which may have its own combination judged
    {"run", "replay", "bench"},
    {"report", "cost"},
]
ONLY_IN = {  # third-party packages with a fixed place; tests may import them all
    "wandb": ("experiments/parts/tracking/",),
    "datasets": ("experiments/parts/data/sources.py",),
    "scipy": ("experiments/",),
    "hydra": ("experiments/parts/build.py", "experiments/parts/command.py", "experiments/parts/door/"),
    "omegaconf": ("experiments/",),
    "setuptools": ("release/wheel.py",),
}
CORE_NEEDS = {"torch", "transformers"}
DOOR = "experiments/__main__.py"  # opens the door in `parts`
MAX_LINES, MAX_ROOMS, MAX_FLOORS, MAX_ARROWS = 300, 15, 6, 50

FILES = sorted(path.relative_to(ROOT).as_posix() for part in PARTS for path in (ROOT / part).rglob("*.py"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(node: ast.AST) -> Iterator[str]:
    """Dotted names of the modules imported anywhere below `node`; imports that only a type checker sees do not count."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield "." * child.level + (child.module or "")
        elif not is_type_checking(child):
            yield from imports(child)


def spec_level(module: str) -> int:
    return next((level for level, names in enumerate(SPEC_ORDER) if module in names), -1)


def spec_unit(file: str) -> str:
    """A file of spec/ or a folder in it, which stands in the order as a whole."""
    return file.split("/")[1].removesuffix(".py")


def stands_before(module: str, unit: str) -> bool:
    return (module == unit and (ROOT / "spec" / unit).is_dir()) or 0 <= spec_level(module) < spec_level(unit)


def room(name: str) -> str:
    """The room of a file or a module of experiments/; "" for one that lies in none."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    if parts[0] != "experiments":
        return ""
    return parts[1] if len(parts) > 2 or (len(parts) == 2 and room_level(parts[1]) >= 0) else ""


def room_level(name: str) -> int:
    return next((level for level, names in enumerate(EXPERIMENTS_ORDER) if name in names), -1)


def is_below(module: str, file: str) -> bool:
    """Whether a file of experiments/ may import a module of experiments/: one of its own room, or of a room on a lower floor."""
    own, other = room(file), room(module)
    return own == other != "" or 0 <= room_level(other) < room_level(own)


def violations(file: str, source: str) -> list[str]:
    """What is wrong with the imports of `file`, a path relative to the repository."""
    part, stem, found = file.split("/")[0], Path(file).stem, []
    for module in imported_by(source):
        top, _, rest = module.partition(".")
        if module.startswith("."):
            found.append(f"{file}: relative import {module}")
        elif top in PARTS and top not in MAY_IMPORT[part]:
            found.append(f"{file}: {part} may not import {module}")
        elif part == top == "spec" and stem != "__init__" and not stands_before(rest.split(".")[0], spec_unit(file)):
            found.append(f"{file}: {module} does not stand before {spec_unit(file)} in the order of spec")
        elif part == top == "experiments" and file != DOOR and not is_below(module, file):
            found.append(f"{file}: {module} is not in a room below {room(file) or 'it'}")
        elif part != "tests" and top in ONLY_IN and not file.startswith(ONLY_IN[top]):
            found.append(f"{file}: {top} belongs in {' or '.join(ONLY_IN[top])}")
        elif part in ("spec", "drafters", "verifiers") and not is_known_to_core(top):
            found.append(f"{file}: the core needs nothing but {', '.join(sorted(CORE_NEEDS))}, not {module}")
        elif part == "release" and top not in {*sys.stdlib_module_names, "release", "setuptools"}:
            found.append(f"{file}: release/ is run where nothing is installed, not even {module}")
    return found


def is_known_to_core(top: str) -> bool:
    return top in sys.stdlib_module_names or top in CORE_NEEDS or top in PARTS


@cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


@cache
def imported_by(source: str) -> tuple[str, ...]:
    """Dotted names of the modules that a text imports, in order."""
    return tuple(sorted(set(imports(ast.parse(source)))))


def test_imports_follow_the_floor_plan():
    assert [problem for file in FILES for problem in violations(file, text_of(file))] == []


def test_files_are_short():
    lines = {file: len(text_of(file).splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > MAX_LINES} == {}


def test_every_room_has_its_place_in_the_order():
    folders = {file.split("/")[1] for file in FILES if file.startswith("experiments/") and file.count("/") > 1}
    assert folders == set().union(*EXPERIMENTS_ORDER)


def test_no_file_lies_outside_the_rooms():
    assert [file for file in FILES if file.startswith("experiments/") and file.count("/") == 1] == [
        "experiments/__init__.py",
        "experiments/__main__.py",
    ]


def test_every_room_says_what_lives_there():
    """In each `__init__.py`, which also makes the folder a package: what it is for, and what it may import or who may import it."""
    folders = sorted({Path(file).parent.as_posix() for file in FILES if file.startswith("experiments/")})
    told = {folder: ast.get_docstring(ast.parse(text_of(f"{folder}/__init__.py"))) or "" for folder in folders}
    assert [folder for folder, text in told.items() if len(text.split("\n\n")) < 2 or "mport" not in text] == []


def test_tests_lie_in_the_room_of_what_they_test():
    rooms = set().union(*EXPERIMENTS_ORDER)
    folders = {file: file.split("/")[2] for file in FILES if file.startswith("tests/experiments/") and Path(file).name.startswith("test_")}
    assert {file: folder for file, folder in folders.items() if folder not in rooms} == {}


def test_the_house_stays_small_enough_to_walk_through():
    """Rooms: those of experiments/ and the three libraries. Arrows: imports of one room by another, counted once. Floors: the longest way down."""
    rooms = set().union(*EXPERIMENTS_ORDER) | {"spec", "drafters", "verifiers"}
    arrows = set()
    for file in (file for file in FILES if file != DOOR and file.split("/")[0] in ("spec", "drafters", "verifiers", "experiments")):
        own = room(file) or file.split("/")[0]
        others = {room(module) or module.split(".")[0] for module in imported_by(text_of(file))}
        arrows |= {(own, other) for other in others & rooms if other != own}
    floors: dict[str, int] = {}
    while any(name not in floors for name in rooms):  # ends, since no arrow runs upward
        for name in sorted(rooms - floors.keys()):
            below = {other for own, other in arrows if own == name}
            if below <= floors.keys():
                floors[name] = 1 + max((floors[other] for other in below), default=0)
    assert len(rooms) <= MAX_ROOMS
    assert max(floors.values()) <= MAX_FLOORS, floors
    assert len(arrows) <= MAX_ARROWS, sorted(arrows)


def test_every_spec_file_has_its_place_in_the_order():
    units = {spec_unit(file) for file in FILES if file.startswith("spec/")} - {"__init__"}
    assert units == set().union(*SPEC_ORDER)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("spec/tree.py", "import drafters.jacobi"),
        ("spec/tree.py", "from spec.types import Draft"),
        ("spec/types.py", "from spec import decode"),
        ("spec/cache.py", "def later():\n    from spec.decode import decode"),
        ("spec/model.py", "import numpy"),
        ("spec/model.py", "from .cache import KVCache"),
        ("drafters/a.py", "from drafters.b import B"),
        ("drafters/a.py", "import verifiers.greedy"),
        ("verifiers/a.py", "from verifiers import recursive"),
        ("verifiers/a.py", "import experiments.run"),
        ("drafters/a.py", "import hydra"),
        ("experiments/recording/record.py", "import hydra"),
        ("experiments/run/__main__.py", "import hydra\nif __name__ == '__main__':\n    pass"),
        ("experiments/run/job.py", "import wandb"),
        ("experiments/run/job.py", "from datasets import load_dataset"),
        ("spec/sampling.py", "from scipy import stats"),
        ("experiments/recording/a.py", "from experiments.analysis.tables import render"),
        ("experiments/run/a.py", "from experiments.bench import slots"),
        ("experiments/bench/a.py", "import experiments.report.plots"),
        ("experiments/run/a.py", "from experiments import cost"),
        ("experiments/run/a.py", "from experiments.unknown import x"),
        ("release/hub.py", "from spec.named import DRAFTERS"),
        ("release/hub.py", "import torch"),
        ("release/hub.py", "import setuptools"),
    ],
)
def test_a_wrong_import_is_found(file, source):
    assert violations(file, source) != []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("spec/interfaces.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from spec.generate import speculative"),
        ("spec/types.py", "import torch\nfrom spec.tree import depths"),
        ("drafters/a.py", "from transformers import AutoModel\nfrom spec import Draft"),
        ("experiments/parts/build.py", "import hydra\nfrom omegaconf import DictConfig"),
        ("tests/experiments/parts/test_tracking.py", "import wandb"),
        ("experiments/cost/a.py", "from experiments.run import job"),
        ("experiments/run/a.py", "from experiments.run.job import execute"),
        ("release/wheel.py", "import re\nfrom setuptools import build_meta\nfrom release.house import House"),
    ],
)
def test_a_right_import_is_let_through(file, source):
    assert violations(file, source) == []
