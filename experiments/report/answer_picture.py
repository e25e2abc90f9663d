"""One answer as a drawing: which tokens were drafted and accepted, drafted and rejected, or added by the target, with a legend."""

from typing import Any
from unicodedata import east_asian_width

import pandas as pd

from experiments.analysis.coloured import BREAKS, Piece, pieces
from experiments.analysis.frames import Runs
from experiments.analysis.measured import head
from experiments.report.answers import lines_of, tokenizer_of
from experiments.report.svg import WIDTH, Drawing, wrapped

EDGE, TITLE, HEAD, CODE = 8, 20, 13.5, 15  # units: the margin, and sizes of letters
COLUMN, LINE = 9.0, 25.0  # units: of a letter of code
COLUMNS = int((WIDTH - 2 * EDGE) / COLUMN)
HEAD_LINE, MOST_LINES, PROMPT_LINES, LONG = 18, 16, 3, 40  # LONG: tokens of an answer that is shown without being asked for, about
STYLES = {"accepted": "accepted", "rejected": "rejected", "own": "bonus"}  # fate -> colour
LEGEND = (("accepted", "drafted, accepted"), ("rejected", "drafted, rejected"), ("own", "added by the target"))


def answer_picture(runs: Runs, prompt: str | None = None) -> Drawing:
    """The drawing: of the prompt that is named, or of a short answer that has all three kinds of tokens. Raises ValueError where there is none."""
    place, record, found = chosen(runs, prompt)
    document, name = runs.documents[place], runs.methods[place]
    steps = record["num_steps"]
    subject = f"{name}: {record['num_tokens']} tokens in {steps} steps, {record['num_tokens'] / max(steps, 1):.2f} a step, prompt {record['prompt']}."
    told = f"{subject} Run: {head([document])}."
    drawing = Drawing("One answer, token by token", told)
    drawing.text(EDGE, 26, "One answer, token by token", TITLE, bold=True)
    y = 26.0
    for line in [part for words in (subject, f"Run: {head([document])}.") for part in wrapped(words, HEAD, WIDTH - 2 * EDGE)]:
        y += HEAD_LINE
        drawing.text(EDGE, y, line, HEAD, colour="soft")
    page = Page(drawing, legend(drawing, y + 34) + 36)
    before = prompt_lines(runs, name, record["prompt"], document)
    for line in before:
        page.write(Piece("", line), breaks=True)
    for piece in found:
        page.write(piece)
    drawing.height = page.y + 14
    return drawing


def legend(drawing: Drawing, y: float) -> float:
    """What the colours mean, from y down; returns the last line's y."""
    x = float(EDGE)
    for fate, words in LEGEND:
        width = len(words) * 7.4 + 14
        if x + width > WIDTH - EDGE:
            x, y = float(EDGE), y + LINE
        drawing.box(x, y - 15, width, 21, STYLES[fate], f"{STYLES[fate]}-edge")
        drawing.text(x + width / 2, y, words, HEAD, anchor="middle", struck=fate == "rejected")
        x += width + 10
    return y


class Page:
    """Code in columns, from the upper left on: where the next letter goes."""

    def __init__(self, drawing: Drawing, y: float):
        self.drawing, self.y, self.column = drawing, y, 0

    def write(self, piece: Piece, breaks: bool = False) -> None:
        """A piece in its colour, its line breaks as signs; `breaks`: ends the line."""
        for number, line in enumerate(piece.text.translate({ord("\t"): "    "}).split("\n")):
            if number:
                self.put(BREAKS[ord("\n")], piece.fate)
                self.end()
            rest = line
            while rest:
                taken = rest[: COLUMNS - self.column]
                while columns(taken) > COLUMNS - self.column:
                    taken = taken[:-1]
                if taken:
                    self.put(taken, piece.fate)
                else:
                    self.end()
                rest = rest[len(taken) :]
        if breaks:
            self.end()

    def end(self) -> None:
        self.y, self.column = self.y + LINE, 0

    def put(self, words: str, fate: str) -> None:
        x, width = EDGE + self.column * COLUMN, columns(words) * COLUMN
        if fate:
            self.drawing.box(x + 0.5, self.y - 16, width - 1, 21, STYLES[fate], f"{STYLES[fate]}-edge")
        if shown := words.strip(" "):
            lead = len(words) - len(words.lstrip(" "))
            colour = "rejected-edge" if fate == "rejected" else "ink" if fate else "soft"
            self.drawing.code(x + lead * COLUMN, self.y, shown, CODE, columns(shown) * COLUMN, colour=colour, struck=fate == "rejected")
        self.column += columns(words)


