"""What a report is made of, whatever it is written as: headings, sentences, tables, figures, and text in colour."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.analysis.terminal import Row


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph. `mood`: plain, good, warn or bad; bad is for what must not be missed."""

    text: str
    mood: str = "plain"


@dataclass(frozen=True)
class Items:
    """A list of sentences, or of terms with what they mean; `folded` keeps it out of the way under its summary."""

    items: Sequence[str | tuple[str, str]]
    mood: str = "plain"
    folded: str = ""


@dataclass(frozen=True)
class Rows:
    """A table of equal columns. Where `anchors` is true, the first column names the rows, and marks of proof elsewhere refer to them."""

    rows: Sequence[Row]
    caption: str = ""
    anchors: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure; `name` is short and unique in the report, `caption` says what to look for."""

    name: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class Coloured:
    """Answers as trusted HTML, made by `experiments.analysis.coloured`: by method, each under its own heading."""

    methods: dict[str, list[tuple[str, str]]]  # method -> (heading, HTML) of its answers


Block = Heading | Text | Items | Rows | Picture | Coloured


@dataclass(frozen=True)
class Report:
    title: str
    subtitle: str
    blocks: Sequence[Block]
    head: str = ""  # what was measured, in one line; "" where no run of ours is in it
