"""Texts that the target has sampled, read in every shape and dtype: from a configuration to the gaps between distributions."""

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from drafters.none import NoDraft
from experiments.analysis.terminal import render
from experiments.lossless.slots.forwards import PLAIN, Text, Way, read
from experiments.lossless.slots.gaps import Gap, figures, gap, likelihood, text_gap
from experiments.parts.build import make
from experiments.parts.data.prompts import Prompt, choose
from experiments.recording.files import write_atomically
from experiments.recording.identity import config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.moved import recorded
from experiments.recording.published import refuse_changed_code
from spec import CausalLM, Limits, Sampler, decode
from verifiers.recursive import Recursive

log = logging.getLogger(__name__)
ROUNDING = "own rounding"


def sampled(target: CausalLM, prompts: Sequence[list[int]], config: DictConfig) -> list[Text]:
    """The target's own answers, all of `max_new_tokens`, by plain decoding."""
    sampler, limits = Sampler(config.text_temperature, seed=config.seed), Limits(config.max_new_tokens)
    found = decode(target, NoDraft(), Recursive(), prompts, sampler=sampler, limits=limits)
    return [Text(prompt, found.new_tokens(row)) for row, prompt in enumerate(prompts)]


def ways(config: DictConfig) -> list[Way]:
    found = [Way("chain", slots) for slots in config.chains] + [Way("tree", slots) for slots in config.trees]
    return found + [Way("chain", 1, rows) for rows in config.rows]


def chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def read_all(target: CausalLM, texts: Sequence[Text], way: Way) -> list[Tensor]:
    """The logits of every text, `way.rows` of them at once."""
    return [logits for group in chunks(texts, way.rows) for logits in read(target, group, way)]


def measure(targets: dict[str, CausalLM], author: str, texts: Sequence[Text], config: DictConfig) -> dict[tuple[str, str], list[Gap]]:
    """Gaps by dtype and way, a text's after the other; `author`: the dtype that sampled the texts.

    Logits are held for as many texts as are read at once, so that any vocabulary fits.
    """
    chosen = ways(config)
    found: dict[tuple[str, str], list[Gap]] = {}
    group_size = max(way.rows for way in [PLAIN, *chosen])
    for number, group in enumerate(chunks(texts, group_size)):
        plain = {dtype: read_all(target, group, PLAIN) for dtype, target in targets.items()}
        scale, origin = config.text_temperature, next(iter(targets))
        known = [likelihood(logits, text.answer, scale) for logits, text in zip(plain[author], group, strict=True)]
        for dtype, target in targets.items():
            others = ((way.name, read_all(target, group, way)) for way in chosen)
            for name, logits in chain(others, [(ROUNDING, plain[origin])] if dtype != origin else []):
                several = zip(group, known, plain[dtype], logits, strict=True)
                found.setdefault((dtype, name), []).extend(compare(text, log_p, one, other, config) for text, log_p, one, other in several)
        log.info("%d of %d texts", min((number + 1) * group_size, len(texts)), len(texts))
    return found


def compare(text: Text, known: float, one: Tensor, other: Tensor, config: DictConfig) -> Gap:
    """The gap between two ways' logits of a text that was sampled with the log-likelihood `known`."""
    scale = config.text_temperature
    whole = text_gap(likelihood(one, text.answer, scale), likelihood(other, text.answer, scale), known)
    return gap(one, other, config.temperatures, whole)


def load(config: DictConfig) -> tuple[dict[str, CausalLM], Any]:
    """The target once per dtype, and its tokenizer."""
    targets, tokenizer = {}, None
    for dtype in config.dtypes:
        changed = OmegaConf.merge(config, {"target": {"dtype": dtype}})
        assert isinstance(changed, DictConfig)
        made = make(changed, "target")
        targets[dtype], tokenizer = made.model, made.tokenizer
    if tokenizer is None:
        raise ValueError("this target has no tokenizer, so it can continue no prompt; choose target=embedded or target=hub")
    return targets, tokenizer


def shown(case: dict[str, Any]) -> dict[str, str]:
    tvs = {f"T={found['temperature']:g}: mean TV, largest": f"{found['mean']:.2e}, {found['largest']:.2e}" for found in case["tv"]}
    margin = "-" if case["largest_flipped_margin"] is None else f"{case['largest_flipped_margin']:.3g}"
    rest = {"TV of texts": f"{case['text_tv']['mean']:.2e}", "other argmax": f"{case['flip_share']:.2%}", "up to margin": margin}
    return {"dtype": case["dtype"], "forward": case["way"], **tvs, **rest}


def execute(config: DictConfig) -> dict[str, Any]:
    """Measures, prints, writes and returns the result. Raises ValueError for wrong input."""
    torch.set_num_threads(config.threads)
    if not config.dtypes or min([config.text_temperature, *config.temperatures]) <= 0:
        raise ValueError(
            "give at least one dtype, and temperatures above 0: at 0 there is no distribution to compare, but see the share of other argmaxes"
        )
    if config.output:
        refuse_changed_code(Path(config.output))
    ways(config)  # says what is wrong with them before any work
    prompts: list[Prompt] = choose(make(config, "data"), config.num_prompts)
    targets, tokenizer = load(config)
    name = "float32" if "float32" in targets else next(iter(targets))
    author = targets[name]
    provenance = circumstances(author.device, author.dtype) | {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    provenance["dtype"] = list(config.dtypes)
    texts = sampled(author, [tokenizer(prompt.text).input_ids for prompt in prompts], config)
    measured = measure(targets, name, texts, config)
    cases = [{"dtype": dtype, "way": way} | figures(gaps, config.temperatures) for (dtype, way), gaps in measured.items()]
    render([shown(case) for case in cases], title=f"{config.target.get('name')}, {len(texts)} texts of {config.max_new_tokens} tokens")
    settings: dict[str, Any] = recorded(OmegaConf.to_container(config, resolve=True))
    provenance |= {"config_hash": config_hash(settings), "load_average_after": load_average()}
    result = {"provenance": provenance, "config": settings, "num_texts": len(texts), "cases": cases}
    if config.output:
        Path(config.output).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(config.output), json.dumps(result, indent=1) + "\n")
        log.info("written to %s", config.output)
    return result
