"""`generate` of transformers and its assisted variants as peers, with everything pinned that would otherwise leak into a result.

What leaks (read in transformers 5.17 to 5.23): values left unset are filled from the model's own generation config and then from defaults (top-k 50,
20 assistant tokens, confidence threshold 0.4); the threshold is tuned during the run if scikit-learn can be imported; the schedule "heuristic"
writes its draft length into the assistant; an assistant masks every token of the text that is the padding token, unless that is an EOS; sampling
with another tokenizer replaces the assistant's embedding and head by pruned ones and caches that by tokenizer. So every call here runs under
generation configs of our own, and what was replaced is put back.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig
from transformers.generation import logits_process as rules

from experiments.parts.roles import Answer, Peer
from experiments.recording.clock import Site
from spec.arguments import as_whole, whole
from spec.sampling import Sampler
from spec.state import Limits

KNOBS: dict[type, Callable[[Any], dict[str, Any]]] = {  # our sampler's processors as `generate`'s settings
    rules.TemperatureLogitsWarper: lambda rule: {"temperature": rule.temperature},
    rules.TopKLogitsWarper: lambda rule: {"top_k": rule.top_k},
    rules.TopPLogitsWarper: lambda rule: {"top_p": rule.top_p},
    rules.MinPLogitsWarper: lambda rule: {"min_p": rule.min_p},
    rules.RepetitionPenaltyLogitsProcessor: lambda rule: {"repetition_penalty": rule.penalty},
}
OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}  # what an unset value must be, lest a default take its place


def settings_of(sampler: Sampler) -> dict[str, Any]:
    """The sampler as settings of `generate`. Raises ValueError for processors that have none."""
    found: dict[str, Any] = {"do_sample": not sampler.greedy} | ({} if sampler.greedy else OFF)
    for processor in sampler.processors:
        if type(processor) not in KNOBS:
            raise ValueError(
                f"{type(processor).__name__} is no setting of generate; its peers take temperature, top_k, top_p, min_p and repetition_penalty"
            )
        found |= KNOBS[type(processor)](processor)
    return found


@dataclass
class Generate(Peer):
    """Plain `generate`. `batch_size` prompts together are padded on the left."""

    name = "generate"

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        """Continues the prompts; torch's generators are seeded once per call and left as they were found."""
        rows = [list(prompt) for prompt in prompts]
        self.check(rows, sampler, limits)
        config = GenerationConfig(**settings_of(sampler), **self.settings(), **ending(limits))
        device, found = self.target.device, []
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
            forwards = stack.enter_context(self.counting())
            torch.manual_seed(sampler.seed)
            for start in range(0, len(rows), self.batch_size):
                part, before = rows[start : start + self.batch_size], forwards[0]
                began = clock(device)
                made = self.run(part, config, sampler)
                spent = (clock(device) - began) / len(part)
                texts = [ended(text[max(map(len, part)) :], limits) for text in made]
                found += [Answer(text, min(forwards[0] - before, len(text)), spent) for text in texts]
        return found

    def run(self, rows: list[list[int]], config: GenerationConfig, sampler: Sampler) -> list[list[int]]:
        """One call of `generate`."""
        longest = max(map(len, rows))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=self.target.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.target.device)
        with self.prepared(sampler), replaced(self.target, config):
            return self.target.generate(ids, attention_mask=mask, generation_config=copy.deepcopy(config), **self.arguments()).tolist()

    def check(self, rows: list[list[int]], sampler: Sampler, limits: Limits) -> None:
        """Raises ValueError for what cannot be honoured."""
        settings_of(sampler)
        if not rows or not all(rows):
            raise ValueError("a prompt is empty or none was given; give at least one token in each")
        if limits.criteria or limits.padding:
            raise ValueError("stopping criteria and padding are not passed on to generate; use max_new_tokens and eos_token_id")
        models = [self.target, *([assistant] if (assistant := getattr(self, "assistant", None)) is not None else [])]
        limits.check(rows, min(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31 for model in models))

    def settings(self) -> dict[str, Any]:
        """What this peer adds to the generation config."""
        return {}

    def arguments(self) -> dict[str, Any]:
        """What this peer passes to `generate` besides."""
        return {}

    def counting(self) -> AbstractContextManager[list[int]]:
        """A list with one number in it, while the context lasts: forwards of the target so far."""
        return counted(self.target)

    @contextmanager
    def prepared(self, sampler: Sampler) -> Iterator[None]:
        """The state of the world in which this peer runs."""
        yield


@dataclass
class PromptLookup(Generate):
    """`generate(prompt_lookup_num_tokens=...)`: copies what followed an earlier occurrence of the last tokens."""

    num_tokens: int = 10
    max_ngram: int = 2
    name = "generate, prompt lookup"
    steps_apart = False

    def __post_init__(self) -> None:
        check_single(self.batch_size, self.num_tokens)
        whole("max_ngram", self.max_ngram, "at least 1", 1)

    def settings(self) -> dict[str, Any]:
        return {"prompt_lookup_num_tokens": self.num_tokens, "max_matching_ngram_size": self.max_ngram}


