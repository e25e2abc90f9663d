"""What a tracker shows of a run, as plain rows made from its records and steps: the live run and `run.track` both use these."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from experiments.analysis.coloured import LEGEND, STYLE, coloured
from experiments.analysis.speedup import per_token
from experiments.recording.record import METHOD, Pair

SPEEDUPS = ("speedup", "speedup_with_prefill")  # over plain decoding: decode-only, and end to end
COLUMNS = (
    *("prompt", "category", "turn", "tokens", "steps", "tokens_per_step", "acceptance_rate", *SPEEDUPS, "repetition", "loops", "ended"),
    *("text", "baseline_text", "coloured"),
)
CURVES = ("tokens", "steps", "tokens_per_step", "acceptance_rate", *SPEEDUPS, "repetition")
GAINS = (*SPEEDUPS, "over_fastest_plain")
HEADLINE = ("tokens_per_step", "accepted_per_step", "acceptance_rate", *GAINS)  # also rows of the history, where sweeps look for their metric
AGGREGATES = {  # what W&B keeps of a curve besides summary.json
    **{f"step/{name}": "mean,max" for name in ("drafted", "accepted")},
    **{f"step/{phase}_ms": "mean" for phase in ("draft", "target", "verify", "commit")},
    **{f"prompt/{name}": "mean,min,max" for name in ("tokens_per_step", *SPEEDUPS, "repetition")},
}


@dataclass
class History:
    """Turns finished prompts into numbered rows, one prompt after the other: its steps, then itself. A `Counter` among the values is a histogram.

    The rows depend on the order of the prompts only, not on how many were handed over at once. `tokenizer` may be None: no coloured text then.
    """

    tokenizer: Any = None
    num_prompts: int = 0
    num_steps: int = 0
    num_tokens: int = 0
    accepted: Counter[int] = field(default_factory=Counter)  # steps by number of accepted tokens
    table: list[dict[str, Any]] = field(default_factory=list)  # a line per prompt, with `COLUMNS`

    def rows(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows of finished prompts; `steps` are lines of `steps.jsonl`, those of other prompts and roles among them."""
        own: dict[str, list[dict[str, Any]]] = {}
        for step in steps:
            if step["role"] == METHOD:
                own.setdefault(step["prompt"], []).append(step)
        for pair in pairs:
            taken = own.get(pair.method.prompt, [])
            yield from map(self._step, taken)
            yield self._prompt(pair, taken)

    def last(self, summary: dict[str, Any] | None) -> dict[str, Any]:
        """The row that ends the history: accepted lengths of the whole run, and the headline figures."""
        found = summary or {}
        return {"accepted_lengths": Counter(self.accepted)} | {name: found[name] for name in HEADLINE if found.get(name) is not None}

    def _step(self, step: dict[str, Any]) -> dict[str, Any]:
        self.num_steps += 1
        self.num_tokens += step["emitted"]
        counts = {name: step[name] for name in ("drafted", "accepted", "emitted")}
        clocks = {f"{phase}_ms": 1000 * seconds for phase, seconds in step["seconds"].items()}
        return _under("step", {"index": self.num_steps, "tokens_so_far": self.num_tokens, **counts, **clocks})

    def _prompt(self, pair: Pair, steps: list[dict[str, Any]]) -> dict[str, Any]:
        self.num_prompts += 1
        figures, lengths = prompt_figures(pair), Counter(step["accepted"] for step in steps)
        self.accepted += lengths
        self.table.append({name: figures[name] for name in COLUMNS[:-1]} | {"coloured": self._coloured(pair, steps)})
        curves = {name: figures[name] for name in CURVES if figures[name] is not None} | peer_figures(pair)
        return _under("prompt", {"index": self.num_prompts, **curves, "accepted_lengths": lengths})

    def _coloured(self, pair: Pair, steps: list[dict[str, Any]]) -> str | None:
        if self.tokenizer is None:
            return None
        try:
            text = coloured(pair.method.tokens, steps, self.tokenizer)
        except ValueError:  # steps that do not add up: the summary says so, the text is shown all the same
            text = coloured(pair.method.tokens, [], self.tokenizer)
        return f"<style>{STYLE}</style>{LEGEND}{text}"


def prompt_figures(pair: Pair) -> dict[str, Any]:
    """What the table, the curves and the progress bar show of one prompt."""
    method, baseline = pair.method, pair.baseline
    return {
        "prompt": method.prompt,
        "category": method.category,
        "turn": method.turn,
        "tokens": len(method.tokens),
        "steps": method.num_steps,
        "tokens_per_step": len(method.tokens) / max(method.num_steps, 1),
        "acceptance_rate": method.num_accepted / method.num_drafted if method.num_drafted else None,
        "speedup": (baseline.decode_seconds / max(len(baseline.tokens), 1)) / (method.decode_seconds / max(len(method.tokens), 1)),
        "speedup_with_prefill": per_token([baseline]) / per_token([method]),
        "repetition": method.repetition,
        "loops": method.loops,
        "ended": method.ended,
        "text": method.text,
        "baseline_text": baseline.text,
    }


def peer_figures(pair: Pair) -> dict[str, float]:
    """How many times faster than plain decoding each peer was from the prompt on: of a peer only the whole time is known."""
    plain = pair.baseline.end_to_end_seconds / max(len(pair.baseline.tokens), 1)
    return {f"end_to_end_speedup_of_{name}": plain / (peer.end_to_end_seconds / max(len(peer.tokens), 1)) for name, peer in pair.peers.items()}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries with their keys joined by dots, the way W&B shows them side by side."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _under(family: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {f"{family}/{name}": value for name, value in figures.items()}
