"""The wheel's sources: everything of ours is there, compiles, and names our packages inside `draftproof` only."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.recording.moved import as_in_checkout
from release.house import PACKAGES, House
from release.wheel import KEPT, Inside, is_kept, write_tree

ROOT = Path(__file__).resolve().parents[2]
LEFT_OVER = re.compile(rf"(?:{'|'.join(PACKAGES)})[.:]\w")


def leftovers(source: str, strings: bool) -> Iterator[str]:
    """Imports of our packages by their old names, and strings that begin with one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES and node.level == 0:
            yield node.module or ""
        elif strings and isinstance(node, ast.Constant) and isinstance(node.value, str) and LEFT_OVER.match(node.value):
            yield node.value


def test_leftovers_are_found() -> None:
    source = "import spec.tree\nfrom drafters import none\nx = ['drafters.none', 'verifiers.greedy:Greedy', 'our drafters.', 'draftproof.spec']\n"
    assert list(leftovers(source, strings=True)) == ["spec.tree", "drafters", "drafters.none", "verifiers.greedy:Greedy"]


def test_no_old_name_is_left_in_code(tree: Path) -> None:
    files = {file.relative_to(tree / "draftproof").as_posix(): file for file in (tree / "draftproof").rglob("*.py")}
    assert len(files) > 250
    found = {name: list(leftovers(file.read_text(encoding="utf-8"), strings=not is_kept(name))) for name, file in files.items()}
    assert {name: old for name, old in found.items() if old and name != "__init__.py"} == {}
    assert list(leftovers(files["__init__.py"].read_text(encoding="utf-8"), strings=False)) == []


def test_no_old_name_is_left_in_a_configuration(tree: Path) -> None:
    texts = [file.read_text(encoding="utf-8") for file in (tree / "draftproof" / "conf").rglob("*.yaml")]
    targets = [name for text in texts for name in re.findall(r"_target_: *([\w.]+)", text)]
    assert len(targets) > 40
    assert [name for name in targets if not name.startswith("draftproof.")] == []
    assert [text for text in texts if re.search(r"(?<![\w.])experiments\.\w", text)] == []


def test_files_whose_strings_stay_exist_and_have_such_strings() -> None:
    for name in KEPT:
        files = (ROOT / name).rglob("*.py") if name.endswith("/") else [ROOT / name]
        assert any(LEFT_OVER.search(file.read_text(encoding="utf-8")) for file in files), name


def test_every_file_is_there_and_compiles(tree: Path) -> None:
    inside = {file.relative_to(tree / "draftproof").as_posix() for file in (tree / "draftproof").rglob("*") if file.is_file()}
    assert inside == {file.relative_to(ROOT).as_posix() for file in House().files(PACKAGES)} | {"__init__.py", "__main__.py"}
    for file in (tree / "draftproof").rglob("*.py"):
        compile(file.read_text(encoding="utf-8"), file, "exec")


def test_hashes_undo_the_names_and_nothing_else(tree: Path) -> None:
    for file in House().files(PACKAGES, ".py"):
        new = (tree / "draftproof" / file.relative_to(ROOT)).read_bytes()
        assert as_in_checkout(new) == as_in_checkout(file.read_bytes()), file
    assert as_in_checkout(b"from draftproof.spec.tree import x") == b"from spec.tree import x"
    assert as_in_checkout(b"draftproof.special, draftproof spec") == b"draftproof.special, draftproof spec"


def test_a_source_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spec").mkdir()
    (tmp_path / "draftproof.py").write_text("__version__ = '0'\n")
    (tmp_path / "spec" / "__init__.py").write_text("import spec.tree\n")
    with pytest.raises(ValueError, match=r"spec/__init__\.py: .* by `import spec\.masks as masks`"):
        write_tree(tmp_path / "out", House(tmp_path))


def test_the_project_is_the_same_but_for_its_packages(tree: Path) -> None:
    own, built = (tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")) for folder in (ROOT, tree))
    assert built["project"] == own["project"]
    data = own["tool"]["setuptools"]["package-data"]
    assert built["tool"]["setuptools"]["package-data"] == {f"draftproof.{name}": patterns for name, patterns in data.items()}
    assert Inside(House()).said("spec") == "draftproof.spec"


def test_the_core_needs_two_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [re.match(r"\w+", item)[0] for item in project["dependencies"]] == ["torch", "transformers"]  # pyright: ignore[reportOptionalSubscript]
