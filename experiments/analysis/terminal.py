"""Rows as a table: for a terminal, for a log, or as Markdown."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, str]
ALARM = "bold red"


def number(value: float | None, digits: int = 2, unit: str = "") -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def ranged(value: float | None, ends: Sequence[float] | None, units: int | None) -> str:
    """A figure with its 95 % interval; where there is none, "-" and the number of units that are too few for one, if it is known."""
    if value is None:
        return "-"
    told = f"{ends[0]:.2f}, {ends[1]:.2f}" if ends else "-" if units is None else f"-, {units} unit{'s' * (units != 1)}"
    return f"{value:.2f} [{told}]"


def render(rows: Sequence[Row], *, title: str = "", markdown: bool = False) -> None:
    """Prints rows of equal columns: a rich table on a terminal, aligned plain lines elsewhere, Markdown if asked."""
    if not rows:
        return
    header = list(rows[0])
    body = [[row[column] for column in header] for row in rows]
    if markdown:
        print(as_markdown(rows))
    elif sys.stdout.isatty():
        table = Table(*header, title=title or None)
        for row, line in zip(rows, body, strict=True):
            table.add_row(*line, style=ALARM if row.get("sound", "").startswith("NO") else None)
        Console().print(table)
    else:
        widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in [header, *body]]
        print("\n".join([title, *lines] if title else lines), flush=True)


def as_markdown(rows: Sequence[Row]) -> str:
    """Rows of equal columns, of which there must be one, as a Markdown table."""
    heads = list(rows[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *([row[head] for head in heads] for row in rows)])


def alarm(text: str) -> None:
    """A line that must not be overlooked."""
    if sys.stdout.isatty():
        Console().print(Text(text, style=ALARM))
    else:
        print(text, flush=True)
