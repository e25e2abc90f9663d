"""A report as Markdown, its figures as PNG files beside it."""

from functools import singledispatch
from pathlib import Path

from experiments.analysis.terminal import as_markdown
from experiments.report.blocks import Coloured, Heading, Items, Picture, Report, Rows, Text
from experiments.report.proofs import NAMED

SIGNS = {"plain": "", "good": "", "warn": "**Note:** ", "bad": "**NOT VALID:** "}


def write_markdown(report: Report, path: Path) -> list[Path]:
    """Writes the report and returns every file written. Answers in colour are left out: Markdown has no colours."""
    folder = path.with_name(f"{path.stem}_figures")
    written, parts = [path], [f"# {report.title}", report.subtitle, report.head]
    for block in report.blocks:
        if isinstance(block, Picture):
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{block.name}.png"
            block.figure.savefig(file, dpi=150, facecolor="white", metadata={"Software": None})
            written.append(file)
            parts.append(f"![{block.caption}]({folder.name}/{file.name})\n\n*{block.caption}*")
        else:
            parts.append(markdown_of(block))
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return written


@singledispatch
def markdown_of(block: object) -> str:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@markdown_of.register
def _(block: Heading) -> str:
    return f"{'#' * block.level} {block.text}"


@markdown_of.register
def _(block: Text) -> str:
    return SIGNS[block.mood] + block.text


@markdown_of.register
def _(block: Items) -> str:
    lines = [
        f"- {SIGNS[block.mood] if block.mood == 'bad' else ''}{item}" if isinstance(item, str) else f"- **{item[0]}**: {item[1]}"
        for item in block.items
    ]
    return "\n".join([f"{block.folded}:\n"] * bool(block.folded) + lines)


@markdown_of.register
def _(block: Rows) -> str:
    if not block.rows:
        return ""
    table = as_markdown([{column: _cell(column, text) for column, text in row.items()} for row in block.rows])
    return f"{block.caption}\n\n{table}" if block.caption else table


@markdown_of.register
def _(block: Coloured) -> str:
    return ""


def _cell(column: str, value: str) -> str:
    return NAMED.sub(r"[\g<0>](#proofs)", _safe(value), count=1) if column == "proof" else _safe(value)


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
