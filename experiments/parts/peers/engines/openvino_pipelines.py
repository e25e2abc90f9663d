"""OpenVINO GenAI as a peer: its plain decoding, its drafts by a draft model, and its prompt lookup.

What would leak is pinned: the precision of products and of the cache, no cache of prefixes from one prompt to the next, ids instead of text, no end
but ours. One prompt at a time its plain decoding samples from the target's distribution, and its lookup says the same tokens under the same seed. Its
sampled drafts are biased (openvinotoolkit/openvino.genai issue 4190): by .53 in total variation on a toy pair, where .11 would be seen.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.parts.peers.engines.engine import Engine, imported
from experiments.parts.peers.engines.openvino_model import pinned
from experiments.parts.peers.transformers_generate import check_single, settings_of
from spec.arguments import whole
from spec.sampling import Sampler
from spec.state import Limits

BIASED = "its sampled drafts do not keep the target's distribution (openvino.genai issue 4190), so it is compared at temperature 0 only"
SHARED = "batch_size={count}: it draws every row of a batch by the same random numbers; take batch_size=1 where tokens are sampled"


@dataclass
class OpenVINO(Engine):
    """Plain decoding by OpenVINO GenAI. `folder`: the converted target."""

    engine = "openvino-genai"
    folder: Path = Path()
    name = "openvino"
    pipeline: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        genai = imported("openvino_genai")

        schedule = genai.SchedulerConfig()
        schedule.cache_size, schedule.enable_prefix_caching = 0, False  # 0: as large as it must be
        options = {"scheduler_config": schedule} | self.drafting() | pinned(torch.get_num_threads())
        self.pipeline = genai.LLMPipeline(self.folder, genai.Tokenizer(self.folder), "CPU", **options)

    def drafting(self) -> dict[str, Any]:
        """What the pipeline is given to draft with."""
        return {}

    def drafted(self) -> dict[str, Any]:
        """What a call says of drafts."""
        return {}

    @classmethod
    def check_sampler(cls, sampler: Sampler, batch_size: int = 1) -> None:
        super().check_sampler(sampler, batch_size)
        if not sampler.greedy and batch_size > 1:
            raise ValueError(SHARED.format(count=batch_size))

    def run(self, rows: list[list[int]], sampler: Sampler, limits: Limits, seed: int) -> list[tuple[list[int], int]]:
        ov, genai = imported("openvino"), imported("openvino_genai")

        longest = max(map(len, rows))
        ids = np.array([[0] * (longest - len(row)) + row for row in rows], np.int64)
        mask = np.array([[0] * (longest - len(row)) + [1] * len(row) for row in rows], np.int64)
        config = genai.GenerationConfig(**self.settings(sampler, limits, seed))
        inputs = genai.TokenizedInputs(input_ids=ov.Tensor(ids), attention_mask=ov.Tensor(mask))
        made = self.pipeline.generate(inputs, config)
        forwards = len(made.perf_metrics.raw_metrics.token_infer_durations)
        return [(list(tokens), forwards) for tokens in made.tokens]

    def settings(self, sampler: Sampler, limits: Limits, seed: int) -> dict[str, Any]:
        """The call's generation config."""
        known = settings_of(sampler) | self.drafted() | {"max_new_tokens": limits.max_new_tokens, "apply_chat_template": False}
        if not sampler.greedy:
            known["top_k"] = known["top_k"] or 2**31  # 0 is none of them there
        ends = set(limits.eos_ids) or {0}  # it wants one, also where none is minded
        return known | {"eos_token_id": min(ends), "stop_token_ids": ends, "ignore_eos": not limits.eos_ids, "rng_seed": seed}


@dataclass
class OpenVINOLookup(OpenVINO):
    """Its prompt lookup: `num_tokens` copied from where the last tokens, at most `max_ngram` of them, stood before."""

    num_tokens: int = 10
    max_ngram: int = 3
    name = "openvino, prompt lookup"

    def __post_init__(self) -> None:
        check_single(self.batch_size, self.num_tokens)
        whole("max_ngram", self.max_ngram, "at least 1", 1)
        super().__post_init__()

    def drafting(self) -> dict[str, Any]:
        return {"prompt_lookup": True}

    def drafted(self) -> dict[str, Any]:
        return {"num_assistant_tokens": self.num_tokens, "max_ngram_size": self.max_ngram}


@dataclass
class OpenVINODraft(OpenVINO):
    """Its speculative decoding: a chain of `num_tokens` drafted by the converted model in `drafter`."""

    num_tokens: int = 5
    drafter: Path = Path()
    name = "openvino, draft model"

    def __post_init__(self) -> None:
        check_single(self.batch_size, self.num_tokens)
        super().__post_init__()

    def drafting(self) -> dict[str, Any]:
        genai = imported("openvino_genai")

        return {"draft_model": genai.draft_model(self.drafter, "CPU", **pinned(torch.get_num_threads()))}

    def drafted(self) -> dict[str, Any]:
        return {"num_assistant_tokens": self.num_tokens}

    @classmethod
    def check_sampler(cls, sampler: Sampler, batch_size: int = 1) -> None:
        super().check_sampler(sampler, batch_size)
        if not sampler.greedy:
            raise ValueError(BIASED)
