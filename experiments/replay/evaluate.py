"""One drafter on every text of a recording: what each length achieves, what the best lengths would, and how the distributions overlap."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.replay.best_lengths import Counts, Price, agreement, best_lengths, counted, expected, perfect
from experiments.replay.distributions import TextDistributions
from experiments.replay.recorded_target import Follow, Replay
from experiments.replay.texts import RecordedText
from spec.interfaces import Drafter
from spec.types import Draft

REPLAYED, BEST, EXPECTED = "replayed", "best lengths", "expected"


@dataclass(frozen=True)
class Outcome:
    """One text under one way of drafting. `ceiling`: a drafter that is always right, with drafts as long as these, or of the best lengths."""

    text: str
    category: str
    kind: (
        str  # replayed: by agreement with the text; best lengths: known afterwards; expected: token-level speculative sampling, by the distributions
    )
    length: int | None
    counts: Counts
    ceiling: Counts | None = None
    overlap: tuple[float, float] | None = None  # sums of the bounds on sum of min(p, q)
    judged: int = 0  # number of tokens in these sums


@dataclass
class Asked:
    """What the drafter proposed at every token of one text."""

    agreed: list[int] = field(default_factory=list)  # how many tokens of the draft were right
    ratios: list[float] = field(default_factory=list)  # of the first drafted token, see TextDistributions.ratio
    lower: float = 0.0
    upper: float = 0.0
    judged: int = 0
    drawn: bool = False  # whether any draft had a distribution of its own


@dataclass(frozen=True)
class Evaluation:
    """`make(length)` builds the drafter for a length, None as it is configured; `ask(length)` the one that is asked at every token."""

    replay: Replay
    cost: Price
    make: Callable[[int | None], Drafter]
    lengths: Sequence[int | None]  # in rising order
    ask: Callable[[int | None], Drafter] | None = None  # None: no best lengths
    distributions: dict[str, TextDistributions] | None = None

    def run(self, texts: Sequence[RecordedText], advance: Callable[[], Any]) -> list[Outcome]:
        """All outcomes, length by length; `advance` is called after every text. Raises ValueError for a drafter that needs the target."""
        found: list[Outcome] = []
        for length in self.lengths:
            drafter = self.make(length)
            for number, text in enumerate(texts):
                counts = counted(self.replay.run(drafter, text.prompt, text.tokens, number), self.cost)
                ceiling = None if length is None else perfect(len(text.tokens), length, self.cost)
                found.append(Outcome(text.id, text.category, REPLAYED, length, counts, ceiling))
                advance()
        return found if self.ask is None else found + self._ask(self.ask(self.lengths[-1]), texts, advance)

    def _ask(self, drafter: Drafter, texts: Sequence[RecordedText], advance: Callable[[], Any]) -> list[Outcome]:
        found, answers, longest = [], [], self.lengths[-1]
        for number, text in enumerate(texts):
            asked = ask_everywhere(self.replay, drafter, text, number, None if self.distributions is None else self.distributions[text.id])
            answers.append(asked)
            ceiling = None if longest is None else best_lengths([longest] * len(text.tokens), self.cost)
            overlap = (asked.lower, asked.upper) if asked.judged else None
            counts = best_lengths(asked.agreed, self.cost)
            found.append(Outcome(text.id, text.category, BEST, longest, counts, ceiling, overlap, asked.judged))
            advance()
        # a draft without a distribution of its own is judged by agreement whatever the distributions say, which the replay has done
        lengths = [length for length in self.lengths if length is not None] if any(asked.drawn for asked in answers) else []
        for length in lengths:
            for text, asked in zip(texts, answers, strict=True):
                found.append(Outcome(text.id, text.category, EXPECTED, length, expected(asked.ratios, length, self.cost)))
        return found


def ask_everywhere(replay: Replay, drafter: Drafter, text: RecordedText, number: int, distributions: TextDistributions | None) -> Asked:
    """Asks for a draft at every token of the text, as if none had ever been accepted."""
    found, start = Asked(), len(text.prompt) - 1

    def watch(root: int, draft: Draft) -> None:
        index = root - start
        drafted = draft.tokens[0, 1 : int(draft.sizes[0])].tolist()
        found.agreed.append(agreement(drafted, text.tokens[index:]))
        if distributions is None:
            return
        q = draft.q[0, 1] if draft.q is not None and drafted else None
        found.ratios.append(distributions.ratio(index, drafted[0], q) if drafted else 0.0)
        if drafted:
            lower, upper = distributions.overlap(index, drafted[0], q)
            found.lower, found.upper, found.judged = found.lower + lower, found.upper + upper, found.judged + 1
            found.drawn = found.drawn or q is not None

    replay.run(drafter, text.prompt, text.tokens, number, follow=Follow([*text.prompt, *text.tokens], every=True, watch=watch))
    return found
