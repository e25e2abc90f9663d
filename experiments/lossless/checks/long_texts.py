"""Long sampled answers, many at once, read as they are decoded: every emitted token under the target's distribution, every drafted one under the
declared distribution.

Rows end at different times and others take their places, as in real work. Three checks come of it: the bets (`betting`, `sets`, `witness`), the
distributions behind the emitted tokens against a plain forward over the finished texts, and what was drawn against what was declared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from experiments.lossless.betting.bets import Bets
from experiments.lossless.betting.witness import Witness, sees_drafts
from experiments.lossless.checks import drawn_as_declared
from experiments.lossless.checks.drawn_as_declared import Watch, Watching
from experiments.lossless.checks.tree_logits import ULPS
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, NOT_RUN, PASS, Check, Effort, Subject
from spec.noise import row_hashes
from spec.state import Limits

NAME, CONTRACT_NAME, FORWARD_NAME = "long texts", "declared distributions", "distributions of a plain forward"
FIRST_ID = 2**41  # first sequence id, so that no noise is shared with the other checks
WAVES = ((1, 48), (2, 256))  # rows of the first waves in multiples of the batch, and the longest text; later ones are as long as the context lets
LATER = (2, 960)
LARGEST = 50_000_000  # numbers of a block of logits
SHARE = 1e-3  # share of tokens that a filter such as top-p may cut differently by rounding


@dataclass(frozen=True)
class Ending:
    """A stopping criterion that ends rows at different times: one token in `every` ends its row, and none goes on when `budget` tokens are made.

    Whether a row ends depends on what was emitted alone, and to stop there changes no token that was emitted.
    """

    every: int
    shortest: int

    def __call__(self, input_ids: Tensor, scores: Any = None) -> Tensor:
        length, last = input_ids.shape[1], int(input_ids[0, -1])
        return torch.tensor([length >= self.shortest and (last * 2_654_435_761 + length * 40_503) % 2**32 < 2**32 // self.every])


@dataclass
class Reading:
    """The texts of one subject, wave after wave."""

    subject: Subject
    effort: Effort
    witness: Witness
    watch: Watch = field(default_factory=Watch)
    num_rows: int = 0
    apart: list[float] = field(default_factory=list)  # |log p in the loop - log p of a plain forward| of emitted tokens
    scale: float = 1.0  # of the logits

    def waves(self) -> Iterator[None]:
        """Decodes until `effort.long_texts` tokens are judged, or the caller stops iterating."""
        number = 0
        while self.witness.texts.taken < self.effort.long_texts:
            multiple, length = WAVES[number] if number < len(WAVES) else LATER
            self.wave(multiple * self.effort.long_batch, length)
            number += 1
            yield

    def wave(self, count: int, length: int) -> None:
        """`count` answers of at most `length` tokens."""
        subject, batch = self.subject, self.effort.long_batch
        longest = max(map(len, subject.prompts))
        drafter = subject.make_drafter()
        drafter.attach(subject.target)
        length = min(length, min(subject.target.context, drafter.traits.context or subject.target.context) - longest)
        rows = [list(subject.prompts[index % len(subject.prompts)]) for index in range(count)]
        ids = [FIRST_ID + self.num_rows + index for index in range(count)]
        self.num_rows += count
        limits = Limits(length, criteria=[Ending(max(length // 3, 8), longest + 2)])
        watched = self.watch.compared < drawn_as_declared.ENOUGH
        sampler = self.watch.over(subject.sampler) if watched else subject.sampler
        verifier = Watching(self.witness, self.watch) if watched else self.witness
        changes = {"drafter": drafter, "verifier": verifier, "sampler": sampler, "sequence_ids": ids, "limits": limits, "batch_size": batch}
        generation = subject.decode(rows, length, **changes)
        self.witness.judge()
        hashes = row_hashes(subject.sampler.seed, tuple(ids)).tolist()
        self._compare([sequence.tolist() for sequence in generation.sequences], generation.prompt_lengths, hashes)

    @torch.inference_mode()
    def _compare(self, texts: Sequence[Sequence[int]], prompt_lengths: Sequence[int], hashes: Sequence[int]) -> None:
        """Every emitted token's probability in the loop and in one plain forward over the whole text."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        while order:
            part = [order.pop()]
            while order and (len(part) + 1) * len(texts[part[0]]) * self.subject.target.vocab_size <= LARGEST:
                part.append(order.pop())
            self._compare_part([texts[index] for index in part], [prompt_lengths[index] for index in part], [hashes[index] for index in part])
        self.witness.log_probs = {}

    def _compare_part(self, texts: Sequence[Sequence[int]], prompt_lengths: Sequence[int], hashes: Sequence[int]) -> None:
        target, sampler = self.subject.target, self.subject.sampler
        width = max(map(len, texts))
        padded = [[*text, *[text[-1]] * (width - len(text))] for text in texts]  # a causal model does not see what comes after
        ids = torch.tensor(padded, device=target.device)
        logits = target.model(input_ids=ids[:, :-1], use_cache=False).logits
        for index, (text, start) in enumerate(zip(texts, prompt_lengths, strict=True)):
            emitted = (self.witness.log_probs or {}).get(hashes[index], {})
            positions = [position for position in range(start, len(text)) if emitted.get(position, (-1,))[0] == text[position]]
            if not positions:
                continue
            own = logits[index, [position - 1 for position in positions]]
            self.scale = max(self.scale, float(own[own.isfinite()].abs().max()))
            distributions = sampler.distribution(own[:, None], lambda row, _, text=text, positions=positions: list(text[: positions[row]]))[:, 0]
            tokens = torch.tensor([text[position] for position in positions], device=distributions.device)
            plain = distributions.gather(1, tokens[:, None]).squeeze(1).double().log().tolist()
            self.apart += [abs(value - emitted[position][1]) for value, position in zip(plain, positions, strict=True)]