def columns(words: str) -> int:
    """Columns that letters take: wide ones of East Asia and pictures two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in words)


def chosen(runs: Runs, prompt: str | None) -> tuple[int, dict[str, Any], list[Piece]]:
    """The run's place, the record, and its pieces. Raises ValueError where nothing fits, saying what would."""
    if not len(runs.records) or not len(runs.steps):
        raise ValueError("an answer in colour is made from records.jsonl and steps.jsonl; give the folder of a run that has both")
    found = []
    for place, (method, document) in enumerate(zip(runs.methods, runs.documents, strict=False)):
        own = pd.DataFrame(runs.records[(runs.records["method"] == method) & (runs.records["role"] == "method")])
        name = str(document["config"]["target"].get("name"))
        tokenizer = tokenizer_of(name)
        if tokenizer is None:
            raise ValueError(f"the tokenizer of {name} could not be loaded, so its answers cannot be shown; give runs of a target that is here")
        for record in own.to_dict("records"):
            if document["valid"] and prompt in (None, record["prompt"]):
                shown = pieces_of(record, runs.steps, tokenizer)
                found.append((badness(record, shown), place, record, shown))
    if not found:
        known = ", ".join(list(dict.fromkeys(runs.records["prompt"]))[:6])
        raise ValueError(f"no valid run has an answer to {prompt or 'any prompt'}; there are {known}, ...")
    return min(found, key=lambda item: (item[0], item[1]))[1:]


def pieces_of(record: dict[str, Any], steps: pd.DataFrame, tokenizer: Any) -> list[Piece]:
    """The pieces of a recorded answer. Raises ValueError naming it where its steps are not its own."""
    try:
        return pieces(record["tokens"], lines_of(record, steps), tokenizer)
    except (ValueError, KeyError) as error:
        told = f"{record['method']}, prompt {record['prompt']}: steps.jsonl does not fit records.jsonl ({error})"
        raise ValueError(f"{told}; leave the folder out") from error


def badness(record: dict[str, Any], shown: list[Piece]) -> tuple[int, int, float]:
    """How ill an answer shows what speculation does: kinds of tokens it lacks, lines too many or a loop, then distance from a good mixture."""
    sizes = {fate: sum(len(piece.text.strip()) for piece in shown if piece.fate == fate) for fate in STYLES}
    lines = sum(piece.text.count("\n") for piece in shown if piece.fate != "rejected") + 1
    spoilt = max(0, lines - MOST_LINES) + max(0, 3 - lines) + bool(record.get("loops"))
    total = max(sum(sizes.values()), 1)
    far = abs(sizes["accepted"] / total - 0.6) + abs(sizes["rejected"] / total - 0.2)
    return sum(size == 0 for size in sizes.values()), spoilt, round(far + abs(len(record["tokens"]) - LONG) / (2 * LONG), 6)


def prompt_lines(runs: Runs, method: str, prompt: str, document: dict[str, Any]) -> list[str]:
    """The last lines of the prompt, where it was recorded; of an unfinished line all that there is."""
    held = runs.records[(runs.records["method"] == method) & (runs.records["prompt"] == prompt)]
    asked = [ids for ids in held["prompt_ids"] if isinstance(ids, list)] if "prompt_ids" in held else []
    if not asked:
        return []
    text = tokenizer_of(str(document["config"]["target"].get("name"))).decode(asked[0], skip_special_tokens=True)
    return text.rstrip("\n").split("\n")[-PROMPT_LINES:]
