"""Our modules: where their files are, and which names each defines."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spec", "drafters", "verifiers", "experiments", "conf")


@dataclass(frozen=True)
class House:
    """The packages of ours that lie in the folder `root`."""

    root: Path = ROOT

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Every module's file by its dotted name; a package's is its `__init__.py`."""
        found = {}
        for file in self.files(PACKAGES, ".py"):
            parts = file.relative_to(self.root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
        return found

    @cached_property
    def names(self) -> dict[str, frozenset[str]]:
        """The names that each module defines or imports at its top."""
        return {name: frozenset(defined(file.read_text(encoding="utf-8"))) for name, file in self.modules.items()}

    def files(self, packages: tuple[str, ...], suffix: str = "") -> list[Path]:
        """The files of some packages, in order of their names; what Python or an editor has left there is none."""
        found = (file for package in packages for file in (self.root / package).rglob(f"*{suffix}") if file.is_file())
        return sorted(file for file in found if not any(part == "__pycache__" or part[0] == "." for part in file.relative_to(self.root).parts))

    def split(self, dotted: str) -> tuple[str, str]:
        """The longest module in a dotted name, and the rest after its dot; the module is "" where there is none."""
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            if ".".join(parts[:count]) in self.modules:
                return ".".join(parts[:count]), ".".join(parts[count:])
        return "", dotted

    def is_ours(self, dotted: str) -> bool:
        """Whether a dotted name is a module of ours inside a package, or a name that one defines."""
        module, rest = self.split(dotted)
        return bool(module) and (rest.split(".")[0] in self.names[module] if rest else "." in module)


def defined(source: str) -> Iterator[str]:
    """Names that the top level of a source binds."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        else:
            yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store))
