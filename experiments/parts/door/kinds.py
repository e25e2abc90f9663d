"""What values a setting takes: made from a few words in a comment of `conf/`, from a Python annotation, or from the default."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

Accepts = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


PLAIN: dict[str, tuple[str, Accepts]] = {  # name of a kind: (what to give, which values)
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "str": ("text", lambda value: isinstance(value, str)),
    "list": ("a list", lambda value: isinstance(value, Sequence) and not isinstance(value, str)),
    "dict": ("a mapping", lambda value: isinstance(value, Mapping)),
    "path": ("a file or folder that exists", lambda value: isinstance(value, str) and Path(value).expanduser().exists()),
    "any": ("anything", lambda _: True),
}
WORDS = {
    "whole number": "int",
    "number": "float",
    "text": "str",
    "true or false": "bool",
    "existing path": "path",
    "mapping": "dict",
    "list": "list",
}
PLURALS = {"whole numbers": "int", "numbers": "float", "texts": "str", "lists of whole numbers": "list"}


@dataclass(frozen=True)
class Kind:
    """One setting's values: `name` of `PLAIN`, a range, choices, the kind of a list's items, and whether null will do."""

    name: str = "any"
    least: float = -inf
    most: float = inf
    open_ends: bool = False  # the ends of the range are not in it
    choices: tuple[str, ...] = ()
    items: "Kind | None" = None
    null: bool = False
    word: str | None = None  # that will do as well, such as "auto"

    def accepts(self, value: Any) -> bool:
        """Whether a value of a configuration is one of this kind. Missing values and interpolations are looked at elsewhere."""
        if value is None:
            return self.null
        if self.word is not None and value == self.word:
            return True
        if self.choices:
            return str(value).lower() in self.choices if isinstance(value, bool) else isinstance(value, str) and value in self.choices
        if not PLAIN[self.name][1](value):
            return False
        if self.items is not None and self.name == "list":
            return all(self.items.accepts(item) for item in value)
        if self.name in ("int", "float"):
            return self.least < value < self.most if self.open_ends else self.least <= value <= self.most
        return True

    def __str__(self) -> str:
        """What to give, for an error line."""
        if self.choices:
            text = f"one of {', '.join(self.choices)}"
        elif self.name == "list" and self.items is not None:
            text = f"a list, each item {self.items}"
        else:
            text = PLAIN[self.name][0] + self._range()
        return text + (f" or {self.word}" if self.word else "") + (" or null" if self.null else "")

    def _range(self) -> str:
        number = lambda value: f"{int(value):,}" if value >= 1e6 else f"{value:g}"  # noqa: E731
        low, high = (None if value in (inf, -inf) else number(value) for value in (self.least, self.most))
        if low is not None and high is not None:
            return f" between {low} and {high}, both excluded" if self.open_ends else f" from {low} to {high}"
        if low is not None:
            return f" above {low}" if self.open_ends else f" of at least {low}"
        return "" if high is None else f" below {high}" if self.open_ends else f" of at most {high}"


ANY = Kind()


def by_value(value: Any) -> Kind:
    """The kind of a default. A null says nothing about other values, nor does what stands for another setting."""
    if isinstance(value, str) and "${" in value:
        return Kind(null=True)
    for name in ("bool", "int", "float", "str", "list", "dict"):
        if PLAIN[name][1](value):
            return Kind(name)
    return Kind(null=True)


def by_comment(comment: str, default: Any) -> Kind | None:
    """The kind in the first clause of a comment, up to `;` or `:`; None where that is prose, or does not take the default.

    `from 1 to 64`, `from 1 to 64, or auto`, `whole number from 1, or null`,
    `above 0, below 1`, `one of a, b, c`, `list of whole numbers from 1`, `list of any of a, b`.
    """
    kind = _said(re.split(r"[;:]", comment, maxsplit=1)[0].strip(), default)
    open_default = default is None or default == "???" or (isinstance(default, str) and "${" in default)
    return kind if kind is None or open_default or kind.accepts(default) else None


def _said(clause: str, default: Any) -> Kind | None:
    null = default is None
    if clause.endswith(", or null"):
        clause, null = clause.removesuffix(", or null"), True
    if found := re.fullmatch(r"(from .+), or ([a-z]+)", clause):
        inner = _said(found[1], 1 if isinstance(default, str) else default)  # a word says nothing about the numbers that may stand in its place
        return None if inner is None else replace(inner, null=null, word=found[2])
    if found := re.fullmatch(r"list of any of (.+)", clause):
        return Kind("list", items=Kind(choices=_names(found[1])), null=null)
    if found := re.fullmatch(rf"list of ({'|'.join(sorted(PLURALS, key=len, reverse=True))})\b ?(.*)", clause):
        inner = _ranged(Kind(PLURALS[found[1]]), found[2])
        return None if inner is None else Kind("list", items=inner, null=null)
    if found := re.fullmatch(r"one of (.+)", clause):
        return Kind(choices=_names(found[1]), null=null)
    word = next((word for word in sorted(WORDS, key=len, reverse=True) if re.match(rf"{word}\b", clause)), "")
    base = Kind(WORDS[word]) if word else by_value(default)
    if base.name == "any" and not word:
        base = Kind("float")  # nothing but a range is said
    ranged = _ranged(base, clause.removeprefix(word).strip())
    return None if ranged is None or (not word and not clause) else replace(ranged, null=null)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _ranged(kind: Kind, text: str) -> Kind | None:
    """The kind with the range that a text says; None if the text says none. An empty text leaves it as it is."""
    number = r"(-?[\d_.]+(?:e[+-]?\d+)?)"
    if not text:
        return kind
    for pattern, open_ends in ((rf"from {number}(?: to {number})?", False), (rf"above {number}(?:, below {number})?", True)):
        if found := re.fullmatch(pattern, text):
            return replace(kind, least=float(found[1]), most=inf if found[2] is None else float(found[2]), open_ends=open_ends)
    if found := re.fullmatch(rf"to {number}", text):
        return replace(kind, most=float(found[1]))
    return None


def by_annotation(node: ast.expr | None) -> Kind:
    """The kind that a parameter's annotation says, as far as plain values go; anything for what is no plain type."""
    if node is None:
        return ANY
    if isinstance(node, ast.Constant):
        return Kind(null=True) if node.value is None else by_annotation(_quoted(node.value))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _either(by_annotation(node.left), by_annotation(node.right), node)
    if isinstance(node, ast.Subscript):
        return _generic(ast.unparse(node.value).split(".")[-1], node.slice)
    name = ast.unparse(node).split(".")[-1]
    return Kind({"int": "int", "float": "float", "bool": "bool", "str": "str"}.get(name, "any"), null=name == "Any")


