"""The table of `docs/exactness.md`, from recorded runs and from the golden instance enumerated on the spot. `python -m experiments.report.pages`.

Records are the newest `acceptance-*.json` and `verification-cost-*.json` in `experiments/records`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.analysis.terminal import as_markdown, ranged
from experiments.lossless.enumeration.proposals import Rule, chain, distinct, independent, propose, top_then_one
from experiments.lossless.enumeration.step_distribution import examine
from experiments.lossless.enumeration.tables import GOLDEN
from experiments.recording.published import ROOT, newest, updated
from spec import Verifier
from verifiers.block import Block
from verifiers.greedy_multi import GreedyMulti
from verifiers.kseq import KSeq
from verifiers.recursive import Recursive
from verifiers.rejection import Rejection
from verifiers.sample_match import SampleMatch
from verifiers.traversal import Traversal

PAGE = ROOT / "docs" / "exactness.md"
MARK = "table"


@dataclass(frozen=True)
class Line:
    """A verifier on one kind of draft."""

    verifier: str
    draft: str
    needs_q: str
    wins: str
    recorded: str  # the method's name in the acceptance record
    rule: Verifier | None = None  # None: continuous noise, which no enumeration follows
    siblings: Rule | None = None  # None: a chain


LINES = (
    Line("rejection", "chain", "yes", "the reference", "rejection", Rejection()),
    Line("block", "chain", "yes", "chains of two or more sampled tokens", "block", Block()),
    Line("sample_match", "any", "no", "drafts whose distribution is unknown", "sample_match", SampleMatch()),
    Line("coupled", "any", "no", "the text of a seed must not depend on the drafter", "coupled"),
    Line("recursive", "independent siblings", "yes", "any mixture of drafters", "recursive, 2 independent", Recursive(), independent),
    Line("kseq", "independent siblings", "yes", "independent siblings", "kseq, 2 independent", KSeq(), independent),
    Line("traversal", "independent siblings", "yes", "sampled trees", "traversal, 2 independent", Traversal(), independent),
    Line("recursive", "distinct siblings", "yes", "the default for sampled trees", "recursive, 2 distinct", Recursive(), distinct),
    Line("traversal", "distinct siblings", "yes", "sampled trees", "traversal, 2 distinct", Traversal(), distinct),
    Line("greedy_multi", "likeliest and one drawn", "yes", "low temperature", "greedy_multi, 2 greedy", GreedyMulti(), top_then_one(2)),
)


def golden(line: Line) -> tuple[str, str]:
    """Expected tokens of a step on the golden instance, and the error of its distribution."""
    if line.rule is None:
        return "-", "by coupling"
    if line.siblings is None:
        proposals = chain(GOLDEN, 3)
    else:
        proposals = propose(GOLDEN, [(0, line.siblings), (0, line.siblings), (1, independent), (2, independent)])
    report = examine(GOLDEN, proposals, line.rule)
    return f"{report.expected:.4f}", "< 1e-12" if report.error < 1e-12 else f"{report.error:.1e}"


def measured(record: dict[str, Any], line: Line, num_tokens: int) -> str:
    for row in record["methods"]:
        if (row["method"], row["num_tokens"]) == (line.recorded, num_tokens):
            return ranged(row["tokens_per_step"], row["interval"], row.get("units"))
    return "-"


def cost(record: dict[str, Any], line: Line, vocabulary: int = 152_000) -> str:
    shape = "chain" if line.siblings is None else "tree"
    for case in record["cases"]:
        if (case["vocabulary"], case["shape"], case["rows"]) == (vocabulary, shape, 1) and line.verifier in case["verifiers"]:
            return f"{case['verifiers'][line.verifier]['ratio']:.1f}"
    return "-"


def table(num_tokens: int = 4) -> str:
    """Markdown, with the circumstances of both records."""
    acceptance = newest("acceptance", "experiments.bench.verifier_yield output=...")
    costs = newest("verification-cost", "experiments.bench mode=verifiers record=true")
    rows = []
    for line in LINES:
        expected, error = golden(line)
        row = {"verifier": line.verifier, "draft": line.draft, "needs q": line.needs_q, "TV from the target": error}
        row |= {"golden, tokens/step": expected, f"embedded, {num_tokens} drafted, tokens/step": measured(acceptance, line, num_tokens)}
        rows.append(row | {"cost": cost(costs, line), "where it wins": line.wins})
    config, cases = acceptance["config"], {case["shape"]: case["slots"] for case in costs["cases"]}
    settings = f"{acceptance['num_prompts']} prompts of {config['max_new_tokens']} new tokens at temperature {config['temperature']:g}"
    notes = [
        "",
        f"*golden*: the enumerated instance, chains of 3, trees [2, 1]. *embedded*: {settings},",
        f"two chains where there are siblings, {intervals(acceptance)} ({circumstance(acceptance)}).",
        "*cost*: one verification over one softmax of the same rows of 152,000 entries, one batch row, chains of",
        f"{cases['chain']} and binary trees of {cases['tree']} slots ({circumstance(costs)}).",
    ]
    return "\n".join([as_markdown(rows), *notes])


def intervals(record: dict[str, Any]) -> str:
    """What the brackets hold; records of earlier versions have intervals that cover too little, and name no units."""
    if all("units" in row for row in record["methods"]):
        return f"95 % intervals over {record['num_prompts']} units (prompts)"
    return f"intervals over {record['num_prompts']} prompts by a percentile bootstrap, which hold the truth in about 93 % of all cases"


def circumstance(record: dict[str, Any]) -> str:
    found = record["provenance"]
    return (
        f"{found['cpu'] if found['device'] == 'cpu' else found['device']}, {found['dtype']}, torch {found['versions']['torch']}, {found['date'][:10]}"
    )


def pages() -> dict[Path, str]:
    """The pages that are written here, as they ought to be."""
    return {PAGE: updated(PAGE.read_text(encoding="utf-8"), MARK, table())}
