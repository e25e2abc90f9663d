"""The end-to-end speedups of a sweep as one drawing: a dot with its 95 % interval for every run, plain decoding marked at 1."""

import math
from dataclasses import dataclass
from itertools import groupby

from experiments.analysis.frames import Runs
from experiments.analysis.tables import names
from experiments.analysis.terminal import ranged
from experiments.recording.record import BASELINE
from experiments.report.svg import LETTER, WIDTH, Drawing, wrapped

EDGE, TITLE, HEAD, LABEL, VALUE = 8, 20, 13.5, 16, 15  # units: the margin, and sizes of letters
ROW, GROUP, HEAD_LINE = 27, 27, 18  # units: heights of a row, of the line that names a drafter, of a line of the head
VALUES = 138  # units: width of the column of numbers
STEPS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # between two ticks
MOST_TICKS = 7
NAME = "End-to-end speedup over plain decoding"


@dataclass(frozen=True)
class Bar:
    """One run: its drafter, what else tells it from the others, its speedup, and the ends of the interval where there is one."""

    drafter: str
    label: str
    speedup: float
    interval: tuple[float, float] | None
    units: int | None

    @property
    def said(self) -> str:
        """The speedup as every table writes it."""
        return ranged(self.speedup, self.interval, self.units)

    @property
    def colour(self) -> str:
        """Whether the whole interval lies on one side of plain decoding."""
        low, high = self.interval or (0.0, math.inf)
        return "faster" if low > 1 else "slower" if high < 1 else "unsure"


def speedup_picture(runs: Runs) -> Drawing:
    """The drawing. Raises ValueError for runs that one picture cannot show: none, invalid ones, or such as cannot be compared."""
    bars = bars_of(runs)
    most = max(bar.interval[1] if bar.interval else bar.speedup for bar in bars)
    step = next((step for step in STEPS if most / step <= MOST_TICKS), most / MOST_TICKS)
    ticks = [step * count for count in range(math.ceil(max(most, 1.0) * 1.02 / step) + 1)]
    left = EDGE + 14 + max(len(bar.label) for bar in bars) * LETTER * LABEL
    across = (left, (WIDTH - EDGE - VALUES - left) / ticks[-1])
    said = "; ".join(f"{bar.drafter} {bar.label}: {bar.said}" for bar in bars)
    drawing = Drawing(NAME, f"{runs.head}. {said}.")
    drawing.text(EDGE, 26, NAME, TITLE, bold=True)
    y = 26.0
    for line in wrapped(f"{runs.head}.", HEAD, WIDTH - 2 * EDGE):
        y += HEAD_LINE
        drawing.text(EDGE, y, line, HEAD, colour="soft")
    bottom = draw(drawing, bars, across, y + 34, ticks)
    axis(drawing, across, y + 34, bottom, ticks)
    y = bottom + 44
    for line in wrapped(notes(runs), HEAD, WIDTH - 2 * EDGE):
        drawing.text(EDGE, y, line, HEAD, colour="soft")
        y += HEAD_LINE
    drawing.height = y - 6
    return drawing


def notes(runs: Runs) -> str:
    """What the marks mean, and how many units the intervals are over."""
    counts = sorted({document["num_units"] for document in runs.documents if document.get("num_units")})
    units = f"{counts[0]} units" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} units" if counts else "units"
    beside = f"Dots: end-to-end speedup over our own plain decoding of the same prompts; lines: its 95 % interval over {units} (prompts, or batches)."
    rivals = sorted({document["fastest_plain"] for document in runs.documents if document.get("fastest_plain") not in (None, BASELINE)})
    return beside + (f" Faster than our own plain decoding was that of {', '.join(rivals)}: see the table." if rivals else "")


def bars_of(runs: Runs) -> list[Bar]:
    """A bar per run, those of a drafter one below the other. Raises ValueError as above."""
    if not runs.documents:
        raise ValueError("a picture shows recorded runs of ours; give the folder of a sweep")
    if runs.incomparable:
        raise ValueError(f"the {runs.incomparable}, so one picture cannot show them; give the folder of one sweep")
    if broken := [name for name, document in zip(runs.methods, runs.documents, strict=False) if not document["valid"]]:
        raise ValueError(f"{', '.join(broken)}: not valid, so a picture must not show it; leave its folder out")
    bars = []
    for row, document in zip(names(runs.documents), runs.documents, strict=True):
        others = [value for name, value in row.items() if name not in ("drafter", "sampling")]
        label = " · ".join([document["labels"]["sampling"], *others])
        name = "speedup_with_prefill"
        if document.get(name) is None:
            raise ValueError(f"{document['labels']['drafter']}: its summary holds no end-to-end speedup; give the folder with its records.jsonl")
        bars.append(Bar(row["drafter"], label, document[name], tuple(document[f"{name}_interval"] or ()) or None, document.get(f"{name}_units")))
    drafters = list(dict.fromkeys(bar.drafter for bar in bars))
    return sorted(bars, key=lambda bar: drafters.index(bar.drafter))


def axis(drawing: Drawing, across: tuple[float, float], top: float, bottom: float, ticks: list[float]) -> None:
    """What the lines mean. `across`: where 0 lies, and units per unit of speedup."""
    left, scale = across
    for tick in ticks:
        drawing.text(left + tick * scale, bottom + 19, f"{tick:g}", HEAD, colour="soft", anchor="middle")
    one = left + scale
    drawing.text(one, top, "plain decoding", HEAD, anchor="middle")
    drawing.text(one - 62, top, "← slower", HEAD, colour="slower", anchor="end")
    drawing.text(one + 62, top, "faster →", HEAD, colour="faster")


def draw(drawing: Drawing, bars: list[Bar], across: tuple[float, float], y: float, ticks: list[float]) -> float:
    """The runs, drafter by drafter, from y down; returns where they end."""
    left, scale = across
    for drafter, held in ((name, list(group)) for name, group in groupby(bars, lambda bar: bar.drafter)):
        y += GROUP
        drawing.text(EDGE, y - 7, drafter, LABEL, bold=True)
        for tick in ticks:
            drawing.line((left + tick * scale, y), (left + tick * scale, y + ROW * len(held)), "grid")
        drawing.line((left + scale, y), (left + scale, y + ROW * len(held)), "ink", 1.8, dashed=True)
        for bar in held:
            middle = y + ROW / 2
            drawing.text(EDGE + 6, middle + 5, bar.label, LABEL)
            if bar.interval:
                drawing.line((left + bar.interval[0] * scale, middle), (left + bar.interval[1] * scale, middle), bar.colour, 4)
            drawing.dot(left + bar.speedup * scale, middle, 6.5, bar.colour)
            drawing.text(WIDTH - EDGE, middle + 5, bar.said, VALUE, anchor="end")
            y += ROW
    return y