def _quoted(text: Any) -> ast.expr | None:
    """An annotation in quotes; None where it is no expression."""
    try:
        return ast.parse(text, mode="eval").body if isinstance(text, str) else None
    except SyntaxError:
        return None


def _either(left: Kind, right: Kind, node: ast.BinOp) -> Kind:
    """A union: with None it is the other kind or null; of two kinds anything that either takes, which is not told apart here."""
    if isinstance(node.right, ast.Constant) and node.right.value is None:
        return replace(left, null=True)
    if isinstance(node.left, ast.Constant) and node.left.value is None:
        return replace(right, null=True)
    return Kind(null=left.null or right.null)


def _generic(name: str, inner: ast.expr) -> Kind:
    if name == "Literal":
        values = [item.value for item in (inner.elts if isinstance(inner, ast.Tuple) else [inner]) if isinstance(item, ast.Constant)]
        texts = tuple(value for value in values if isinstance(value, str))
        return Kind(choices=texts) if len(texts) == len(values) else Kind(null=True)
    if name == "Optional":
        return replace(by_annotation(inner), null=True)
    if name in ("Sequence", "list", "tuple", "Iterable"):
        several = isinstance(inner, ast.Tuple) and ast.unparse(inner.elts[-1]) != "..."
        return Kind("list") if several else Kind("list", items=by_annotation(inner.elts[0] if isinstance(inner, ast.Tuple) else inner))
    return Kind("dict") if name in ("Mapping", "dict") else Kind(null=True)


def shown(value: Any) -> str:
    """A value as it is written on a command line."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(shown, value))}]"
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
