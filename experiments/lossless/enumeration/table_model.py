"""Tables as causal language models with real attention and a real cache, so that they can be decoded by the whole loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Cache, PretrainedConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from experiments.lossless.enumeration.branches import Branches, BranchingNoise
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState

Weights = Callable[[Tensor], Tensor]  # h [B, N] -> [B, N, V]


class TableLM(nn.Module):
    """Next-token weights as a function of h = sum over the visible tokens after the prompt of (j + 1)(token + 1), j their place, from 0.

    The summands lie in the key/value cache and are added up under the attention mask, so a wrong mask, position or cache slot gives a wrong
    distribution.
    """

    def __init__(self, weights: Weights, vocabulary: int, prompt_length: int):
        super().__init__()
        self.weights, self.prompt_length = weights, prompt_length
        self.window: int | None = None
        self.config = PretrainedConfig(vocab_size=vocabulary, num_hidden_layers=1, max_position_embeddings=64)  # pyright: ignore[reportCallIssue]
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.device, self.dtype = self.anchor.device, self.anchor.dtype

    def h_after(self, answer: Sequence[int]) -> float:
        """h of the token that follows these; of the last `window` of them where a subclass attends within one."""
        seen = [*enumerate(answer)]
        return float(sum((j + 1) * (token + 1) for j, token in (seen if self.window is None else seen[-self.window :])))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        attention_mask: Tensor | None = None,
        **kwargs,
    ):
        """input_ids and position_ids [B, N]; attention_mask additive [B or 1, 1, N, S], or None for a causal prefill; no cache: nothing is kept."""
        place = (torch.arange(input_ids.shape[1]) if position_ids is None else position_ids) - self.prompt_length
        summands = torch.where(place >= 0, (place + 1) * (input_ids + 1), 0).double()[:, None, :, None]
        seen = (summands if past_key_values is None else past_key_values.update(summands, summands, 0)[0])[:, 0, :, 0]
        if attention_mask is None:
            attention_mask = torch.ones(1, 1, input_ids.shape[1], seen.shape[1]).triu(1)
        h = ((attention_mask[:, 0] == 0) * seen[:, None, :]).sum(-1)
        return CausalLMOutputWithPast(logits=self.weights(h).log())  # type: ignore[arg-type]


def branching(sampler: Sampler, branches: Branches) -> Sampler:
    """The same sampler with the branching noise in place of the real one."""

    def noise(state: DecodeState) -> BranchingNoise:
        return BranchingNoise(branches, state.root_positions(), ~torch.tensor(state.done), state.sequence_ids)

    return sampler.with_noise(noise)


@dataclass(frozen=True)
class RowByRow:
    """Branching noise for a few rows that share one script: the slots of each are counted on from where `begins` says."""

    parts: list[BranchingNoise]
    begins: list[int]

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        return self._each("bernoulli", prob, purpose, slots)

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        return self._each("categorical", distribution, purpose, slots)

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        return self.parts[0].gumbel(positions, vocabulary)

    def _each(self, kind: str, odds: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        slots, rows = slots.expand(len(self.parts), *slots.shape[1:]), enumerate(zip(self.parts, self.begins, strict=True))
        return torch.cat([getattr(part, kind)(odds[row : row + 1], purpose, slots[row : row + 1] + begin) for row, (part, begin) in rows])


def branching_rows(sampler: Sampler, branches: Branches, apart: int) -> Sampler:
    """The same sampler for a batch whose rows together are one outcome: `branches` holds one script for all of them."""

    def noise(state: DecodeState) -> RowByRow:
        live, positions = ~torch.tensor(state.done), state.root_positions()
        first = torch.zeros(1, dtype=torch.int64)
        parts = [BranchingNoise(branches, positions[row : row + 1], live[row : row + 1], first) for row in range(state.num_rows)]
        return RowByRow(parts, [apart * prompt for prompt in state.prompt_of])

    return sampler.with_noise(noise)
