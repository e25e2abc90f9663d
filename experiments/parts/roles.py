"""Who decodes: our own loop with a drafter and a verifier, or a peer, which is somebody else's method. Both give an `Answer` per prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.recording.clock import Site
from spec.decode import decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits
from spec.stats import PHASES, GenerationStats
from spec.store import store_of

WHOLE = "generate"  # the one phase of a peer, whose clock runs from the prompt to the last token


@dataclass(frozen=True)
class Answer:
    """What a role made of one prompt. Of a peer it is known how often the target ran and how long it took, and not what was drafted.

    A target forward counts for every prompt in its batch that it gave a token to. The first one of a peer of `generate` reads the prompt as well;
    ours reads the prompt before and does not count that. Either way every counted forward emits at least one token.
    """

    tokens: list[int]  # new ones, cut after the first EOS
    forwards: int  # of the target
    wall_seconds: float = 0.0  # of a peer; a batch's is divided evenly among its prompts
    prefill_seconds: float = 0.0  # of our loop, divided in the same way
    stats: GenerationStats | None = None  # of our loop, for the whole batch
    row: int = 0  # which of the batch's prompts this is

    @property
    def seconds(self) -> dict[str, float]:
        """By phase, without `prefill_seconds`."""
        return {WHOLE: self.wall_seconds} if self.stats is None else row_seconds(self.stats, self.row)

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Its lines of `steps.jsonl`, without prompt and role; none where the steps are not known."""
        return [] if self.stats is None else step_lines(self.stats, self.row)

    @property
    def counts(self) -> dict[str, Any]:
        """The counts of its `Record`. Every token but one of a forward is an accepted one."""
        counts = GenerationStats() if self.stats is None else self.stats.row(self.row)
        tested, kept = counts.judged_by_position
        accepted = len(self.tokens) - self.forwards
        return {"num_steps": self.forwards, "num_drafted": counts.num_drafted, "num_accepted": accepted, "tested": tested, "kept": kept}


class Role:
    """A named way to continue prompts."""

    name: str
    note = ""  # what must be said beside its figures
    steps_apart = False  # whether the prompt's own forward can be told from the steps; assisted peers check a draft in it already

    @property
    def sites(self) -> list[Site]:
        """Where its forwards are, so that they can be timed; none where they cannot be watched."""
        return []

    @property
    def runtime(self) -> str:
        """What its target ran under in the end: a runtime that fails falls back."""
        return "hf"

    @property
    def load_check_seconds(self) -> float:
        """What it took to try the lean forwards of its models, when they were wrapped."""
        return 0.0

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        """Continues every prompt as the sampler and the limits say, all randomness from the sampler's seed; of equal prompts each by itself.

        `ids` key the noise of our loop; a peer seeds torch's generators once per call and has no use for them. Raises ValueError for what cannot be
        honoured; no setting is ignored silently.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Loop(Role):
    """Our own loop, at most `batch_size` prompts at once (None: all)."""

    target: CausalLM
    drafter: Drafter
    verifier: Verifier
    name: str = "ours"
    allow_lossy: bool = False
    batch_size: int | None = None
    note: str = ""
    steps_apart = True

    @property
    def sites(self) -> list[Site]:
        """Of the target and, once the drafter is attached, of the first model that drafts."""
        helper = next(iter(self.drafter.models.values()), None)
        return [*forwards_of(self.target, "target"), *(forwards_of(helper, "drafter") if helper is not None else ())]

    @property
    def runtime(self) -> str:
        return self.target.runtime_kind

    @property
    def load_check_seconds(self) -> float:
        return sum(model.lean.trial_seconds for model in (self.target, *self.drafter.models.values()) if model.lean is not None)

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        made = decode(
            self.target,
            self.drafter,
            self.verifier,
            prompts,
            sampler=sampler,
            limits=limits,
            allow_lossy=self.allow_lossy,
            sequence_ids=ids,
            batch_size=self.batch_size,
        )
        stats, prefill = made.stats, made.stats.prefill_seconds / len(prompts)
        forwards = [sum(row in step.places for step in stats.steps) for row in range(len(prompts))]
        return [Answer(made.new_tokens(row), count, prefill_seconds=prefill, stats=stats, row=row) for row, count in enumerate(forwards)]


@dataclass
class Peer(Role):
    """Somebody else's method over a plain transformers model, `batch_size` prompts at once."""

    target: Any
    batch_size: int = 1
    steps_apart = True

    @property
    def sites(self) -> list[Site]:
        return [Site(self.target, "forward", "target")]


def forwards_of(model: CausalLM, role: str) -> Iterator[Site]:
    """Where a wrapped model runs its forwards. Under a runtime of fixed shapes its own method must stay untouched, or it would be compiled again."""
    if model.lean is not None:
        yield Site(model, "extend", role)
        yield Site(model.lean, "run", role)
    elif model.runtime is None:
        yield Site(model.model, "forward", role)
    else:
        yield Site(model, "extend", role)
        yield Site(model.runtime, "run", role)


def row_seconds(stats: GenerationStats, row: int) -> dict[str, float]:
    """Decode seconds of one row by phase: a step's time is shared equally by the rows that were live in it."""
    live = [step for step in stats.steps if row in step.places]
    shares = {phase: sum(step.seconds.get(phase, 0.0) / len(step.places) for step in live) for phase in PHASES}
    return {**shares, "other": stats.seconds["other"] * len(live) / max(stats.num_steps, 1)}


def step_lines(stats: GenerationStats, row: int) -> list[dict[str, Any]]:
    """A line of `steps.jsonl` for every step that the row was live in; the seconds are the whole batch's."""
    lines: list[dict[str, Any]] = []
    for step in stats.steps:
        place = step.places.get(row)
        if place is not None:
            counts = {name: getattr(step, name)[place] for name in ("drafted", "depth", "accepted", "emitted", "cut", "proposed")}
            clocks = {phase: round(seconds, 7) for phase, seconds in step.seconds.items()}
            lines.append({"step": len(lines), **counts, "seconds": clocks})
    return lines


def served_by(models: Mapping[str, CausalLM]) -> dict[str, str]:
    """How each model was run in the end, and in what its weights are kept: "lean, float16", say."""
    return {name: f"{model.runtime_kind}, {store_of(model.model)}" for name, model in models.items()}
