"""Which column of a data set holds what: a row becomes an id, a category and one or more turns, and what is wrong with it is said by its place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any

TEXT_FIELDS = ("turns", "prompt", "question", "text")
ID_FIELDS = ("id", "question_id", "task_id")
ROLES = ("id", "category", "prompt")  # of columns, besides the fields of a template


@dataclass(frozen=True)
class Row:
    """One row of a data set. `where` names it in messages, such as `file:line`; `number` counts from 0."""

    where: str
    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Columns:
    """Which column holds what.

    `columns` maps `id`, `category`, `prompt` and the fields of the template to columns. A role that is not in it is found by the usual names; one
    that is mapped to None is taken from elsewhere: the id is the row's number, the category is `label`. A template makes a prompt of its fields,
    `{article}`; without one the column of the prompt holds a text, or a list of turns of which the first `turns` are taken (None: all).
    """

    label: str
    columns: Mapping[str, str | None] = field(default_factory=dict)
    template: str | None = None
    turns: int | None = None

    def __post_init__(self) -> None:
        if self.turns is not None and (not isinstance(self.turns, int) or isinstance(self.turns, bool) or self.turns < 1):
            raise ValueError(f"data.turns={self.turns}: give a whole number of at least 1, or null for all turns")
        known = [*ROLES[:2], *(self.fields if self.template is not None else ROLES[2:])]
        if unknown := [role for role in self.columns if role not in known]:
            raise ValueError(f"data.columns names {', '.join(unknown)}; what can be mapped here is {', '.join(known)}")

    @property
    def fields(self) -> list[str]:
        """Names in the template's braces. Raises ValueError where it has none, or is not a template."""
        try:
            found = [name for _, name, _, _ in Formatter().parse(self.template or "") if name is not None]
        except ValueError as error:
            raise ValueError(f"data.template={self.template!r}: {error}; name columns in braces, and double a brace that is meant as such") from error
        if not found or not all(name.isidentifier() for name in found):
            raise ValueError(f"data.template={self.template!r}: it must name at least one column in braces, by a plain name: {{article}}")
        return list(dict.fromkeys(found))

    def id(self, row: Row) -> str:
        """The row's own id, or its number."""
        column = self.columns["id"] if "id" in self.columns else next((name for name in ID_FIELDS if name in row.values), None)
        return str(row.number if column is None else _value(row, column, "id"))

    def category(self, row: Row) -> str:
        """The row's own category, or the label of the whole set."""
        if "category" not in self.columns:
            return str(row.values.get("category") or self.label)
        column = self.columns["category"]
        return self.label if column is None else str(_value(row, column, "category") or self.label)

    def texts(self, row: Row) -> tuple[str, ...]:
        """The turns of one row. Raises ValueError naming the row whose column is missing, holds no text, or is empty."""
        if self.template is not None:
            parts = {name: _text(row, _value(row, self.columns.get(name) or name, name), name) for name in self.fields}
            _refuse_blank(row, "the prompt", "".join(parts.values()))
            return (self.template.format_map(parts),)
        column = self.columns.get("prompt") or next((name for name in TEXT_FIELDS if name in row.values), None)
        if column is None:
            raise ValueError(f"{row.where}: has no field one of {', '.join(TEXT_FIELDS)}; it has {_names(row)}: name the right one")
        value = _value(row, column, "prompt")
        turns = value if isinstance(value, list) and value else [value]
        texts = [_text(row, turn, column) for turn in turns[: self.turns]]
        for number, text in enumerate(texts, 1):
            _refuse_blank(row, "the prompt" if number == 1 else f"turn {number} of the prompt", text)
        return tuple(texts)


def _value(row: Row, column: str, role: str) -> Any:
    if column not in row.values:
        meaning = "" if role == column else f" (meant as {role})"
        raise ValueError(f"{row.where}: has no field {column}{meaning}; it has {_names(row)}: name the right one")
    return row.values[column]


def _text(row: Row, value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{row.where}: the field {column} holds {type(value).__name__}; it must be text or a list of texts")
    return value


def _refuse_blank(row: Row, what: str, text: str) -> None:
    if not text.strip():
        raise ValueError(f"{row.where}: {what} is empty; give it text or remove it")


def _names(row: Row) -> str:
    return ", ".join(row.values) or "none"
