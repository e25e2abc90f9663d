"""From logits to a distribution: the only place that knows temperature, top-k, top-p and penalties.

The rules themselves are transformers' logits processors. Those that look at one row of logits only are applied to a whole block at once;
a processor that reads the prefix is called slot by slot with that slot's own ancestors, so a drafted path is penalised like a committed one.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList
from transformers.generation import logits_process as rules

from spec.arguments import callables, real, whole
from spec.checks import refuse_where
from spec.mass import excess, mass
from spec.noise import Noise, StepNoise
from spec.probe import refuse_stateful
from spec.tree import on_device

if TYPE_CHECKING:
    from spec.state import DecodeState

_PREFIX_FREE = (
    rules.TemperatureLogitsWarper,
    rules.TopKLogitsWarper,
    rules.TopPLogitsWarper,
    rules.MinPLogitsWarper,
    rules.TypicalLogitsWarper,
    rules.EpsilonLogitsWarper,
    rules.EtaLogitsWarper,
    rules.InfNanRemoveLogitsProcessor,
)
_STATEFUL = (rules.UnbatchedClassifierFreeGuidanceLogitsProcessor, rules.SynthIDTextWatermarkLogitsProcessor)


class Sampler:
    """What a token is drawn from. Temperature 0 is greedy: a one-hot distribution, the lowest id wins ties.

    `processors` are further transformers logits processors; they come first, as in `generate`, then repetition penalty, temperature,
    top-k, top-p, min-p. Raises ValueError for values outside their ranges.

    A processor must be a function of its two arguments, because it also sees drafts that are rejected. `decode` calls each of them a few times
    before it starts and refuses one whose answers differ; state that these calls do not show (see `spec.probe`) makes the distribution wrong.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        processors: Sequence[Callable] | None = None,
        seed: int = 0,
    ):
        self.temperature = temperature = real("temperature", temperature, "0 (greedy) or a positive finite number", lambda t: 0 <= t < math.inf)
        top_k = None if top_k is None else whole("top_k", top_k, "a whole number of tokens, at least 1, or 0 or None for all", 0)
        top_p, min_p = (
            None if share is None else real(name, share, "a number between 0 and 1, or None to leave it out", lambda x: 0 <= x <= 1)
            for name, share in (("top_p", top_p), ("min_p", min_p))
        )
        if repetition_penalty is not None:
            repetition_penalty = real("repetition_penalty", repetition_penalty, "a positive number; 1 changes nothing", lambda x: 0 < x < math.inf)
        self._noise = Noise(seed)
        self.seed = self._noise.seed
        self.greedy = temperature == 0
        chosen = callables("processors", processors)
        for processor in chosen:
            if isinstance(processor, _STATEFUL):
                raise ValueError(f"{type(processor).__name__} keeps state from call to call, which rejected drafts would corrupt; leave it out")
        self._penalty = None if repetition_penalty in (None, 1.0) else rules.RepetitionPenaltyLogitsProcessor(repetition_penalty)
        if self._penalty is not None:
            chosen.append(self._penalty)
        if not self.greedy:
            if temperature != 1.0:
                chosen.append(rules.TemperatureLogitsWarper(temperature))
            if top_k:
                chosen.append(rules.TopKLogitsWarper(top_k))
            if top_p is not None and top_p != 1.0:
                chosen.append(rules.TopPLogitsWarper(top_p))
            if min_p:
                chosen.append(rules.MinPLogitsWarper(min_p))
        self.processors = LogitsProcessorList(chosen)
        self._only_scales = all(type(processor) is rules.TemperatureLogitsWarper for processor in chosen)  # any shape of logits will do
        self._places: Callable[[int], tuple[int, int]] | None = None  # row -> (place of its prompt, number of prompts)
        self._no_ids = torch.empty(0, 0, dtype=torch.int64)
        self._step: tuple[tuple, StepNoise] | None = None  # the keys and the noise of the last step that was asked for

    @property
    def reads_prefix(self) -> bool:
        """Whether a distribution depends on the tokens before it other than through the logits."""
        return any(type(processor) not in _PREFIX_FREE for processor in self.processors)

    def check(self, prompt: Sequence[int], num_prompts: int, vocab_size: int, device: torch.device) -> None:
        """Raises ValueError for a processor that keeps state, as far as calls on the first prompt can show it."""
        for processor in self.processors:
            if type(processor) not in _PREFIX_FREE and processor is not self._penalty:
                refuse_stateful(processor, torch.tensor([list(prompt)], device=device).repeat(num_prompts, 1), vocab_size)

    def among(self, state: "DecodeState") -> "Sampler":
        """The same sampler for one decode: a processor that depends on a row's place in the batch gets the place of the row's prompt instead."""
        twin = copy.copy(self)
        twin._places = lambda row: (state.prompt_of[row], state.num_prompts)
        return twin

    def with_noise(self, noise: "Callable[[DecodeState], Any]") -> "Sampler":
        """The same sampler with other random numbers: `noise(state)` takes the place of the step's `StepNoise`. For checks that watch the draws."""
        twin = copy.copy(self)
        twin.noise = noise  # pyright: ignore[reportAttributeAccessIssue]
        return twin

    def distribution(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        """logits [B, N, V] -> probabilities [B, N, V], float32 (float64 stays). contexts(b, i) gives the tokens before what slot i predicts.

        A row sums to 1 within about 1e-7, at any size of vocabulary. A float32 softmax does not: what verifiers accept and the residual
        would not add up to the distribution.
        Raises ValueError for NaN or +inf logits and for rows in which nothing is left: they are never sampled from.
        """
        if self.greedy:
            choice = self.best(logits, contexts)
            return torch.zeros(logits.shape, dtype=_distribution_dtype(logits), device=logits.device).scatter_(-1, choice[..., None], 1.0)
        distributions = (self.processed if self.reads_prefix else self._processed)(logits, contexts).softmax(-1)
        self._refuse(distributions[..., 0], logits, contexts)  # one bad number spoils its whole row
        return (
            distributions
            if distributions.dtype == torch.float64
            else distributions.addcmul_(distributions, excess(mass(distributions), distributions.dtype), value=-1)
        )

    def best(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        """What greedy decoding takes: the token of the largest logit after every processor, the first of equal ones; [B, N]. Raises as `distribution`
        does."""
        scores = (self.processed if self.reads_prefix else self._processed)(logits, contexts)
        largest, choice = scores.max(-1)
        self._refuse(largest, logits, contexts)
        return choice

    def _refuse(self, evidence: Tensor, logits: Tensor, contexts: Callable[[int, int], list[int]] | None) -> None:
        """Raises where `evidence` [B, N], a number that every bad row has spoiled, is not finite."""
        if evidence.device.type != "cpu":
            refuse_where(
                ~evidence.isfinite(), "the model gave logits that are not finite, or processors left no token; run it on the CPU to see where"
            )
        elif not math.isfinite((evidence if evidence.numel() == 1 else evidence.sum()).item()):  # one check for every kind of bad row
            self._explain(logits, contexts)

    def processed(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None = None) -> Tensor:
        """The logits that `distribution` is the softmax of: in float32 or float64, after every processor; [B, N, V]. Raises ValueError as
        `distribution` does."""
        scores = self._processed(logits, contexts)
        self._refuse(scores.amax(-1), logits, contexts)  # NaN and infinities come out on top, and -inf where nothing is left
        return scores

    def _explain(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None) -> None:
        """Raises with the first bad logit, and whether the model or a processor made it."""
        logits = logits.to(_distribution_dtype(logits))
        if not any(type(processor) is rules.InfNanRemoveLogitsProcessor for processor in self.processors):
            _refuse_non_finite(logits, "the model gave", "check the weights and the dtype (float16 overflows: try bfloat16 or float32)")
        logits = self._processed(logits, contexts)
        _refuse_non_finite(logits, "temperature and processors left", "they must leave at least one token of finite logit")

    def _processed(self, logits: Tensor, contexts: Callable[[int, int], list[int]] | None) -> Tensor:
        logits = logits.to(_distribution_dtype(logits))
        if self._only_scales:
            for processor in self.processors:
                logits = processor(self._no_ids, logits)  # pyright: ignore[reportArgumentType]
            return logits
        shape, logits = logits.shape, logits.flatten(0, 1)
        for processor in self.processors:
            if type(processor) in _PREFIX_FREE:  # a subclass may read the prefix
                logits = processor(self._no_ids, logits)  # pyright: ignore[reportArgumentType]
            elif contexts is None:
                raise ValueError(f"{type(processor).__name__} reads the prefix, so `distribution` needs contexts: pass draft.contexts(state.seen)")
            elif processor is self._penalty:
                logits = processor(_padded(shape[0], shape[1], contexts, logits.device), logits)  # pyright: ignore[reportArgumentType]
            else:
                logits = _slot_by_slot(processor, logits, shape[1], contexts, self._places or (lambda row: (row, shape[0])))
        return logits.view(shape)

    def noise(self, state: "DecodeState") -> StepNoise:
        """The noise of the step whose root is the last committed token of each row; drafter and verifier get the same object."""
        key = tuple(state.sequence_ids.tolist()), tuple(len(row) - 1 for row in state.rows), state.device
        if self._step is None or self._step[0] != key:
            self._step = key, self._noise.of_step(*key)
        return self._step[1]


def _distribution_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _padded(num_rows: int, num_slots: int, contexts: Callable[[int, int], list[int]], device: torch.device) -> Tensor:
    """The prefix of every slot, [B * N, T]; a shorter one repeats its last token, which a penalty counts once all the same."""
    prefixes = [contexts(row, slot) for row in range(num_rows) for slot in range(num_slots)]
    longest = max(map(len, prefixes))
    return on_device([[*prefix, *prefix[-1:] * (longest - len(prefix))] for prefix in prefixes], device)


def _slot_by_slot(processor: Callable, logits: Tensor, num_slots: int, contexts: Callable, places: Callable) -> Tensor:
    """Calls the processor for each slot with that slot's own prefix. Processors may depend on the row: they get the whole batch's shape."""
    found = []
    for index in range(len(logits)):
        row, slot = divmod(index, num_slots)
        ids = torch.tensor([contexts(row, slot)], device=logits.device)
        place, num_places = places(row)
        found.append(processor(ids.repeat(num_places, 1), logits[index : index + 1].repeat(num_places, 1))[place : place + 1])
    return torch.cat(found)


def _refuse_non_finite(logits: Tensor, source: str, remedy: str) -> None:
    bad = torch.isnan(logits) | (logits == float("inf")) | (logits == float("-inf")).all(-1, keepdim=True)
    if bad.any():
        row, slot, token = (int(index) for index in bad.nonzero()[0])
        value = logits[row, slot, token].item()
        raise ValueError(f"{source} logit {value} for token {token} (row {row}, slot {slot}): non-finite rows are never sampled; {remedy}")
