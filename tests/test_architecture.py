"""The floor plan as a test: which file may import what, and how long a file may be."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("spec", "drafters", "verifiers", "experiments", "conf", "tests")
MAY_IMPORT = {  # what of ours each part may import
    "spec": {"spec"},
    "drafters": {"spec"},
    "verifiers": {"spec"},
    "conf": set(),
    "experiments": {"spec", "drafters", "verifiers", "experiments", "conf"},
    "tests": set(PARTS),
}
SPEC_ORDER = [  # a file imports files of earlier lines only
    {"tree", "arguments", "mass"},
    {"types"},
    {"noise", "residual", "checks"},
    {"chains", "probe"},
    {"sampling", "cache", "servable"},
    {"masks", "runtime"},
    {"state"},
    {"model"},
    {"assistant"},
    {"growth", "stopping"},
    {"interfaces", "stats"},
    {"batches"},
    {"decode"},
    {"generate"},
]
ONLY_IN = {  # third-party packages with a fixed place; tests may import them all
    "wandb": ("experiments/tracking",),  # tracking.py and its parts
    "datasets": ("experiments/data.py",),
    "scipy": ("experiments/",),
    "hydra": ("experiments/",),
    "omegaconf": ("experiments/",),
}
HYDRA_KNOWN = ("experiments/build.py", "experiments/exactness/sweeps.py")  # besides entry points: it makes objects from YAML, it is called by Hydra
CORE_NEEDS = {"torch", "transformers"}
MAX_LINES = 300

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


def is_entry_point(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


def spec_level(module: str) -> int:
    return next((level for level, names in enumerate(SPEC_ORDER) if module in names), -1)


def violations(file: str, source: str) -> list[str]:
    """What is wrong with the imports of `file`, a path relative to the repository."""
    tree = ast.parse(source)
    part, stem, found = file.split("/")[0], Path(file).stem, []
    for module in sorted(set(imports(tree))):
        top, _, rest = module.partition(".")
        if module.startswith("."):
            found.append(f"{file}: relative import {module}")
        elif top in PARTS and top not in MAY_IMPORT[part]:
            found.append(f"{file}: {part} may not import {module}")
        elif part == top == "spec" and stem != "__init__" and not 0 <= spec_level(rest.split(".")[0]) < spec_level(stem):
            found.append(f"{file}: {module} does not stand before {stem} in the order of spec")
        elif part != "tests" and top in ONLY_IN and not file.startswith(ONLY_IN[top]):
            found.append(f"{file}: {top} belongs in {' or '.join(ONLY_IN[top])}")
        elif part == "experiments" and top == "hydra" and file not in HYDRA_KNOWN and not is_entry_point(tree):
            found.append(f"{file}: hydra belongs in entry points and {' and '.join(HYDRA_KNOWN)}")
        elif part in ("spec", "drafters", "verifiers") and not is_known_to_core(top):
            found.append(f"{file}: the core needs nothing but {', '.join(sorted(CORE_NEEDS))}, not {module}")
    return found


def is_known_to_core(top: str) -> bool:
    return top in sys.stdlib_module_names or top in CORE_NEEDS or top in PARTS


@pytest.mark.parametrize("file", FILES)
def test_imports_follow_the_floor_plan(file):
    assert violations(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("file", FILES)
def test_file_is_short(file):
    assert len((ROOT / file).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_spec_file_has_its_place_in_the_order():
    stems = {path.stem for path in (ROOT / "spec").glob("*.py")} - {"__init__"}
    assert stems <= set().union(*SPEC_ORDER)


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
        ("experiments/records.py", "import hydra"),
        ("experiments/run.py", "import wandb"),
        ("experiments/run.py", "from datasets import load_dataset"),
        ("spec/sampling.py", "from scipy import stats"),
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
        ("experiments/run.py", "import hydra\nif __name__ == '__main__':\n    pass"),
        ("experiments/build.py", "import hydra\nfrom omegaconf import DictConfig"),
        ("tests/experiments/test_tracking.py", "import wandb"),
    ],
)
def test_a_right_import_is_let_through(file, source):
    assert violations(file, source) == []
