"""The parameters of what a `_target_` names, read from its source, since importing it would import torch.

Only what the source says plainly is taken. Where it does not (decorators, several bases, names that are assigned or made under a condition, packages
without source), nothing is known here, and the object itself says what is wrong when it is built.
"""

import ast
import re
import tokenize
from dataclasses import dataclass, replace
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from experiments.parts.door.kinds import ANY, Kind, by_annotation
from experiments.recording.moved import place_of

MAX_HOPS = 8  # imports and base classes that are followed
DATACLASS = re.compile(r"(dataclasses\.)?dataclass(\(.*\))?")
OPAQUE = re.compile(r"__getattr__|globals\(\)|import \*|\bexec\(|__path__")  # a module that may have names which its source does not show


@dataclass(frozen=True)
class Signature:
    """Parameters by name; `takes_more` if further keywords are accepted, `about` is the first line of the docstring."""

    parameters: dict[str, Kind]
    required: frozenset[str]
    takes_more: bool
    about: str


def signature(target: str) -> Signature | None:
    """Of a class or function by its dotted name; None where the source does not say it plainly.

    Raises ValueError if the package is not there, or neither a module nor anything in one has the name.
    """
    module, _, name = place_of(target).rpartition(".")
    if not module or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", target):
        raise ValueError(f"_target_={target}: give a dotted name, package.module.Class")
    found = _definition(module, name)
    return None if found is None else _signature(*found)


@cache
def source(module: str) -> Path | None:
    """The file of a module, found without importing its packages; None where there is no source to read. Raises ValueError for no such module."""
    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None:
        raise ValueError(f"there is no package or module {top!r} to import; install it, or run where it lies with PYTHONPATH=.")
    file, folders = spec.origin, list(spec.submodule_search_locations or ())
    for index, part in enumerate(rest):
        if not all(Path(folder).is_dir() for folder in folders):
            return None  # in an archive, say
        found = PathFinder.find_spec(part, folders) if folders else None
        if found is None:
            above = Path(file) if file and file.endswith(".py") else None
            if above is None or part in _text(above) or OPAQUE.search(_text(above)):
                return None  # a class inside it, or what it makes when it is imported
            raise ValueError(f"there is no module {'.'.join([top, *rest[: index + 1]])!r}")
        file, folders = found.origin, list(found.submodule_search_locations or ())
    return Path(file) if file and file.endswith(".py") and Path(file).is_file() else None


@cache
def _text(file: Path) -> str:
    """A source as Python reads it. Raises ValueError for what is none."""
    try:
        with tokenize.open(file) as stream:
            return stream.read()
    except (SyntaxError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{file} is not Python: {error}") from error


@cache
def _tree(file: Path) -> ast.Module:
    try:
        return ast.parse(_text(file))
    except SyntaxError as error:
        raise ValueError(f"{file} is not Python: {error}") from error


def _definition(module: str, name: str, hops: int = 0) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """Where a name is defined, once and plainly, or imported from."""
    file = source(module)
    if file is None or hops > MAX_HOPS:
        return None
    makers = [(node, alias) for node in ast.walk(_tree(file)) for alias in _made(node) if alias.asname == name]
    if not makers:
        if re.search(rf"\b{re.escape(name)}\b", _text(file)) or OPAQUE.search(_text(file)):
            return None
        known = [node.name for node in _tree(file).body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_"]
        raise ValueError(f"module {module!r} has no {name!r}; it has {', '.join(known) or 'nothing to build'}")
    node, alias = makers[0]
    if len(makers) > 1 or node not in _tree(file).body:
        return None
    if isinstance(node, ast.ImportFrom):
        return None if node.level else _definition(node.module or "", alias.name, hops + 1)
    return (module, node) if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else None


def _made(node: ast.AST) -> list[ast.alias]:
    """The names that a statement binds, each as (what it was, what it is called)."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return [ast.alias(node.name, node.name)]
    if isinstance(node, ast.ImportFrom):
        return [ast.alias(alias.name, alias.asname or alias.name) for alias in node.names]
    return [ast.alias(node.id, node.id)] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


def _signature(module: str, node: ast.ClassDef | ast.FunctionDef, hops: int = 0) -> Signature | None:
    about = (ast.get_docstring(node) or "").split("\n")[0]
    if isinstance(node, ast.FunctionDef):
        return None if node.decorator_list else _of_arguments(node.args, about, method=False)
    decorators = [ast.unparse(item) for item in node.decorator_list]
    own = [item for item in node.body if "__init__" in _bound(item)]
    if not all(DATACLASS.fullmatch(text) for text in decorators) or node.keywords or any("__new__" in _bound(item) for item in node.body):
        return None
    if own:
        maker = own[0]
        if len(own) > 1 or not isinstance(maker, ast.FunctionDef) or maker.decorator_list:
            return None
        return _of_arguments(maker.args, about, method=True)
    above = _above(module, node, hops)
    if above is None or not decorators:
        return above and replace(above, about=about)
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    if any("KW_ONLY" in ast.unparse(item.annotation) or "InitVar" in ast.unparse(item.annotation) for item in fields):
        return None
    named = {_name(item): item for item in fields if "ClassVar" not in ast.unparse(item.annotation)}
    parameters = above.parameters | {name: _kind(item.annotation, item.value) for name, item in named.items()}
    required = (above.required - named.keys()) | {name for name, item in named.items() if item.value is None}
    return Signature(parameters, frozenset(required), above.takes_more, about)


def _name(item: ast.AnnAssign) -> str:
    assert isinstance(item.target, ast.Name)
    return item.target.id


def _bound(item: ast.stmt) -> set[str]:
    """Names that a statement of a class body binds."""
    return {alias.asname or "" for node in ast.walk(item) for alias in _made(node)} if not isinstance(item, ast.FunctionDef) else {item.name}


def _above(module: str, node: ast.ClassDef, hops: int) -> Signature | None:
    """The signature that a class inherits; of `object` where it has no base. None where it cannot be read plainly."""
    names = [name for base in node.bases if (name := ast.unparse(base).split("[")[0]) not in ("object", "Generic")]
    if not names:
        return Signature({}, frozenset(), False, "")
    if names == ["ABC"]:
        return Signature({}, frozenset(), False, "")
    if len(names) > 1 or "." in names[0] or hops > MAX_HOPS:
        return None
    try:
        found = _definition(module, names[0])
    except ValueError:
        return None  # a builtin
    return _signature(*found, hops + 1) if found is not None and isinstance(found[1], ast.ClassDef) else None


def _of_arguments(arguments: ast.arguments, about: str, method: bool) -> Signature:
    positional = [*arguments.posonlyargs, *arguments.args][int(method) :]
    filled = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(positional, filled, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    named = {item.arg: _kind(item.annotation, default) for item, default in pairs}
    return Signature(named, frozenset(item.arg for item, default in pairs if default is None), arguments.kwarg is not None, about)


def _kind(annotation: ast.expr | None, default: ast.expr | None) -> Kind:
    """What a parameter takes: what its annotation says, and its own default."""
    kind = by_annotation(annotation) if annotation is not None else ANY
    return replace(kind, null=True) if isinstance(default, ast.Constant) and default.value is None else kind
