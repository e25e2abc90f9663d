"""CTranslate2 as a peer: a second engine's plain decoding. Its own converter reads the model object; ids stand in the vocabulary as their digits."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.parts.peers.engines.engine import Engine, check_trial, imported, shell_of, trial_tokens
from experiments.parts.peers.transformers_generate import settings_of
from spec.sampling import Sampler
from spec.state import Limits


def generator(folder: Path) -> Any:
    threads = {"inter_threads": 1, "intra_threads": torch.get_num_threads()}
    return imported("ctranslate2").Generator(str(folder), device="cpu", compute_type="float32", **threads)


def words(ids: Iterable[int]) -> list[str]:
    return [str(number) for number in ids]


@torch.no_grad()
def convert(model: Any, folder: Path) -> None:
    """Writes the model into the folder. Raises ValueError for one that CTranslate2's converter does not know or makes another of."""
    loaders, kind = imported("ctranslate2.converters.transformers")._MODEL_LOADERS, type(model.config).__name__
    if kind not in loaders:
        raise ValueError(f"CTranslate2 has no converter for {kind}; leave this peer out")
    try:
        made = loaders[kind].get_model_spec(shell_of(model))  # it takes the layers out of what it gets
    except (NotImplementedError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"CTranslate2 cannot convert this model ({type(error).__name__}: {error}); leave this peer out") from error
    made.register_vocabulary(words(range(model.config.vocab_size)))
    made.config.bos_token = made.config.eos_token = made.config.unk_token = "0"  # each call says what ends a text
    made.config.layer_norm_epsilon = model.config.rms_norm_eps
    made.validate()
    made.optimize(quantization=None)
    made.save(str(folder))
    ids = words(trial_tokens(model)[0].tolist())
    check_trial(model, np.array(generator(folder).forward_batch([ids])), "ctranslate2")


@dataclass
class CTranslate2(Engine):
    """Plain decoding by CTranslate2. `folder`: the converted target.

    Its worker reads a seed once, when it first samples, so a sampled text depends on the calls before it.
    """

    engine = "ctranslate2"
    folder: Path = Path()
    name = "ctranslate2"
    generator: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.generator = generator(self.folder)

    def run(self, rows: list[list[int]], sampler: Sampler, limits: Limits, seed: int) -> list[tuple[list[int], int]]:
        imported("ctranslate2").set_random_seed(seed + 1)  # 0 would be a seed of its own choice
        made = self.generator.generate_batch([words(row) for row in rows], **settings(sampler, limits))
        return [(result.sequences_ids[0], len(result.sequences_ids[0])) for result in made]


def settings(sampler: Sampler, limits: Limits) -> dict[str, Any]:
    """The arguments of a call."""
    known = settings_of(sampler)
    ends = list(limits.eos_ids)
    drawn = {} if sampler.greedy else {"sampling_topk": known["top_k"], "sampling_topp": known["top_p"], "sampling_temperature": known["temperature"]}
    least = 0 if ends else limits.max_new_tokens
    ending = {"max_length": limits.max_new_tokens, "min_length": least, "end_token": ends, "return_end_token": True}
    return {"include_prompt_in_result": False} | drawn | ending
