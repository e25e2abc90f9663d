"""Peers as `conf/peers/` describes them: what is wrong with one is said before a model is loaded, and the objects come later."""

from dataclasses import dataclass
from typing import Any, Protocol

from drafters.prompt_lookup import PromptLookup as OurLookup
from experiments.parts.peers.engines.engine import Engine
from experiments.parts.peers.transformers_generate import Assisted, Generate, PromptLookup, check_single
from spec.arguments import whole
from spec.interfaces import Drafter
from spec.loading import load_model
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.store import as_float32


class Wanted(Protocol):
    """A peer that is asked for."""

    def check(self, drafter: Drafter, sampler: Sampler) -> None:
        """Raises ValueError where the method's drafter lacks what the peer wants of it, or the peer cannot do what is asked."""
        ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate | Engine:
        """The peer, once the drafter is attached."""
        ...


@dataclass(frozen=True)
class WantedGenerate:
    """Plain `generate`, as many prompts together as the method takes."""

    batch_size: int = 1

    def check(self, drafter: Drafter, sampler: Sampler) -> None: ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        return Generate(as_float32(target.model), self.batch_size)


@dataclass(frozen=True)
class WantedAssisted:
    """`generate(assistant_model=...)`. Without a `name` the assistant is the drafter's own model, without `num_tokens` it drafts as many tokens (5
    where the drafter chooses)."""

    name: str | None = None
    num_tokens: int | None = None
    dtype: str = "auto"
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_single(self.batch_size, 1 if self.num_tokens is None else self.num_tokens)

    def check(self, drafter: Drafter, sampler: Sampler) -> None:
        check_assistant(self.name, drafter, "assisted")

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        assistant, num_tokens = assistant_of(target, drafter, self.name, self.dtype)
        return Assisted(as_float32(target.model), self.batch_size, assistant, self.num_tokens or num_tokens)


@dataclass(frozen=True)
class WantedPromptLookup:
    """`generate(prompt_lookup_num_tokens=...)`. What is None is as the method's, if that is prompt_lookup too, or else 10 tokens and 3-grams."""

    num_tokens: int | None = None
    max_ngram: int | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        check_single(self.batch_size, 1 if self.num_tokens is None else self.num_tokens)
        if self.max_ngram is not None:
            whole("max_ngram", self.max_ngram, "at least 1", 1)

    def check(self, drafter: Drafter, sampler: Sampler) -> None: ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        num_tokens, max_ngram = lookup_of(drafter)
        return PromptLookup(as_float32(target.model), self.batch_size, self.num_tokens or num_tokens, self.max_ngram or max_ngram)


def check_assistant(name: str | None, drafter: Drafter, peer: str) -> None:
    """Raises ValueError where the drafter has no model and no other is named."""
    if name is None and not drafter.checkpoints:
        raise ValueError(
            f"peers.{peer} drafts with the drafter's model, and {type(drafter).__name__} has none; name one "
            f"(peers.{peer}.name=embedded/drafter, a hub id or a folder) or take drafter=draft_model"
        )


def assistant_of(target: CausalLM, drafter: Drafter, name: str | None, dtype: str) -> tuple[Any, int]:
    """The named model, or else the drafter's own, as transformers knows it, and how many tokens the drafter drafts, or 5."""
    own = next(iter(drafter.models.values()), None)
    num_tokens = (None if own is None or drafter.auto is not None else drafter.length) or 5
    if name is not None:
        return load_model(name, target.dtype if dtype == "auto" else dtype).to(target.device), num_tokens
    assert own is not None, "check comes first"
    return as_float32(own.model), num_tokens


def lookup_of(drafter: Drafter) -> tuple[int, int]:
    """How many tokens and how long n-grams a lookup gets: as the method's, if that is prompt_lookup too."""
    return (drafter.num_tokens, drafter.max_ngram) if isinstance(drafter, OurLookup) and drafter.auto is None else (10, 3)
