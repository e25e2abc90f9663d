"""Nothing but forwards: the least that plain decoding with a model in eager mode and transformers' own cache can cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from experiments.parts.peers.interface import PeerResult
from experiments.parts.peers.transformers_generate import clock
from spec.sampling import Sampler
from spec.state import Limits


@dataclass
class BareLoop:
    """A forward, a choice (argmax, or softmax and multinomial), and again: no processors, no stopping, tokens stay on the device until the end."""

    target: Any
    batch_size: int = 1
    name = "bare loop"

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits) -> PeerResult:
        """Continues the prompts; those of a batch must be equally long. Raises ValueError for what it does not know."""
        rows = [list(prompt) for prompt in prompts]
        parts = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        if limits.eos_ids or limits.criteria or any(len(set(map(len, part))) > 1 for part in parts):
            raise ValueError("the bare loop knows no end but the budget and no padding; give no eos_token_id, no criteria, and prompts of one length")
        if len(sampler.processors) > (not sampler.greedy and sampler.temperature != 1):
            raise ValueError("the bare loop knows temperature alone; leave out top_k, top_p, min_p, repetition_penalty and processors")
        device, result = self.target.device, PeerResult([], [], [], [])
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(sampler.seed)
            for part in parts:
                began = clock(device)
                made = self._continue(torch.tensor(part, device=device), sampler, limits.max_new_tokens).tolist()
                spent = (clock(device) - began) / len(part)
                result.sequences.extend(made)
                result.prompt_lengths.extend(map(len, part))
                result.target_forwards.extend([limits.max_new_tokens] * len(part))
                result.seconds.extend([spent] * len(part))
        return result

    def _continue(self, ids: Tensor, sampler: Sampler, budget: int) -> Tensor:
        cache, texts = DynamicCache(config=self.target.config), [ids]
        for _ in range(budget):
            logits = self.target(input_ids=texts[-1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            if sampler.greedy:
                texts.append(logits.argmax(-1, keepdim=True))
            else:
                texts.append((logits.float() / sampler.temperature).softmax(-1).multinomial(1))
        return torch.cat(texts, 1)
