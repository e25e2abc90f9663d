"""A report as one HTML page: figures and styles are in it, nothing is fetched, and it reads on a phone, on paper, and in the dark."""

import io
import re
from functools import singledispatch
from html import escape

from matplotlib import rc_context

from experiments.analysis import coloured
from experiments.analysis.terminal import Row
from experiments.report.blocks import Coloured, Heading, Items, Picture, Report, Rows, Text
from experiments.report.plots import GRID, INK, STYLE
from experiments.report.proofs import NAMED
from experiments.report.style import CSS, SORT


def to_html(report: Report) -> str:
    """The whole page."""
    body = "\n".join(html_of(block) for block in report.blocks)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(report.title)}</title>'
    told = f"<p>{escape(report.head)}</p>" if report.head else ""
    opening = f"<header><h1>{escape(report.title)}</h1><p>{escape(report.subtitle)}</p>{told}</header>"
    style = f"<style>{coloured.STYLE}{CSS}</style>"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}{style}</head>\n<body><main>{opening}\n{body}\n</main><script>{SORT}</script></body></html>\n'
    )


@singledispatch
def html_of(block: object) -> str:
    raise TypeError(f"{type(block).__name__} is no part of a report")


@html_of.register
def _(block: Heading) -> str:
    return f"<h{block.level}>{escape(block.text)}</h{block.level}>"


@html_of.register
def _(block: Text) -> str:
    return f'<p class="{block.mood}">{escape(block.text)}</p>'


@html_of.register
def _(block: Items) -> str:
    if block.items and isinstance(block.items[0], tuple):
        return "<dl>" + "".join(f"<dt>{escape(item[0])}</dt><dd>{escape(item[1])}</dd>" for item in block.items) + "</dl>"
    listed = f'<ul class="{block.mood}">' + "".join(f"<li>{escape(str(item))}</li>" for item in block.items) + "</ul>"
    return f'<details class="{block.mood}"><summary>{escape(block.folded)}</summary>{listed}</details>' if block.folded else listed


@html_of.register
def _(block: Rows) -> str:
    if not block.rows:
        return ""
    header = "".join(f'<th scope="col">{escape(column)}</th>' for column in block.rows[0])
    lines = "".join(f"<tr{_anchor(row, block)}>" + "".join(_cell(column, value) for column, value in row.items()) + "</tr>" for row in block.rows)
    caption = f"<caption>{escape(block.caption)}</caption>" if block.caption else ""
    return f'<div class="wide" tabindex="0"><table>{caption}<thead><tr>{header}</tr></thead><tbody>{lines}</tbody></table></div>'


def _anchor(row: Row, block: Rows) -> str:
    return f' id="proof-{escape(next(iter(row.values())))}"' if block.anchors else ""


def _cell(column: str, value: str) -> str:
    mood = ' class="bad"' if (column, value.split(" ")[0]) in (("sound", "NO"), ("proof", "FAIL")) else ""
    text = NAMED.sub(r'<a href="#proof-\g<0>">\g<0></a>', escape(value), count=1) if column == "proof" else escape(value)
    return f"<td{mood}>{text}</td>"


@html_of.register
def _(block: Picture) -> str:
    return f'<figure id="{block.name}">{svg(block)}<figcaption>{escape(block.caption)}</figcaption></figure>'


@html_of.register
def _(block: Coloured) -> str:
    groups = []
    for method, samples in block.methods.items():
        shown = "".join(f"<h4>{escape(title)}</h4>{body}" for title, body in samples)
        groups.append(f"<details{' open' if not groups else ''}><summary>{escape(method)}</summary>{shown}</details>")
    return coloured.LEGEND + "".join(groups)


def svg(picture: Picture) -> str:
    """The figure as an SVG element whose ink and grid take the page's colours."""
    file = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": picture.name}):  # without a salt the ids, and so the page, would change from run to run
        picture.figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    element = file.getvalue()
    element = re.sub('<g id="[^"]*"', "<g", element[element.index("<svg") :])  # every figure names its groups alike, and nothing refers to them
    element = element.replace(INK, "currentColor").replace(GRID, "var(--grid)")
    return element.replace("<svg ", f'<svg role="img" aria-label="{escape(picture.caption)}" ', 1)
