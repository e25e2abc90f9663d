"""Many short answers of the real parts, counted: the texts against the target's law, and the drafted tokens against the laws declared for them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.exactness.checks import FAIL, NOT_APPLICABLE, PASS, Check, Effort, Subject
from experiments.exactness.frequencies import CONTINUE, LEAST_EXPECTED, REJECT, SequentialTest, equal_cells, integral_transform
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft, Scores, Verdict

NAME, CONTRACT_NAME = "frequencies", "declared laws"
CELLS = 64
PROBES = 32  # answers from which the number of drafted tokens is foretold
LARGEST = 4_000_000  # numbers in a block of laws


class Watched(Drafter):
    """A drafter whose drafts are looked at as they pass: where each drafted token falls in its declared law."""

    def __init__(self, inner: Drafter, generator: torch.Generator):
        self.inner, self.generator = inner, generator
        self.needs = inner.needs  # pyright: ignore[reportAttributeAccessIssue]
        self.places: list[tuple[list[int], Tensor, Tensor]] = []  # of every step: which prompt each row continues; (u, used), each [B, N - 1]
        self.num_tokens = self.num_modes = self.num_impossible = 0
        self.mode_mass = 0.0
        self.deepest = 0
        self.bins = round(CELLS**0.5)

    def attach(self, target: CausalLM) -> None:
        self.inner.attach(target)
        self.context = self.inner.context

    def reset(self, state: DecodeState) -> None:
        self.inner.reset(state)

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        self.inner.rows_changed(state, origin)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        draft = self.inner.propose(state, sampler)
        self.deepest = max(self.deepest, int(draft.depths().max()))
        if draft.q is not None and draft.num_slots > 1:
            self._look(draft, state)
        return draft

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        self.inner.observe(state, draft, verdict, scores)

    def _look(self, draft: Draft, state: DecodeState) -> None:
        assert draft.q is not None
        q, tokens = draft.q[:, 1:].cpu(), draft.tokens[:, 1:].cpu()
        used = (torch.arange(1, draft.num_slots) < draft.sizes.cpu()[:, None]) & ~torch.tensor(state.done)[:, None]
        v = torch.rand(tokens.shape, dtype=torch.float64, generator=self.generator)
        self.places.append((state.prompt_of, integral_transform(torch.where(used[..., None], q, 1.0), tokens, v), used))
        own, largest = q.gather(2, tokens[..., None]).squeeze(2)[used], q.amax(2)[used]
        self.num_tokens += len(own)
        self.num_modes += int((own == largest).sum())
        self.num_impossible += int((own <= 0).sum())
        self.mode_mass += float(largest.sum())

    def pairs(self) -> Tensor:
        """Cells of pairs of neighbouring tokens since the last call, row after row in the order of drawing; [S]."""
        if not self.places:
            return torch.empty(0, dtype=torch.int64)
        prompts = torch.tensor([prompt for prompt_of, _, used in self.places for prompt in prompt_of for _ in range(used.shape[1])])
        u = torch.cat([u.flatten() for _, u, _ in self.places])
        used = torch.cat([used.flatten() for _, _, used in self.places])
        self.places = []
        stream = u[used][prompts[used].argsort(stable=True)]
        return equal_cells(stream[: len(stream) // 2 * 2].view(-1, 2), self.bins)


@dataclass
class Sampling:
    """Batches of answers to a few prompts, every row with a noise of its own."""

    subject: Subject
    effort: Effort
    length: int
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(20_240_607))
    taken: int = 0

    def batch(self, drafter: Drafter, num_rows: int) -> Tensor:
        """u [num_rows, length] of fresh texts."""
        subject, prompts = self.subject, self.subject.prompts
        ids = list(range(self.taken, self.taken + num_rows))
        self.taken += num_rows
        rows = [list(prompts[index % len(prompts)]) for index in ids]
        generation = subject.decode(rows, self.length, drafter=drafter, sequence_ids=ids)
        tokens = torch.tensor([generation.new_tokens(row) for row in range(num_rows)])
        assistant = getattr(getattr(drafter, "inner", drafter), "assistant", None)
        assistant = getattr(assistant, "model", None) if not isinstance(assistant, CausalLM) else assistant
        found = torch.empty(num_rows, self.length, dtype=torch.float64)
        for index in range(len(prompts)):
            own = [row for row, number in enumerate(ids) if number % len(prompts) == index]
            for part in blocks(own, self.length * subject.target.vocab_size):
                laws = own_laws(subject.target, subject.sampler, prompts[index], tokens[part])
                scores = None
                if isinstance(assistant, CausalLM) and assistant.vocab_size == subject.target.vocab_size:
                    scores = laws / own_laws(assistant, subject.sampler, prompts[index], tokens[part]).clamp(min=1e-12)
                v = torch.rand(len(part), self.length, dtype=torch.float64, generator=self.generator)
                found[part] = integral_transform(laws, tokens[part], v, scores)
        return found


def blocks(rows: list[int], numbers_per_row: int) -> Iterator[list[int]]:
    size = max(LARGEST // numbers_per_row, 1)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


@torch.inference_mode()
def own_laws(model: CausalLM, sampler: Sampler, prompt: Any, tokens: Tensor) -> Tensor:
    """The model's law at each of `tokens` [S, L], from one plain forward without a cache; every place is judged behind its own prefix. [S, L, V]"""
    num_rows, length = tokens.shape
    ids = torch.cat([torch.tensor(list(prompt)).expand(num_rows, -1), tokens], 1).to(model.device)
    logits = model.model(input_ids=ids[:, :-1], use_cache=False).logits[:, len(prompt) - 1 :]
    prefixes = ids.tolist() if sampler.reads_prefix else []
    flat = logits.reshape(num_rows * length, 1, -1)
    return sampler.law(flat, lambda row, _: prefixes[row // length][: len(prompt) + row % length]).view(num_rows, length, -1).cpu()


def bins_for(length: int, num_samples: int) -> int:
    """Bins per token, at least 2, such that no more than CELLS joint cells arise and each can expect enough texts."""
    return max(int(min(CELLS, num_samples / LEAST_EXPECTED) ** (1 / length) + 1e-9), 2)


def check_sampled(subject: Subject, effort: Effort) -> list[Check]:
    """Both checks from the same answers, which are drawn until both have ended or `samples` texts are used up."""
    if subject.sampler.greedy:
        reason = "at temperature 0 nothing is drawn; greedy parity compares token by token"
        return [Check(NAME, NOT_APPLICABLE, reason), Check(CONTRACT_NAME, NOT_APPLICABLE, reason)]
    watched = Watched(subject.make_drafter(), torch.Generator().manual_seed(1))
    subject.decode(list(subject.prompts), 8, drafter=watched)
    length = effort.tokens or min(max(watched.deepest + 1, 2), 6)
    bins, sampling = bins_for(length, effort.samples), Sampling(subject, effort, length)
    texts = SequentialTest(bins**length, effort.samples, effort.looks, effort.alpha, effort.power)
    pairs = plan_pairs(sampling, watched)
    while sampling.taken < effort.samples and CONTINUE in (texts.state, pairs.state if pairs else texts.state):
        u = sampling.batch(watched, min(effort.batch, effort.samples - sampling.taken))
        texts.add(equal_cells(u, bins))
        cells = watched.pairs()
        if pairs:
            pairs.add(cells)
    return [_texts(texts, length, effort), _contract(pairs, watched, effort)]


def plan_pairs(sampling: Sampling, watched: Watched) -> SequentialTest | None:
    """The test of the declared laws, as long as the answers will feed it by what a few of another noise have drafted; None if too little is."""
    effort, prompts = sampling.effort, sampling.subject.prompts
    rows, watched.places = [list(prompts[index % len(prompts)]) for index in range(PROBES)], []
    sampling.subject.decode(rows, sampling.length, drafter=watched, sequence_ids=range(2**40, 2**40 + PROBES))
    num_pairs = min(effort.samples, int(0.9 * effort.samples * len(watched.pairs()) / PROBES))
    watched.bins = bins_for(2, num_pairs)
    if num_pairs < LEAST_EXPECTED * watched.bins**2:
        return None
    return SequentialTest(watched.bins**2, num_pairs, effort.looks, effort.alpha, effort.power)


def _figures(test: SequentialTest, effort: Effort) -> dict[str, float | None]:
    found = {"statistic": test.statistic, "p_value": test.p_value, "tv": test.tv, "detectable_tv": test.detectable_tv, "power": effort.power}
    return found if test.taken else {}


def _texts(test: SequentialTest, length: int, effort: Effort) -> Check:
    about = f"the first {length} tokens of {test.taken} texts in {test.df + 1} cells"
    if test.state == REJECT:
        return Check(NAME, FAIL, f"{about} do not follow the target's law", **_figures(test, effort))
    return Check(NAME, PASS, about, **_figures(test, effort))


def _contract(test: SequentialTest | None, watched: Watched, effort: Effort) -> Check:
    if not watched.num_tokens:
        return Check(CONTRACT_NAME, NOT_APPLICABLE, "the drafter declares no laws (q is left out), which is exact for any tokens")
    if test is None or not test.taken:
        return Check(CONTRACT_NAME, NOT_APPLICABLE, f"only {watched.num_tokens} tokens with a declared law were drafted; give more samples")
    if test.p_value > effort.alpha:
        return Check(CONTRACT_NAME, PASS, f"{2 * test.taken} drafted tokens follow the laws declared for them", **_figures(test, effort))
    modes, expected = watched.num_modes / watched.num_tokens, watched.mode_mass / watched.num_tokens
    if modes == 1:
        detail = f"every drafted token is the most probable one of its declared law, where chance gives {expected:.0%}: leave q out for argmax tokens"
    elif watched.num_impossible:
        detail = f"{watched.num_impossible} of {watched.num_tokens} drafted tokens have probability 0 in the laws declared for them"
    else:
        detail = f"drafted tokens do not follow the declared laws: {modes:.0%} are the most probable one, where chance gives {expected:.0%}"
    return Check(CONTRACT_NAME, FAIL, detail, **_figures(test, effort))
