"""What the loop costs besides forwards. `python -m experiments.overhead drafter=draft_model`, with the same groups as the main job.

Two questions, answered on the same prompts in one interleaved run: is plain decoding here slower than `model.generate`, and which share of the decode
time is spent outside the forwards of target and drafter. On CUDA the forwards return before they are done, so the second question is not asked there.
"""

import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import hydra
import numpy as np
import torch
from omegaconf import DictConfig
from scipy import stats

from drafters.draft_model import DraftModel
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.build import Parts, build
from experiments.provenance import circumstances
from experiments.table import render
from experiments.tasks import make_tasks
from spec import Drafter, Limits, Sampler, decode
from verifiers.recursive import Recursive

log = logging.getLogger(__name__)


class Stopwatch:
    """Seconds inside `forward` of the models it watches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watch(self, model: Any) -> Iterator[None]:
        original = model.forward

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        timed.__signature__ = inspect.signature(original)  # pyright: ignore[reportFunctionMemberAccess]  generate() looks at it
        model.forward = timed
        try:
            yield
        finally:
            del model.forward


def ways(parts: Parts, config: DictConfig, temperature: float) -> dict[str, Callable[[list[int]], int]]:
    """name -> function that continues a prompt by max_new_tokens and returns how many tokens it made."""
    model, budget = parts.target.model.model, config.max_new_tokens
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}

    def generate(prompt: list[int]) -> int:
        ids = torch.tensor([prompt], device=model.device)
        return model.generate(ids, max_new_tokens=budget, pad_token_id=0, **sampling).shape[1] - len(prompt)

    def ours(drafter: Any) -> Callable[[list[int]], int]:
        sampler, limits = Sampler(temperature, seed=config.seed), Limits(budget)
        return lambda prompt: len(decode(parts.target.model, drafter, Recursive(), [prompt], sampler=sampler, limits=limits).new_tokens())

    drafters: dict[str, Drafter] = {"none": NoDraft(), "prompt_lookup": PromptLookup(), "lookahead": Lookahead()}
    if isinstance(parts.drafter, DraftModel):
        drafters["draft_model"] = parts.drafter
    return {"generate": generate} | {name: ours(drafter) for name, drafter in drafters.items()}


def measure(parts: Parts, config: DictConfig, temperature: float, prompts: list[list[int]]) -> dict[str, dict[str, Any]]:
    """Per way: seconds per token, its ratio to `generate` with a 95 % interval over prompts, and the share outside forwards."""
    watch, chosen = Stopwatch(), ways(parts, config, temperature)
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    outside: dict[str, list[float]] = {name: [] for name in chosen}
    assistant = parts.drafter.assistant.model if isinstance(parts.drafter, DraftModel) else None
    with ExitStack() as stack:
        for model in (parts.target.model, assistant):
            if model is not None:
                stack.enter_context(watch.watch(model.model))
        for index, prompt in enumerate([prompts[-1], *prompts]):
            for name, way in chosen.items():
                watch.seconds, start = 0.0, time.perf_counter()
                count = way(prompt)
                spent = time.perf_counter() - start
                if index:  # the first round warms up
                    seconds[name].append(spent / count)
                    outside[name].append(1 - watch.seconds / spent)
    return {name: row(seconds[name], seconds["generate"], outside[name]) for name in chosen}


def row(seconds: list[float], reference: list[float], outside: list[float]) -> dict[str, Any]:
    ratios = np.array(reference) / np.array(seconds)
    found: dict[str, Any] = {"ms_per_token": 1000 * float(np.median(seconds)), "vs_generate": float(np.median(ratios))}
    found |= {"outside_forwards": float(np.median(outside)), "vs_generate_interval": [found["vs_generate"]] * 2}
    if len(ratios) > 2 and ratios.std() > 0:
        interval = stats.bootstrap((ratios,), np.median, rng=0, method="percentile").confidence_interval
        found["vs_generate_interval"] = [float(interval.low), float(interval.high)]
    return found


@hydra.main(config_path="pkg://conf", config_name="config", version_base=None)
def main(config: DictConfig) -> None:
    torch.set_num_threads(config.threads)
    parts = build(config)
    prompts = [task.tokens for task in make_tasks(config, parts)]
    parts.target.model.model.generation_config.eos_token_id = None  # every answer as long as the budget, on both sides
    result: dict[str, Any] = {"provenance": circumstances(parts.target.model.device, parts.target.model.dtype), "num_prompts": len(prompts)}
    for temperature in (0.0, 0.8):
        result[f"T={temperature:g}"] = found = measure(parts, config, temperature, prompts)
        rows = [
            {
                "method": name,
                "ms/token": f"{figures['ms_per_token']:.2f}",
                "vs generate": "{:.2f}".format(figures["vs_generate"]) + " [{:.2f}, {:.2f}]".format(*figures["vs_generate_interval"]),
                "outside forwards": f"{figures['outside_forwards']:.1%}",
            }
            for name, figures in found.items()
        ]
        render(rows, title=f"temperature {temperature:g}, {len(prompts)} prompts, {config.max_new_tokens} new tokens")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
