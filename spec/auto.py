"""`auto`: how much is drafted, chosen before every step from what a step costs here and from how much has been accepted so far.

Expected tokens over expected seconds are highest at the chosen length; where drafting loses the step is one of plain decoding, and a short draft is
tried now and then, within a budget, so that drafting can come back. Seconds are those of steps that were tried, times how much longer real steps took
of late. The choice is made for the whole batch, whose rows share a forward, before anything is drafted: it is a function of the past, so the output's
distribution stays the target's own (Leviathan et al., arXiv 2211.17192, section 3.5, choose the length by the same quotient; SpecDec++, 2405.19715,
and TurboSpec, 2406.14066, while decoding).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from spec.costs import StepCosts

AUTO = "auto"
SETTINGS = ("num_tokens", "window")  # of drafters, that may say it
GAIN = 1.05  # drafting must promise so much over plain decoding: what is promised is an estimate
LOSS = 0.012  # of the seconds of plain decoding: what may be lost by trying
SLACK = 2.0  # steps of plain decoding that drafting may be behind besides; then it waits until it has caught up
PATIENCE = 4  # plain steps between two tries
OUTLIER = 4.0  # times as long as foretold is the most that a step counts for: something else was at work
FADE = 0.98  # weight of the past after one more step
FIRST = 0.6  # an acceptance before anything was seen
PRIOR = 3.0  # tokens that the first guess of an acceptance counts for
HOPE = 1.25  # what an option that was never tried is worth, over the mean of all
CARRIED = 6.0  # tokens that earlier decodes count for
CLOCKS = ("taken", "foretold")  # seconds of steps as they were and as the costs had them: [of plain decoding, of drafting]


def is_auto(settings: Mapping[str, Any]) -> bool:
    """Whether a drafter with these settings chooses how much it drafts."""
    return AUTO in map(settings.get, SETTINGS)


@dataclass(frozen=True)
class Happened:
    """What a step showed of one row."""

    limit: int  # the most that the row could draft
    depth: int  # the deepest drafted token
    accepted: int
    cut: bool  # EOS or the budget ended the row, so that less was judged


class Auto:
    """A choice among `options`, in rising order with 0 for nothing. A subclass knows what to expect of each.

    `settled`: every decode begins with what was known then; otherwise it begins with what the last one left.
    """

    counts: dict[str, list[float]]  # what was seen, faded; made by the subclass

    def __init__(self, options: Sequence[int], costs: StepCosts | None = None):
        self.options, self.costs, self.settled = list(options), costs or StepCosts(options), False
        self.start: dict[str, list[float]] | None = None
        self._promised: tuple[Any, list[tuple[int, float, float]]] | None = None
        self.spent = self.earned = 0.0  # seconds: of the steps that were made; of plain decoding for as many tokens
        self.waited = 0

    @property
    def most(self) -> int:
        return self.options[-1]

    def begin(self) -> None:
        """A new decode."""
        known = self.start if self.settled and self.start is not None else self.counts
        weight = max(1.0, max(max(values) for name, values in known.items() if name not in CLOCKS) / CARRIED)
        self.counts = {name: [value / (1.0 if name in CLOCKS else weight) for value in values] for name, values in known.items()}
        self.start = {name: list(values) for name, values in self.counts.items()}
        self.spent = self.earned = 0.0
        self.waited = 0

    def settle(self) -> None:
        """From now on every decode begins as the next one does: nothing is measured or carried over any more."""
        self.settled = False
        self.begin()
        self.settled = self.costs.fixed = True

    def choose(self, num_rows: int, most: int) -> int:
        """How much the next step drafts, `most` at most; 0: nothing."""
        plain, slower = self.costs.of(num_rows, 0) * self.slowness(0), self.slowness(1)
        behind = self.spent - self.earned
        if behind > LOSS * self.earned + SLACK * plain:
            return 0
        promised = {option: (tokens, seconds * slower) for option, tokens, seconds in self._promises_by_now(num_rows, min(most, self.most))}
        if not promised:
            return 0
        worth = {option: plain * tokens / seconds for option, (tokens, seconds) in promised.items()}
        best = max(worth, key=lambda option: worth[option])
        if worth[best] >= GAIN:
            return best
        tried = self.tried(promised, best)
        tokens, seconds = promised[tried]
        return tried if self.waited >= PATIENCE and behind + seconds - plain * tokens <= LOSS * (self.earned + plain) else 0

    def observe(self, chosen: int, rows: Sequence[Happened], seconds: float | None = None) -> None:
        """After a step of the live rows in which `chosen` was chosen; `seconds`: what it took, where that is known by now."""
        if not rows:
            return
        foretold = self.costs.of(len(rows), self.used(chosen, rows))
        if seconds is not None and not self.costs.fixed:
            for name, value in zip(CLOCKS, (min(seconds, OUTLIER * foretold), foretold), strict=True):
                self.counts[name][chosen > 0] = FADE * self.counts[name][chosen > 0] + value
        self.spent += foretold * self.slowness(chosen > 0)
        self.earned += self.costs.of(len(rows), 0) * self.slowness(0) * sum(1 + row.accepted for row in rows) / len(rows)
        self.waited = 0 if chosen else self.waited + 1
        if chosen:
            self.counts = {name: values if name in CLOCKS else [FADE * value for value in values] for name, values in self.counts.items()}
            self.learn(chosen, rows)

    def slowness(self, drafting: int) -> float:
        """How many times as long real steps take as the costs say, of plain decoding (0) or of drafting (1); 1 before anything is known."""
        taken, foretold = (self.counts[name][drafting] for name in CLOCKS)
        return (taken + self.first) / (foretold + self.first)

    @property
    def first(self) -> float:
        """Seconds that the belief in the costs counts for: one step of plain decoding."""
        return self.costs.of(1, 0)

    def _promises_by_now(self, num_rows: int, most: int) -> list[tuple[int, float, float]]:
        """Those of `promises`, made anew when something was learnt."""
        known = num_rows, most, self.costs.curve(num_rows), *(tuple(values) for name, values in self.counts.items() if name not in CLOCKS)
        if self._promised is None or self._promised[0] != known:
            self._promised = known, list(self.promises(num_rows, most))
        return self._promised[1]

    def promises(self, num_rows: int, most: int) -> Iterator[tuple[int, float, float]]:
        """Options up to `most`, the tokens that a step is expected to emit in a row, and its seconds."""
        raise NotImplementedError

    def tried(self, promised: Mapping[int, tuple[float, float]], best: int) -> int:
        """What is tried where nothing seems to pay."""
        return best

    def used(self, chosen: int, rows: Sequence[Happened]) -> int:
        """What the step cost as much as."""
        return chosen

    def learn(self, chosen: int, rows: Sequence[Happened]) -> None:
        raise NotImplementedError

    def forget(self) -> None:
        """Begins anew, as if nothing had been seen."""
        self.counts, self.settled = {name: [0.0] * len(values) for name, values in self.counts.items()}, False

    def restore(self, counts: Any) -> None:
        """Settles on counts that another object of this kind had settled on. Raises ValueError for what it cannot have had."""
        lengths = {name: len(values) for name, values in self.counts.items()}
        if isinstance(counts, dict):
            counts = {name: [0.0, 0.0] for name in CLOCKS} | counts  # earlier versions had no clocks
        if not isinstance(counts, dict) or any(not _numbers(counts.get(name), length) for name, length in lengths.items()):
            raise ValueError(f"counts are lists of numbers: {', '.join(f'{length} for {name}' for name, length in lengths.items())}")
        self.counts = {name: [float(value) for value in counts[name]] for name in lengths}
        self.settle()


def _numbers(given: Any, length: int) -> bool:
    return isinstance(given, list) and len(given) == length and all(isinstance(value, (int, float)) and 0 <= value < inf for value in given)


class AutoLength(Auto):
    """Of a draft's depth: by how often a draft reached each depth, and how often the token there was accepted.

    A depth that was not seen often is guessed from the one above it; one that is never reached costs nothing.
    """

    def __init__(self, lengths: Sequence[int] | None = None, costs: StepCosts | None = None):
        costs = costs or StepCosts()
        super().__init__(lengths or costs.lengths, costs)
        self.counts = {name: [0.0] * (self.most + 1) for name in ("asked", "offered", "judged", "kept")} | {name: [0.0, 0.0] for name in CLOCKS}

    def promises(self, num_rows: int, most: int) -> Iterator[tuple[int, float, float]]:
        curve, counts = self.costs.curve(num_rows), self.counts
        there, reached, rate, tokens, seconds = 1.0, 1.0, FIRST, 1.0, curve[0]
        for depth in range(1, min(self.most, most) + 1):
            rate = (counts["kept"][depth] + PRIOR * rate) / (counts["judged"][depth] + PRIOR)
            there *= (counts["offered"][depth] + PRIOR) / (counts["asked"][depth] + PRIOR)
            reached *= rate
            tokens += there * reached
            seconds += (1 - (1 - there) ** num_rows) * (curve[depth] - curve[depth - 1])  # all rows wait for the longest
            yield depth, tokens, seconds

    def used(self, chosen: int, rows: Sequence[Happened]) -> int:
        return max(row.depth for row in rows)

    def learn(self, chosen: int, rows: Sequence[Happened]) -> None:
        for row in rows:
            for depth in range(1, min(row.limit, self.most) + 1):
                self.counts["asked"][depth] += row.depth >= depth - 1
                self.counts["offered"][depth] += row.depth >= depth
            for depth in range(1, min(row.depth, row.accepted + (not row.cut), self.most) + 1):
                self.counts["judged"][depth] += 1
                self.counts["kept"][depth] += depth <= row.accepted


class AutoSize(Auto):
    """Of a size whose yield follows no formula: by the mean of what each option brought; one that was hardly tried is hoped to bring a little more
    than all do."""

    def __init__(self, options: Sequence[int], costs: StepCosts | None = None):
        super().__init__(options, costs)
        self.counts = {name: [0.0] * len(self.options) for name in ("steps", "accepted")} | {name: [0.0, 0.0] for name in CLOCKS}

    def promises(self, num_rows: int, most: int) -> Iterator[tuple[int, float, float]]:
        steps, accepted = self.counts["steps"], self.counts["accepted"]
        guess = HOPE * (sum(accepted) + PRIOR * FIRST) / (sum(steps) + PRIOR)
        for place, option in enumerate(self.options):
            if option and most:
                yield option, 1 + (accepted[place] + PRIOR * guess) / (steps[place] + PRIOR), self.costs.of(num_rows, option)

    def tried(self, promised: Mapping[int, tuple[float, float]], best: int) -> int:
        """The one that has been tried least: nothing is known of it from the others."""
        return min(promised, key=lambda option: (self.counts["steps"][self.options.index(option)], option))

    def learn(self, chosen: int, rows: Sequence[Happened]) -> None:
        place = self.options.index(chosen)
        self.counts["steps"][place] += len(rows)
        self.counts["accepted"][place] += sum(row.accepted for row in rows)
