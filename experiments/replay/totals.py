"""Outcomes of a replay added up: rows of a table, lines of a file, and what must be read with them."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import reduce
from operator import add
from typing import Any

from experiments.analysis.terminal import Row, number, percent
from experiments.replay.best_lengths import Counts, Price
from experiments.replay.evaluate import BEST, EXPECTED, REPLAYED, Outcome
from experiments.replay.texts import Recording

ALL = "all"


def totals(outcomes: Sequence[Outcome], *, by_category: bool = False) -> list[Outcome]:
    """One outcome per way of drafting, over all texts and, if asked, over each category; `text` says of how many."""
    groups: dict[tuple[str, str, int | None], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((ALL, outcome.kind, outcome.length), []).append(outcome)
    if by_category and len({outcome.category for outcome in outcomes}) > 1:
        for outcome in sorted(outcomes, key=lambda found: found.category):
            groups.setdefault((outcome.category, outcome.kind, outcome.length), []).append(outcome)
    return [_total(category, members) for (category, _, _), members in groups.items()]


def _total(category: str, members: Sequence[Outcome]) -> Outcome:
    counts = reduce(add, (member.counts for member in members))
    ceilings = [member.ceiling for member in members if member.ceiling is not None]
    bounds = [member.overlap for member in members if member.overlap is not None]
    overlap = (sum(low for low, _ in bounds), sum(high for _, high in bounds)) if bounds else None
    ceiling = reduce(add, ceilings) if ceilings else None
    judged = sum(member.judged for member in members)
    return replace(members[0], text=str(len(members)), category=category, counts=counts, ceiling=ceiling, overlap=overlap, judged=judged)


def table_rows(found: Sequence[Outcome], cost: Price) -> list[Row]:
    """A row per way of drafting; speedups, decode-only as the cost model's are, where something costs anything."""
    rows = []
    for outcome in found:
        counts, ceiling = outcome.counts, outcome.ceiling or Counts()
        row = {"category": outcome.category} if any(other.category != ALL for other in found) else {}
        row |= {"drafts": label(outcome), "texts": outcome.text, "tokens": f"{counts.tokens:.0f}", "steps": f"{counts.steps:.0f}"}
        row |= {"tokens/step": number(counts.tokens_per_step), "accepted": percent(counts.acceptance_rate)}
        row |= {"drafted/step": number(counts.drafted / counts.steps), "always right": number(ceiling.tokens_per_step)}
        if not cost.is_free:
            row |= {"predicted decode-only speedup": number(counts.speedup), "if always right": number(ceiling.speedup)}
        rows.append(row)
    return rows


def label(outcome: Outcome) -> str:
    length = "as configured" if outcome.length is None else f"{outcome.length} token{'s' * (outcome.length > 1)}"
    return {REPLAYED: length, BEST: f"best lengths, at most {length}" if outcome.length else BEST, EXPECTED: f"{length}, expected"}[outcome.kind]


def footnotes(found: Sequence[Outcome], sampling: dict[str, Any], recording: Recording, live: dict[str, Any] | None) -> list[str]:
    """What the figures are conditional on, the live run's own where it used the same drafter, and the overlap of the distributions."""
    notes = []
    if recording.config is None:
        notes.append("plain texts: how they were decoded is not known; a drafted token counts as accepted where it is the recorded one")
    elif sampling["temperature"] == 0:
        notes.append("recorded at temperature 0: the counts are those of a live run with this drafter")
    else:
        notes.append(
            f"recorded at temperature {sampling['temperature']:g}: conditional on the recorded text; a drafted token counts as accepted where it is "
            "the recorded one, as under sample_match, and under every exact rule for drafts without a distribution of their own"
        )
        if any(outcome.kind == EXPECTED for outcome in found):
            notes.append("expected: token-level speculative sampling, given the recorded text, from the distributions of target and drafter")
        elif not any(outcome.overlap for outcome in found):
            notes.append(
                "the expected acceptance of sampled drafts needs the target's distributions: python -m experiments.replay.distributions recorded=..."
            )
    if live is not None and live["num_steps"]:
        notes.append(f"the run itself, with this drafter: {live['num_tokens'] / live['num_steps']:.2f} tokens/step, all texts")
    for outcome in found:
        if outcome.overlap is not None and outcome.category == ALL:
            low, high = (bound / outcome.judged for bound in outcome.overlap)
            span = f"{low:.4f} to {high:.4f}, which differ by what the recorded distributions leave out"
            notes.append(f"expected acceptance, the mean sum of min(p, q) over {outcome.judged} tokens: {span}")
    return notes


def lines(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Lines of the results file."""
    made = []
    for outcome in found:
        line: dict[str, Any] = {"text": outcome.text, "category": outcome.category, "kind": outcome.kind, "length": outcome.length}
        line |= asdict(outcome.counts) | {"tokens_per_step": outcome.counts.tokens_per_step, "speedup": outcome.counts.speedup}
        if outcome.ceiling is not None:
            line |= {"ceiling_tokens_per_step": outcome.ceiling.tokens_per_step, "ceiling_speedup": outcome.ceiling.speedup}
        if outcome.overlap is not None:
            line |= {"judged": outcome.judged, "overlap": [bound / outcome.judged for bound in outcome.overlap] if outcome.judged else None}
        made.append(line)
    return made
