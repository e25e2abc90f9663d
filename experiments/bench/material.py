"""What a benchmark works on: models, prompts, and the settings that all ways share."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments.bench.set_acceptance import PaidOracle, Recorded, record
from experiments.parts.build import make
from experiments.parts.data.prompts import choose
from experiments.parts.peers.engines import wanted
from experiments.parts.random_target import random_model, random_prompts
from experiments.parts.settings import check_booleans
from experiments.parts.target import Target
from experiments.recording.naming import method_name
from spec import CausalLM, Drafter, Limits, Sampler, Verifier
from spec.loading import load_model
from spec.runtime import BUCKETS, KINDS
from spec.store import stored

PAID = "paid_oracle"
PEERS = ("bare", "generate", "assisted", "prompt_lookup", "static", *wanted.ENGINES)


@dataclass
class Material:
    """Everything that the ways of one run have in common."""

    config: DictConfig
    target: CausalLM  # runtime=auto
    sampler: Sampler
    verifier: Verifier
    limits: Limits  # without an EOS: every answer becomes as long as asked
    prompts: list[list[int]]
    assistant: Any = None  # a transformers model
    served: dict[str, CausalLM] = field(default_factory=dict)
    recorded: Recorded | None = None  # what plain decoding says, where a drafter's acceptance is set

    @property
    def model(self) -> Any:
        """The target as transformers knows it."""
        return self.target.model

    def targets(self) -> dict[str, CausalLM]:
        """The target under every runtime that is asked for, made once; the weights are the same objects."""
        capacity = max(map(len, self.prompts)) + self.limits.max_new_tokens + BUCKETS[-1]  # no more is attended to than must be
        for name in self.config.runtimes:
            if name not in self.served:
                self.served[name] = self.target if name == "auto" else CausalLM(self.model, self.target.context, name, capacity)
        return {name: self.served[name] for name in self.config.runtimes}

    def drafter(self, name: str) -> Drafter:
        """A drafter as the configuration describes it, with this run's assistant and recordings."""
        if name == PAID:
            return PaidOracle(self._made("draft_model", num_tokens=self.config.drafters.oracle.num_tokens), self._made("oracle"))
        return self._made(name)

    def _made(self, name: str, **extra: Any) -> Any:
        settings: Any = OmegaConf.to_container(self.config.drafters[name], resolve=True)
        settings |= {"_partial_": True, **extra}
        part = make({"drafter": settings, "trusted_packages": self.config.trusted_packages}, "drafter")
        takes = inspect.signature(part.func).parameters
        offers = {"model": self.assistant, "continuations": self.recorded}
        return part(**{key: value for key, value in offers.items() if key in takes and value is not None})


def check_names(what: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises ValueError for a name that does not exist, with the nearest that does."""
    known = list(known)
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise ValueError(f"{what} names {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} Known: {', '.join(known)}")


def check(config: DictConfig) -> None:
    """Raises ValueError for settings that make no sense, before anything is loaded."""
    check_names("mode", [config.mode], ("decode", "batch", "verify", "verifiers", "memory", "store", "gpu"))
    check_names("ours", config.ours, [*config.drafters, PAID])
    check_names("against", config.against, PEERS)
    check_names("runtimes", config.runtimes, KINDS)
    counts = {name: config[name] for name in ("num_prompts", "max_new_tokens", "repeats", "threads")}
    counts |= {f"prompt_tokens[{index}]": length for index, length in enumerate(config.prompt_tokens)}
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value}: give a whole number of at least 1")
    if config.max_new_tokens < 2:
        raise ValueError("max_new_tokens=1: give at least 2, or there is nothing to decode behind the prompt's own forward")
    check_booleans({name: config[name] for name in ("record", "allow_lossy")})
    if re.search(r"[^\w.+-]", str(config.label or "")):
        raise ValueError(f"label={config.label}: give letters, digits, dots and dashes, for it becomes part of a file's name")
    if config.warmup < 0:
        raise ValueError(f"warmup={config.warmup}: give 0 or more rounds")
    check_engines(config)
    if not config.ours or not config.runtimes:
        raise ValueError("ours and runtimes must each name something to measure")


def check_engines(config: DictConfig) -> None:
    """Raises ValueError for an engine that is not installed, or cannot sample as is asked."""
    for name in wanted.ENGINES.keys() & {*config.against}:
        try:
            wanted.check(name, make(config, "sampling"))
        except ValueError as error:
            raise ValueError(f"against {name}: {error}") from error


def gather(config: DictConfig) -> Material:
    """Loads the models and makes the prompts. Raises ValueError for what cannot be served."""
    check(config)
    sampler, verifier = make(config, "sampling"), make(config, "verifier")
    if not verifier.exact and not config.allow_lossy:
        raise ValueError(f"verifier={method_name(config.verifier)} changes the target's distribution; set allow_lossy=true if that is wanted")
    made: Target = make(config, "target")
    if made.model.wanted_runtime != "auto":
        made = Target(CausalLM(made.model.model, made.model.context), made.tokenizer)  # runtimes says what is measured
    material = Material(config, made.model, sampler, verifier, Limits(config.max_new_tokens), prompts_for(config, made))
    material.limits.check(material.prompts, made.model.context)
    if needs_assistant(config):
        material.assistant = assistant_for(config, made)
    if {"oracle", PAID} & {*config.ours}:
        material.recorded = record(made.model, verifier, material.prompts, sampler, config.max_new_tokens)
    return material


def prompts_for(config: DictConfig, target: Target) -> list[list[int]]:
    """Token ids: texts where there is a tokenizer, else random ids."""
    if target.tokenizer is None:
        return random_prompts(target.model, config.prompt_tokens, config.num_prompts, config.seed)
    texts = choose(make(config, "data"), config.num_prompts)
    return [list(target.tokenizer(prompt.text, verbose=False)["input_ids"]) for prompt in texts]


def needs_assistant(config: DictConfig) -> bool:
    """Whether any way drafts with a model: such a drafter's settings name one."""
    drafting = {name for name in config.ours if name == PAID or "name" in config.drafters[name]}
    return bool(drafting) or bool({"assisted", "openvino_draft"} & {*config.against})


def assistant_for(config: DictConfig, target: Target) -> Any:
    """The small model: by name, or random weights for a target of random weights."""
    model = target.model
    dtype = str(model.dtype).removeprefix("torch.")
    if target.tokenizer is None and config.assistant is None:
        limit = model.config.max_position_embeddings
        return random_model(config.assistant_size, dtype, str(model.device), vocab_size=model.vocab_size, context=limit, seed=config.seed + 1)
    draft_model = config.drafters.draft_model
    return stored(load_model(config.assistant or draft_model.name, dtype).to(model.device), draft_model.store)