def check_long_texts(subject: Subject, effort: Effort) -> list[Check]:
    """The four checks (the bets are two); ends early if one has found a fault."""
    names = (NAME, CONTRACT_NAME, drawn_as_declared.NAME, FORWARD_NAME)
    if subject.sampler.greedy:
        return [Check(name, NOT_APPLICABLE, "at temperature 0 nothing is drawn; greedy parity compares token by token") for name in names]
    drafter = subject.make_drafter()
    ends = end_tokens(subject.target.config)
    witness = Witness(subject.verifier, ends, sees_drafts(drafter, subject.verifier), log_probs={})
    reading = Reading(subject, effort, witness)
    for _ in reading.waves():
        failed = [witness.texts.p_value, witness.drafts.p_value]
        if min(failed) <= effort.level / 2 or reading.watch.foreign or reading.watch.repeated or reading.watch.differing or _off(reading)[0]:
            break
    declares = bool(witness.drafts.taken)
    return [
        _texts(witness.texts, effort),
        _contract(witness, effort),
        drawn_as_declared.verdict_of(reading.watch, declares),
        _forward(reading),
    ]


def end_tokens(config: Any) -> list[int]:
    """The ids of end tokens that a model's configuration names."""
    found = getattr(config, "eos_token_id", None)
    return [] if found is None else [found] if isinstance(found, int) else list(found)


def _figures(bets: Bets, effort: Effort) -> dict[str, Any]:
    level, power = effort.level / 2, effort.long_power
    found = {"statistic": bets.highest, "p_value": bets.p_value, "alpha": level, "power": power, "detectable_tv": bets.detectable(level, power)}
    return found if bets.taken else {}


def _where(bets: Bets) -> str:
    chosen, context, tilt = bets.best()
    return f"{chosen} come too {'often' if tilt > 0 else 'seldom'}" + (f" ({context})" if context else "")


def _texts(bets: Bets, effort: Effort) -> Check:
    if bets.p_value <= effort.level / 2:
        found = f"{bets.impossible} have probability 0" if bets.impossible else _where(bets)
        return Check(NAME, FAIL, f"of {bets.taken} emitted tokens {found}, against the target's distribution", **_figures(bets, effort))
    if bets.taken < effort.long_texts:
        detail = f"stopped after {bets.taken} of {effort.long_texts} tokens, since another check had failed"
        return Check(NAME, NOT_RUN, detail, **_figures(bets, effort))
    return Check(NAME, PASS, f"{bets.taken} emitted tokens of long texts follow the target's distribution", **_figures(bets, effort))


def _contract(witness: Witness, effort: Effort) -> Check:
    bets = witness.drafts
    if not bets.taken:
        return Check(CONTRACT_NAME, NOT_APPLICABLE, "the drafter declares no distributions (q is left out), which is exact for any tokens")
    if bets.p_value > effort.level / 2:
        return Check(CONTRACT_NAME, PASS, f"{bets.taken} drafted tokens follow the distributions declared for them", **_figures(bets, effort))
    modes, expected = witness.num_modes / bets.taken, witness.mode_mass / bets.taken
    if modes == 1:
        detail = f"every drafted token is the most probable one declared, where chance gives {expected:.0%}: leave q out for argmax tokens"
    elif bets.impossible:
        detail = f"{bets.impossible} of {bets.taken} drafted tokens have probability 0 in the distributions declared for them"
    else:
        about = f"{modes:.0%} are the most probable one, where chance gives {expected:.0%}"
        detail = f"drafted tokens do not follow the declared distributions: {_where(bets)}; {about}"
    return Check(CONTRACT_NAME, FAIL, detail, **_figures(bets, effort))


def _off(reading: Reading) -> tuple[bool, float]:
    """Whether the distributions in the loop are not those of a plain forward, and the difference that rounding may make."""
    target, sampler = reading.subject.target, reading.subject.sampler
    tolerance = ULPS[target.dtype.itemsize] * torch.finfo(target.dtype).eps * reading.scale
    beyond = sum(not value <= tolerance for value in reading.apart)
    filters = len(sampler.processors) > (sampler.temperature not in (0.0, 1.0))
    return beyond > (SHARE * len(reading.apart) if filters else 0), tolerance


def _forward(reading: Reading) -> Check:
    if not reading.apart:
        return Check(FORWARD_NAME, NOT_RUN, "no token was compared")
    off, tolerance = _off(reading)
    worst = max(reading.apart)
    detail = f"log p of {len(reading.apart)} emitted tokens is at most {worst:.2g} from that of a plain forward; rounding may make {tolerance:.2g}"
    return Check(FORWARD_NAME, FAIL if off else PASS, detail, statistic=worst)