@dataclass
class Assisted(Generate):
    """`generate(assistant_model=...)` with an assistant of the same tokenizer, always `num_tokens` drafted."""

    assistant: Any = None
    num_tokens: int = 5
    name = "generate, assisted"
    steps_apart = False

    def __post_init__(self) -> None:
        check_single(self.batch_size, self.num_tokens)
        if self.assistant is None or self.assistant is self.target:
            raise ValueError("give an assistant that is another model object than the target; their generation configs must not be one")
        if (self.sizes[0] == self.sizes[1]) == isinstance(self, OtherTokenizer):
            kinds = "one tokenizer and the peer is for two" if self.sizes[0] == self.sizes[1] else "two tokenizers and the peer is for one"
            raise ValueError(
                f"vocabulary sizes are {self.sizes[0]} and {self.sizes[1]}: generate takes that for {kinds}; use "
                f"{'Assisted' if isinstance(self, OtherTokenizer) else 'OtherTokenizer'}"
            )

    @property
    def sites(self) -> list[Site]:
        return [*super().sites, Site(self.assistant, "forward", "drafter")]

    @property
    def sizes(self) -> tuple[int, int]:
        """Vocabulary sizes of target and assistant, by which `generate` itself tells whether they share a tokenizer."""
        target, assistant = (model.config.get_text_config().vocab_size for model in (self.target, self.assistant))
        return target, assistant

    def arguments(self) -> dict[str, Any]:
        return {"assistant_model": self.assistant}

    @contextmanager
    def prepared(self, sampler: Sampler) -> Iterator[None]:
        pinned = GenerationConfig(num_assistant_tokens=self.num_tokens, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0)
        with replaced(self.assistant, pinned):
            yield


@dataclass
class OtherTokenizer(Assisted):
    """`generate(assistant_model=..., tokenizer=..., assistant_tokenizer=...)`: greedy drafts go through text, sampled ones by common tokens."""

    tokenizer: Any = None
    assistant_tokenizer: Any = None
    name = "generate, assisted by another tokenizer"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokenizer is None or self.assistant_tokenizer is None:
            raise ValueError("give both tokenizers: tokenizer of the target and assistant_tokenizer")
        # generate caches its translation by tokenizer object and prunes the assistant only when it makes one: these copies belong to this peer alone
        self.tokenizer, self.assistant_tokenizer = copy.deepcopy(self.tokenizer), copy.deepcopy(self.assistant_tokenizer)
        self._pruned: tuple[Any, Any] | None = None

    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        """Continues the prompts. Pruning the assistant draws random numbers, so it is done by a call of its own before the first that counts."""
        self.check([list(prompt) for prompt in prompts], sampler, limits)
        if self._pruned is None and not sampler.greedy:
            super().answer(prompts[:1], sampler=sampler, limits=Limits(1))
        return super().answer(prompts, sampler=sampler, limits=limits)

    def check(self, rows: list[list[int]], sampler: Sampler, limits: Limits) -> None:
        super().check(rows, sampler, limits)
        if sampler.reads_prefix and not sampler.greedy:
            raise ValueError(
                "repetition_penalty under sampling is applied to the assistant's pruned ids by position; leave it out or decode greedily"
            )

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"tokenizer": self.tokenizer, "assistant_tokenizer": self.assistant_tokenizer}

    @contextmanager
    def prepared(self, sampler: Sampler) -> Iterator[None]:
        model, original = self.assistant, (self.assistant.get_input_embeddings(), self.assistant.get_output_embeddings())
        if self._pruned is not None and not sampler.greedy:
            exchange(model, self._pruned)
        try:
            with super().prepared(sampler):
                yield
        finally:
            if not sampler.greedy:
                self._pruned = model.get_input_embeddings(), model.get_output_embeddings()
            exchange(model, original)


def ending(limits: Limits) -> dict[str, Any]:
    """How many tokens and which end a text, as settings of `generate`. Padding is an EOS or nothing: any other token would be masked in texts."""
    eos = list(limits.eos_ids)
    return {"max_new_tokens": limits.max_new_tokens, "eos_token_id": eos or None, "pad_token_id": eos[0] if eos else None}


def ended(tokens: list[int], limits: Limits) -> list[int]:
    """New tokens of a row of `generate` without its padding: up to the first EOS."""
    ends = [place for place, token in enumerate(tokens) if token in limits.eos_ids]
    return tokens[: ends[0] + 1] if ends else tokens


def exchange(model: Any, modules: tuple[Any, Any]) -> None:
    """Sets a model's input embedding and head."""
    model.set_input_embeddings(modules[0])
    model.set_output_embeddings(modules[1])


@contextmanager
def replaced(model: Any, config: GenerationConfig) -> Iterator[None]:
    """A model whose generation config is a copy of `config`; the model's own comes back."""
    original = model.generation_config
    model.generation_config = copy.deepcopy(config)
    try:
        yield
    finally:
        model.generation_config = original


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    """A list with one number in it: forwards of the model so far."""
    count = [0]

    def note(*_: Any) -> None:
        count[0] += 1

    hook = model.register_forward_hook(note)
    try:
        yield count
    finally:
        hook.remove()


def clock(device: torch.device) -> float:
    """Seconds, once what was started on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_single(batch_size: int, num_tokens: int) -> None:
    allowed = "a drafting peer takes one prompt at a time and at least one drafted token"
    if batch_size != 1 or (as_whole(num_tokens) or 0) < 1:
        raise ValueError(f"batch_size={batch_size!r}, num_tokens={num_tokens!r}: {allowed}")
