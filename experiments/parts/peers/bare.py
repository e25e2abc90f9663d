"""Nothing but forwards: the least that plain decoding with a model in eager mode and transformers' own cache can cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from experiments.parts.peers.transformers_generate import clock
from experiments.parts.roles import Answer, Peer
from spec.sampling import Sampler
from spec.state import Limits


@dataclass
class BareLoop(Peer):
    """A forward, a choice (argmax, or softmax and multinomial), and again: no processors, no stopping, tokens stay on the device until the end."""

    name = "bare loop"

    @torch.inference_mode()
    def answer(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits, ids: Sequence[int] | None = None) -> list[Answer]:
        """Continues the prompts; those of a batch must be equally long. Raises ValueError for what it does not know."""
        rows = [list(prompt) for prompt in prompts]
        parts = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        if limits.eos_ids or limits.criteria or any(len(set(map(len, part))) > 1 for part in parts):
            raise ValueError("the bare loop knows no end but the budget and no padding; give no eos_token_id, no criteria, and prompts of one length")
        if len(sampler.processors) > (not sampler.greedy and sampler.temperature != 1):
            raise ValueError("the bare loop knows temperature alone; leave out top_k, top_p, min_p, repetition_penalty and processors")
        device, found = self.target.device, []
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(sampler.seed)
            for part in parts:
                began = clock(device)
                made = self._continue(torch.tensor(part, device=device), sampler, limits.max_new_tokens).tolist()
                spent = (clock(device) - began) / len(part)
                found += [Answer(text[len(row) :], limits.max_new_tokens, spent) for text, row in zip(made, part, strict=True)]
        return found

    def _continue(self, ids: Tensor, sampler: Sampler, budget: int) -> Tensor:
        cache, texts = DynamicCache(config=self.target.config), [ids]
        for _ in range(budget):
            logits = self.target(input_ids=texts[-1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
            if sampler.greedy:
                texts.append(logits.argmax(-1, keepdim=True))
            else:
                texts.append((logits.float() / sampler.temperature).softmax(-1).multinomial(1))
        return torch.cat(texts, 1)
