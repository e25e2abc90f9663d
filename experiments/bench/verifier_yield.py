"""Tokens per step of every exact verifier on one pair of models. `python -m experiments.bench.verifier_yield`; the grid is in `conf/acceptance.yaml`.

Every method continues the same prompts at the same temperature, all prompts in one batch, without a stop at EOS; each step starts where the method's
own last step ended. No time is measured. Intervals are 95 %, over prompts (`analysis.interval`); differences to `rejection` are paired by prompt.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from drafters.coupled import CoupledDraft
from drafters.draft_model import DraftModel
from drafters.multi_draft import MultiDraft
from experiments.analysis.interval import Interval, interval, ratio_interval
from experiments.analysis.terminal import ranged, render
from experiments.parts.build import exact_verifiers, make
from experiments.parts.command import entry
from experiments.parts.data.prompts import Prompt, choose
from experiments.parts.target import Target
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.moved import recorded
from experiments.recording.published import refuse_changed_code
from spec import CausalLM, Drafter, Limits, Sampler, Verifier, decode
from spec.assistant import Assistant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """A verifier and the drafts it is measured on."""

    verifier: str
    siblings: str | None  # of multi_draft; None: a chain
    num_chains: int
    num_tokens: int

    @property
    def name(self) -> str:
        return self.verifier if self.siblings is None else f"{self.verifier}, {self.num_chains} {self.siblings}"

    def make(self, assistant: CausalLM) -> tuple[Drafter, Verifier]:
        """Objects; the assistant is shared, so it is loaded once."""
        verifier = exact_verifiers()[self.verifier]
        if self.verifier == "coupled":
            return CoupledDraft(num_tokens=self.num_tokens, model=assistant), verifier
        if self.siblings is None:
            return DraftModel(num_tokens=self.num_tokens, model=assistant), verifier
        return MultiDraft(num_chains=self.num_chains, num_tokens=self.num_tokens, siblings=self.siblings, model=assistant), verifier


def methods(config: DictConfig) -> Iterator[Method]:
    for num_tokens in config.num_tokens:
        for verifier in config.chain_verifiers:
            yield Method(verifier, None, 1, num_tokens)
        for num_chains in config.num_chains:
            for siblings, verifiers in config.multi_verifiers.items():
                for verifier in verifiers:
                    yield Method(verifier, str(siblings), num_chains, num_tokens)


def run(method: Method, target: CausalLM, assistant: CausalLM, prompts: list[list[int]], config: DictConfig) -> NDArray:
    """(tokens, steps) per prompt, summed over the samples; [2, prompts]."""
    drafter, verifier = method.make(assistant)
    totals = np.zeros((2, len(prompts)), dtype=np.int64)
    for sample in range(config.samples if method.siblings is None else config.multi_samples):
        ids = range(sample * len(prompts), (sample + 1) * len(prompts))
        sampler = Sampler(config.temperature, seed=config.seed)
        found = decode(target, drafter, verifier, prompts, sampler=sampler, limits=Limits(config.max_new_tokens), sequence_ids=ids)
        rows = [found.stats.row(index) for index in range(len(prompts))]
        totals += np.array([[row.num_tokens for row in rows], [row.num_steps for row in rows]])
    return totals


def gain(totals: NDArray) -> NDArray:
    """Tokens per step beyond those of another method on the same prompts, from tokens and steps of both; [4, ...]."""
    return totals[0] / totals[1] - totals[2] / totals[3]


def rounded(ends: Interval | None) -> list[float] | None:
    return None if ends is None else [round(end, 4) for end in ends]


def figures(method: Method, totals: NDArray, reference: NDArray) -> dict[str, Any]:
    found: dict[str, Any] = {"method": method.name, "num_tokens": method.num_tokens, "steps": int(totals[1].sum())}
    tokens, steps = totals.sum(1)
    found |= {"tokens_per_step": round(float(tokens / steps), 4), "interval": rounded(ratio_interval(totals)), "units": totals.shape[1]}
    if reference is not totals:
        both = np.concatenate([totals, reference]).astype(float)
        found |= {"over_rejection": round(float(gain(both.sum(1))), 4), "over_rejection_interval": rounded(interval(both, gain))}
    return found


def execute(config: DictConfig) -> None:
    """Runs every method, prints the table and writes the file, if one is wanted."""
    torch.set_num_threads(config.threads)
    if config.output:
        refuse_changed_code(Path(config.output))
    target: Target = make(config, "target")
    prompts: list[Prompt] = make(config, "data")
    tokens = [target.tokenizer(prompt.text).input_ids for prompt in choose(prompts, config.num_prompts)]
    loader = Assistant(config.drafter_name)
    loader.attach(target.model)
    found: list[dict[str, Any]] = []
    reference = None
    for method in methods(config):
        totals = run(method, target.model, loader.model, tokens, config)
        if method.verifier == "rejection":
            reference = totals
        found.append(figures(method, totals, totals if reference is None else reference))
        log.info("%s", json.dumps(found[-1]))
    settings: dict[str, Any] = recorded(OmegaConf.to_container(config, resolve=True))
    provenance = circumstances(target.model.device, target.model.dtype) | {"config_hash": config_hash(settings), "load_average_after": load_average()}
    result = {"provenance": provenance, "config": settings, "num_prompts": len(tokens), "methods": found}
    shown = [
        {"method": row["method"], "drafted": str(row["num_tokens"]), "tokens/step": ranged(row["tokens_per_step"], row["interval"], row["units"])}
        for row in found
    ]
    render(shown, title=f"temperature {config.temperature:g}, {len(tokens)} units (prompts)")
    if config.output:
        Path(config.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(config.output), json.dumps(result, indent=1) + "\n")


main = entry("acceptance", lambda config, *_: execute(config))

if __name__ == "__main__":
    main()
