"""Every name of our packages that documents, notebooks, configurations, comments and messages mention is one that exists."""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.parts.door.jobs import JOBS

ROOT = Path(__file__).resolve().parents[1]
OLD = ("CHANGELOG.md", "experiments/recording/moved.py")  # these speak of names of earlier versions
TEXTS = ("*.md", "*.toml", "Makefile", "docs/*.md", "conf/**/*.yaml", "notebooks/*.ipynb", "spec/**/*.md", "spec/**/*.py", "experiments/**/*.py")
FOUND = sorted(path for pattern in TEXTS for path in ROOT.glob(pattern) if "records" not in path.relative_to(ROOT).parts)
FILES = [path for path in FOUND if path.relative_to(ROOT).as_posix() not in OLD]
INVENTED = ("mine.py", "mine.yaml")  # the file of a reader who adds a method
JOB = re.compile(r"(?<![\w./-])(?<!from )draftproof (?!JOB\b)([A-Za-z_]\w*)")
COMMAND = re.compile(r"python -m ((?:experiments|spec|drafters|verifiers)[\w.]*\w)")
DOTTED = re.compile(r"(?<![\w./])experiments(?:\.[A-Za-z_]\w*)+(?![\w/])")
PATHS = re.compile(r"(?<![\w/])(?:experiments|tests|spec|drafters|verifiers|conf|docs)(?:/[\w.-]+)+/?")


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = find_spec(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        if found is not None:
            held = importlib.import_module(found.name) if count < len(parts) else None
            return count == len(parts) or hasattr(held, parts[count])
    return False


def is_command(name: str) -> bool:
    found = find_spec(name) if exists(name) else None
    if found is not None and found.submodule_search_locations is not None:
        found = find_spec(f"{name}.__main__")
    return found is not None and "__main__" in Path(found.origin or "").name + Path(found.origin or "").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["experiments.nowhere", "experiments.run.nothing", "experiments.parts.data"])
def test_what_is_no_command_is_found(name: str) -> None:
    assert not is_command(name)


def test_every_command_that_is_named_exists() -> None:
    named = {(path.name, name) for path in FILES for name in COMMAND.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 30
    assert [f"{file}: {name}" for file, name in sorted(named) if not is_command(name)] == []


def test_every_job_that_is_named_exists() -> None:
    """`draftproof JOB`, in texts, comments, messages and the examples of `--help`."""
    named = {(path.name, name) for path in FILES for name in JOB.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 30
    assert [f"{file}: draftproof {name}" for file, name in sorted(named) if name not in JOBS] == []
    assert JOB.findall("`draftproof rnu drafter=x`, from draftproof import x, a/draftproof one, draftproof JOB") == ["rnu"]


def test_every_dotted_name_exists() -> None:
    named = {(path.name, name) for path in FILES for name in DOTTED.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 200
    assert [f"{file}: {name}" for file, name in sorted(named) if not exists(name) and not name.endswith(".md")] == []


def test_every_path_exists() -> None:
    named = {(path.name, name) for path in FILES for name in PATHS.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 10
    found = {
        (file, name) for file, name in named if any((ROOT / f"{name.rstrip('.')}{end}").exists() for end in ("", "-light.svg"))
    }  # a picture's base
    assert [f"{file}: {name}" for file, name in sorted(named - found) if not name.endswith(INVENTED)] == []
