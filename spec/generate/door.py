"""What `speculative` makes: a callable that stands behind `generate`."""

from inspect import Signature
from threading import RLock
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from spec.arguments import shown, yes_or_no
from spec.batches import rows_at_once
from spec.decode import decode
from spec.generate.choice import Choices
from spec.generate.config import check
from spec.generate.handed import NEVER_SEEN, Handed, hand_over, signature
from spec.generate.inputs import is_limit, needed_context, refuse_inputs, unpadded
from spec.generate.outputs import SpeculativeOutput, output, wanted
from spec.generate.said import warn
from spec.interfaces import Drafter, Verifier, check_pair, check_verifier
from spec.model import CausalLM
from spec.named import drafter_named, verifier_named
from spec.noise import Noise
from spec.runtime import check_kind
from spec.sampling import Sampler
from spec.servable import refuse_unservable
from spec.state import Limits

SHORTEST = 2  # a context that is inside of every window


def speculative(
    drafter: Drafter | str | None = None,
    verifier: Verifier | str = "recursive",
    *,
    seed: int | None = None,
    streamer: Any = None,
    allow_lossy: bool = False,
    batch_size: int | None = None,
    runtime: str = "auto",
) -> "Speculative":
    """A callable for `custom_generate`. GenerationConfig, logits processors, stopping criteria and left-padded batches work as in `generate`.

    drafter, verifier: objects or their short names (`spec.named`). Without a drafter `assistant_model=` and `prompt_lookup_num_tokens=` of the call
    choose it, and without those it is prompt lookup.
    seed: default drawn from torch's generator, so `torch.manual_seed` and `set_seed` govern it.
    batch_size: the most rows that are decoded at once; the others wait. Default: all of them.
    runtime: "auto", "hf", "lean", "compile" or "graphs", as in `CausalLM`; what is compiled for a model
    is reused by all calls of this callable, so keep it.
    streamer: may be given here or to `generate`. Calls from several threads wait for each other, because a drafter remembers the text it follows.
    Raises ValueError, in one line, for whatever cannot be served.
    """
    chosen = drafter_named(drafter) if isinstance(drafter, str) else drafter
    judge = verifier_named(verifier) if isinstance(verifier, str) else verifier
    check_verifier(judge, yes_or_no("allow_lossy", allow_lossy))
    if chosen is not None:
        check_pair(chosen, judge)
    check_kind(runtime)
    _check_streamer(streamer)
    rows_at_once(batch_size, 1)
    return Speculative(chosen, judge, None if seed is None else Noise(seed).seed, streamer, allow_lossy, batch_size, runtime)


class Speculative:
    """Made by `speculative`. transformers calls it in place of its own loop."""

    def __init__(
        self,
        drafter: Drafter | None,
        verifier: Verifier,
        seed: int | None,
        streamer: Any,
        allow_lossy: bool,
        batch_size: int | None,
        runtime: str,
    ):
        self.verifier, self.seed, self.streamer = verifier, seed, streamer
        self.allow_lossy, self.batch_size, self.runtime = allow_lossy, batch_size, runtime
        self._choices = Choices(drafter)
        self._kept: tuple[CausalLM, int | None] | None = None  # the last model with what was compiled for it, and the context that it was made for
        self._turn = _Turn()

    @property
    def __signature__(self) -> Signature:
        """transformers reads it to find what to hand on, which is the moment to make it hand on everything."""
        hand_over()
        return signature()

    def __call__(
        self, model: Any, input_ids: Tensor, *, logits_processor: Any, stopping_criteria: Any, generation_config: GenerationConfig, **others: Any
    ) -> Tensor | SpeculativeOutput:
        """Called by `generate` with what it has prepared: processors, criteria, a complete config, and everything else by name."""
        refuse_unservable(model, model.config.get_text_config(), SHORTEST)  # first of all: such a model may have inputs of its own
        with self._turn.lock:
            choices, self._choices = self._choices, Choices(self._choices.drafter)  # a call within this one shall not disturb its drafter
            try:
                return self._answer(choices, model, input_ids, logits_processor, stopping_criteria, generation_config, others)
            finally:
                self._choices = choices

    def _answer(
        self,
        choices: Choices,
        model: Any,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: GenerationConfig,
        others: dict[str, Any],
    ) -> Tensor | SpeculativeOutput:
        handed = Handed.taken_from(others)
        _refuse(handed)
        _check_streamer(handed.streamer)
        choice = choices.choose(handed, generation_config)
        check(generation_config, choice.used)
        refuse_inputs(input_ids, others)
        prompts = unpadded(input_ids, others.get("attention_mask"))
        budget = generation_config.max_length - input_ids.shape[1]
        sampler = Sampler(
            temperature=1.0 if generation_config.do_sample else 0.0,
            processors=logits_processor,
            seed=int(torch.randint(2**62, ()).item()) if self.seed is None else self.seed,
        )
        padding = [ids[: len(ids) - len(prompt)] for ids, prompt in zip(input_ids.tolist(), prompts, strict=True)]
        criteria = [rule for rule in stopping_criteria if not is_limit(rule, generation_config)]
        result = decode(
            self._wrapped(model, needed_context(model, prompts, budget)),
            choice.drafter,
            self.verifier,
            prompts,
            sampler=sampler,
            limits=Limits(budget, generation_config.eos_token_id, criteria, padding),
            streamer=self._streamer(handed),
            allow_lossy=self.allow_lossy,
            batch_size=self.batch_size,
            keep=wanted(generation_config),
        )
        return output(input_ids, result, generation_config)

    def _wrapped(self, model: Any, context: int | None) -> CausalLM:
        if self.runtime in ("auto", "hf"):
            return CausalLM(model, context, self.runtime)
        if self._kept is None or self._kept[0].model is not model or self._kept[1] != context:
            self._kept = CausalLM(model, context, self.runtime), context
        return self._kept[0]

    def _streamer(self, handed: Handed) -> Any:
        """The streamer, wherever it was given. `generate` has put the prompt into its own already."""
        if handed.streamer is None:
            return self.streamer
        if self.streamer is not None:
            raise ValueError("streamer was given to speculative(...) and to generate; give it to one of them")
        return _AfterPrompt(handed.streamer)


def _refuse(handed: Handed) -> None:
    """Arguments of `generate` that have no field in its config. Raises ValueError for what cannot be served, warns of what has no effect."""
    if handed.synced_gpus:
        raise ValueError("synced_gpus=True is not served: every process would have to make as many forwards as the others; leave it out")
    if handed.assistant_tokenizer is not None:
        raise ValueError("assistant_tokenizer is not served: drafts are made in the target's own tokens; take an assistant_model with its tokenizer")
    for name in NEVER_SEEN:
        if getattr(handed, name) is not None:
            warn(f"{name} has no effect under speculative decoding: it belongs to guidance_scale, which is not served")


def _check_streamer(streamer: Any) -> None:
    if streamer is not None and not all(callable(getattr(streamer, name, None)) for name in ("put", "end")):
        raise ValueError(f"streamer={shown(streamer)}: give an object with put and end, for example transformers.TextStreamer(tokenizer)")


class _Turn:
    """A lock that a copy of its owner does not share; a thread that has it may take it again."""

    def __init__(self) -> None:
        self.lock = RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Turn, ()


class _AfterPrompt:
    """A streamer that has the prompt already."""

    def __init__(self, streamer: Any):
        self.streamer, self.has_prompt = streamer, False

    def put(self, tokens: Tensor) -> None:
        if self.has_prompt:
            self.streamer.put(tokens)
        self.has_prompt = True

    def end(self) -> None:
        self.streamer.end()
