"""The parameters of what a `_target_` names, read from its source, since importing it would import torch."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from experiments.parts.door.kinds import ANY, Kind, by_annotation

MAX_HOPS = 8  # imports and base classes that are followed


@dataclass(frozen=True)
class Signature:
    """Parameters by name; `takes_more` if further keywords are accepted, `about` is the first line of the docstring."""

    parameters: dict[str, Kind]
    required: frozenset[str]
    takes_more: bool
    about: str


def signature(target: str) -> Signature | None:
    """Of a class or function by its dotted name; None where the source cannot be read or does not say.

    Raises ValueError if the package is not there, or its source says that the name is not.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise ValueError(f"_target_={target}: give a dotted name, package.module.Class")
    found = _definition(module, name)
    return None if found is None else _signature(*found)


@cache
def source(module: str) -> Path | None:
    """The file of a module, found without importing its packages; None for one without source. Raises ValueError where there is no such module."""
    top, *rest = module.split(".")
    spec: ModuleSpec | None = find_spec(top)
    if spec is None:
        raise ValueError(f"there is no package or module {top!r} to import; install it, or run where it lies with PYTHONPATH=.")
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for index, part in enumerate(rest):
        if not folders:
            return None  # a module without a folder: the rest of the name is within it
        file = next((path for folder in folders for path in (folder / part / "__init__.py", folder / f"{part}.py") if path.exists()), None)
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        if file is None and not folders:
            if any(next(place.glob(f"{part}.*"), None) for place in (Path(place) for place in spec.submodule_search_locations or ())):
                return None  # compiled
            raise ValueError(f"there is no module {'.'.join([top, *rest[: index + 1]])!r}")
    return file


def _definition(module: str, name: str, hops: int = 0) -> tuple[str, ast.ClassDef | ast.FunctionDef, ast.Module] | None:
    file = source(module)
    if file is None or hops > MAX_HOPS:
        return None
    tree = _tree(file)
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return module, node, tree
    imported = [
        (node, alias) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if (alias.asname or alias.name) == name
    ]
    if imported:
        node, alias = imported[0]
        return None if node.level else _definition(node.module or "", alias.name, hops + 1)
    if any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in tree.body) or name in _assigned(tree):
        return None
    known = [node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_"]
    raise ValueError(f"module {module!r} has no {name!r}; it has {', '.join(known) or 'nothing to build'}")


@cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not Python: {error}") from error


def _assigned(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _signature(module: str, node: ast.ClassDef | ast.FunctionDef, tree: ast.Module, hops: int = 0) -> Signature | None:
    about = (ast.get_docstring(node) or "").split("\n")[0]
    if isinstance(node, ast.FunctionDef):
        return _of_arguments(node.args, about, method=False)
    makers = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
    if makers:
        return _of_arguments(makers[0].args, about, method=True)
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    own = any("dataclass" in ast.unparse(item) for item in node.decorator_list)
    parameters = {item.target.id: by_annotation(item.annotation) for item in fields if own and "ClassVar" not in ast.unparse(item.annotation)}  # pyright: ignore
    required = {item.target.id for item in fields if own and item.value is None}  # pyright: ignore[reportAttributeAccessIssue]
    for base in node.bases:
        above = _base(module, base, hops)
        if above is None:
            return None  # a base that cannot be read may take anything
        parameters, required = above.parameters | parameters, required | above.required
        if above.takes_more:
            return Signature(parameters, frozenset(required), True, about)
    return Signature(parameters, frozenset(required), False, about)


def _base(module: str, base: ast.expr, hops: int) -> Signature | None:
    name = ast.unparse(base).split("[")[0]
    if name in ("ABC", "object", "Protocol", "Generic"):
        return Signature({}, frozenset(), False, "")
    if "." in name or hops > MAX_HOPS:
        return None
    found = _definition(module, name)
    return None if found is None else _signature(*found, hops + 1)


def _of_arguments(arguments: ast.arguments, about: str, method: bool) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args][int(method) :]
    defaults = len(arguments.defaults)
    required = {item.arg for item in positional[: len(positional) - defaults]} if defaults < len(positional) else set()
    required |= {item.arg for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None}
    named = {item.arg: by_annotation(item.annotation) if item.annotation else ANY for item in [*positional, *arguments.kwonlyargs]}
    return Signature(named, frozenset(required), arguments.kwarg is not None, about)
