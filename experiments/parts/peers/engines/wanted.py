"""The engines as `conf/peers/` describes them. Their packages are imported when a peer is built, and what can be refused is refused before."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from experiments.parts.peers.configured import assistant_of, check_assistant, lookup_of
from experiments.parts.peers.engines import ctranslate2_generator, openvino_model, openvino_pipelines
from experiments.parts.peers.engines.engine import Engine, check_served, require
from experiments.parts.peers.engines.kept import Recipe
from experiments.parts.peers.transformers_generate import check_single
from spec.arguments import whole
from spec.interfaces import Drafter
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.store import as_float32

OURS = 1  # of our conversions; another number makes every kept model anew
ENGINES: dict[str, type[Engine]] = {
    "openvino": openvino_pipelines.OpenVINO,
    "openvino_draft": openvino_pipelines.OpenVINODraft,
    "openvino_lookup": openvino_pipelines.OpenVINOLookup,
    "ctranslate2": ctranslate2_generator.CTranslate2,
}
CONVERSIONS: dict[str, Callable[[Any, Path], None]] = {"openvino-genai": openvino_model.convert, "ctranslate2": ctranslate2_generator.convert}


def check(name: str, sampler: Sampler, batch_size: int = 1) -> None:
    """Raises ValueError where the engine of this name is not asked for such sampling, or not installed."""
    ENGINES[name].check_sampler(sampler, batch_size)
    require(ENGINES[name].engine)


def make(name: str, target: CausalLM, drafter: Any = None, **settings: Any) -> Engine:
    """The peer of this name, its models converted or taken from those that are kept; `drafter` is a transformers model.

    Raises ValueError for models that it cannot serve, and where its package cannot be imported.
    """
    kind: Any = ENGINES[name]
    models = {"target": as_float32(target.model)} | ({} if drafter is None else {"drafter": as_float32(drafter)})
    for what, model in models.items():
        check_served(model, what)
    recipe = Recipe(kind.engine, f"{require(kind.engine)}-{OURS}", CONVERSIONS[kind.engine])
    context = min([target.context, *(getattr(model.config, "max_position_embeddings", None) or 2**31 for model in models.values())])
    try:
        folders = {what: recipe.kept(model) for what, model in models.items()}
        drafting = {} if drafter is None else {"drafter": folders["drafter"]}
        return kind(models["target"], context=context, folder=folders["target"], **drafting, **settings)
    except RuntimeError as error:  # what both engines raise
        raise ValueError(f"{kind.engine} cannot serve this model: {' '.join(str(error).split())[:300]}") from error


@dataclass(frozen=True)
class WantedOpenVINO:
    """OpenVINO's plain decoding, as many prompts together as the method takes; one at a time where tokens are sampled."""

    batch_size: int = 1
    peer: ClassVar[str] = "openvino"

    def check(self, drafter: Drafter, sampler: Sampler) -> None:
        try:
            check(self.peer, sampler, self.batch_size)
        except ValueError as error:
            raise ValueError(f"peers.{self.peer}: {error}") from error

    def build(self, target: CausalLM, drafter: Drafter) -> Engine:
        return make(self.peer, target, batch_size=self.batch_size)


@dataclass(frozen=True)
class WantedCTranslate2(WantedOpenVINO):
    """CTranslate2's plain decoding, as many prompts together as the method takes."""

    peer: ClassVar[str] = "ctranslate2"


@dataclass(frozen=True)
class WantedOpenVINODraft(WantedOpenVINO):
    """OpenVINO's speculative decoding. Without a `name` the assistant is the drafter's own model, without `num_tokens` it drafts as many tokens."""

    name: str | None = None
    num_tokens: int | None = None
    dtype: str = "auto"
    peer: ClassVar[str] = "openvino_draft"

    def __post_init__(self) -> None:
        check_single(self.batch_size, 1 if self.num_tokens is None else self.num_tokens)

    def check(self, drafter: Drafter, sampler: Sampler) -> None:
        check_assistant(self.name, drafter, self.peer)
        if self.num_tokens is None and drafter.traits.makes_trees:
            raise ValueError(
                f"peers.{self.peer} drafts a chain, and {type(drafter).__name__} drafts trees; say how long a chain: peers.{self.peer}.num_tokens=5"
            )
        super().check(drafter, sampler)

    def build(self, target: CausalLM, drafter: Drafter) -> Engine:
        assistant, num_tokens = assistant_of(target, drafter, self.name, self.dtype)
        return make(self.peer, target, assistant, batch_size=self.batch_size, num_tokens=self.num_tokens or num_tokens)


@dataclass(frozen=True)
class WantedOpenVINOLookup(WantedOpenVINO):
    """OpenVINO's prompt lookup. What is None is as the method's, if that is prompt_lookup too, or else 10 tokens and 3-grams."""

    num_tokens: int | None = None
    max_ngram: int | None = None
    peer: ClassVar[str] = "openvino_lookup"

    def __post_init__(self) -> None:
        check_single(self.batch_size, 1 if self.num_tokens is None else self.num_tokens)
        if self.max_ngram is not None:
            whole("max_ngram", self.max_ngram, "at least 1", 1)

    def build(self, target: CausalLM, drafter: Drafter) -> Engine:
        num_tokens, max_ngram = lookup_of(drafter)
        settings = {"num_tokens": self.num_tokens or num_tokens, "max_ngram": self.max_ngram or max_ngram}
        return make(self.peer, target, batch_size=self.batch_size, **settings)
