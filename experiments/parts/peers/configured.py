"""Peers as `conf/peers/` describes them: what is wrong with one is said before a model is loaded, and the objects come later."""

from dataclasses import dataclass
from typing import Any, Protocol

from drafters.prompt_lookup import PromptLookup as OurLookup
from experiments.parts.peers.transformers_generate import Assisted, Generate, PromptLookup, check_single
from spec.arguments import whole
from spec.interfaces import Drafter
from spec.loading import load_model
from spec.model import CausalLM


class Wanted(Protocol):
    """A peer that is asked for."""

    def check(self, drafter: Drafter) -> None:
        """Raises ValueError where the method's drafter lacks what the peer wants of it."""
        ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        """The peer, once the drafter is attached."""
        ...


@dataclass(frozen=True)
class WantedGenerate:
    """Plain `generate`, as many prompts together as the method takes."""

    batch_size: int = 1

    def check(self, drafter: Drafter) -> None: ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        return Generate(target.model, self.batch_size)


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

    def check(self, drafter: Drafter) -> None:
        if self.name is None and not drafter.checkpoints:
            raise ValueError(
                f"peers.assisted drafts with the drafter's model, and {type(drafter).__name__} has none; name one "
                "(peers.assisted.name=embedded/drafter, a hub id or a folder) or take drafter=draft_model"
            )

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        own = next(iter(drafter.models.values()), None)
        if self.name is None:
            assert own is not None, "check comes first"
            model = own.model
        else:
            model: Any = load_model(self.name, target.dtype if self.dtype == "auto" else self.dtype).to(target.device)
        num_tokens = self.num_tokens or (None if own is None or drafter.auto is not None else drafter.length) or 5
        return Assisted(target.model, self.batch_size, model, num_tokens)


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

    def check(self, drafter: Drafter) -> None: ...

    def build(self, target: CausalLM, drafter: Drafter) -> Generate:
        num_tokens, max_ngram = (drafter.num_tokens, drafter.max_ngram) if isinstance(drafter, OurLookup) and drafter.auto is None else (10, 3)
        return PromptLookup(target.model, self.batch_size, self.num_tokens or num_tokens, self.max_ngram or max_ngram)
