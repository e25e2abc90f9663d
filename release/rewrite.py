"""Gives our modules other names in a source: in its imports, and where a string or a comment names one.

The rule for strings: `package.module`, with or without a name that this module defines, is a name of ours. So `another drafter.` is none, and neither
is `drafters.oracle.acceptance`, a setting. Positions come from Python's own parser and tokenizer; all other text stays as it is.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from release.house import PACKAGES, House

DOTTED = re.compile(rf"(?<![\w./@-])(?:{'|'.join(PACKAGES)})(?:\.[A-Za-z_]\w*)+")
PLACE = re.compile(rf"(?<=[\"'])(?:{'|'.join(PACKAGES)})(?:\.\w+)*(?=:\w)")  # "drafters.none:NoDraft", the whole of a string
COMMAND = re.compile(r"(?<=python -m )experiments\b(?!\.)")
TARGET = re.compile(rf"(?<=_target_: )(?:{'|'.join(PACKAGES[:4])})\.[\w.]+")
IN_TEXT = tuple(number for name in ("STRING", "COMMENT", "FSTRING_MIDDLE") if (number := getattr(tokenize, name, None)) is not None)


@dataclass(frozen=True)
class Edit:
    """`new` stands for the characters from `start` to `end`."""

    start: int
    end: int
    new: str


class Scheme(Protocol):
    """Which names our modules get."""

    @property
    def house(self) -> House: ...

    def said(self, module: str) -> str:
        """How a text names a module."""
        ...

    def place(self, module: str) -> str:
        """How "module:name" names it, by which it is imported at run time."""
        ...

    def import_from(self, module: str, names: Sequence[str]) -> str:
        """The words `from module` before `import names`. Raises ValueError for an import that cannot be had in this form."""
        ...

    def import_as(self, module: str, alias: str | None) -> str:
        """`import module as alias`, or `import module` with the name that it binds. Raises ValueError as `import_from`."""
        ...


def rewritten(source: str, scheme: Scheme, strings: bool = True) -> str:
    """A Python source under other names. With `strings=False` only its imports get them. Raises SyntaxError for what is no Python."""
    edits = [*_imports(source, scheme), *(_texts(source, scheme) if strings else ())]
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        source = source[: edit.start] + edit.new + source[edit.end :]
    return source


def rewritten_yaml(text: str, scheme: Scheme) -> str:
    """A configuration under other names: its `_target_`s, and modules of experiments/ anywhere. `drafters.none` may be a setting there."""
    text = COMMAND.sub(lambda found: scheme.said(found[0]), TARGET.sub(lambda found: scheme.said(found[0]), text))
    return DOTTED.sub(lambda found: renamed(found[0], scheme) if found[0].startswith("experiments.") else found[0], text)


def renamed(dotted: str, scheme: Scheme) -> str:
    """A dotted name, under its other name if it is one of ours."""
    if not scheme.house.is_ours(dotted):
        return dotted
    module, rest = scheme.house.split(dotted)
    return scheme.said(module) + (f".{rest}" if rest else "")


def _imports(source: str, scheme: Scheme) -> Iterator[Edit]:
    starts = _line_starts(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _top(node.module or "") in PACKAGES:
            start, end = _span(source, starts, node)
            first = re.match(r"from\s+[\w.]+", source[start:end])
            assert node.module is not None
            assert first is not None
            yield Edit(start, start + first.end(), scheme.import_from(node.module, [alias.name for alias in node.names]))
        elif isinstance(node, ast.Import) and any(_top(alias.name) in PACKAGES for alias in node.names):
            own = [scheme.import_as(item.name, item.asname) if _top(item.name) in PACKAGES else _plain(item) for item in node.names]
            yield Edit(*_span(source, starts, node), "; ".join(own))


def _plain(alias: ast.alias) -> str:
    return f"import {alias.name} as {alias.asname}" if alias.asname else f"import {alias.name}"


def _top(module: str) -> str:
    return module.split(".")[0]


def _texts(source: str, scheme: Scheme) -> Iterator[Edit]:
    starts = _line_starts(source)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in IN_TEXT:
            line, column = token.start
            new = _text(token.string, scheme)
            if new != token.string:
                yield Edit(starts[line - 1] + column, starts[line - 1] + column + len(token.string), new)


def _text(text: str, scheme: Scheme) -> str:
    """A string or comment; of an f-string only what stands outside its braces, since the rest is code."""
    prefix = re.match(r"[A-Za-z]*(?=['\"])", text)
    if prefix is None or "f" not in prefix[0].lower():
        return _prose(text, scheme)
    parts = re.split(r"(\{\{|\}\}|\{|\})", text)
    depth, found = 0, []
    for part in parts:
        depth += (part == "{") - (part == "}")
        found.append(_prose(part, scheme) if depth == 0 else part)
    return "".join(found)


def _prose(text: str, scheme: Scheme) -> str:
    text = PLACE.sub(lambda found: scheme.place(found[0]) if found[0] in scheme.house.modules else found[0], text)
    return DOTTED.sub(lambda found: renamed(found[0], scheme), COMMAND.sub(lambda found: scheme.said(found[0]), text))


def _line_starts(source: str) -> list[int]:
    return [0, *accumulate(len(line) + 1 for line in source.split("\n"))]


def _span(source: str, starts: list[int], node: ast.stmt) -> tuple[int, int]:
    """A statement's place in characters; the parser counts bytes of a line."""
    places = ((node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset))
    lines = source.encode().split(b"\n")
    first, last = (starts[line - 1] + len(lines[line - 1][:column].decode()) for line, column in places)
    return first, last
