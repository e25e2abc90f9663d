"""Linear layers and embeddings whose weights stay in 16 bits.

The weights are buffers, so that the model's dtype stays that of its other parameters, float32, and what it saves are the checkpoint's own numbers.
Whoever casts the model (`.double()`, `.float()`, `.half()`) gets ordinary products in that dtype.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spec.store.product import widened_linear


class Stored(nn.Module):
    """A layer whose `weight` is in 16 bits."""

    weight: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        self.register_buffer("weight", weight)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """As of every module, and an error for numbers that would be rounded."""
        given, errors = state_dict.get(f"{prefix}weight"), rest[-1]
        if given is not None and not torch.equal(given.to(self.weight.dtype).to(given.dtype), given):
            errors.append(f"{prefix}weight is kept in {self.weight.dtype}, which does not hold these numbers; load the model with store='float32'")
            return
        super()._load_from_state_dict(state_dict, prefix, *rest)


class StoredLinear(Stored):
    """A linear layer."""

    def __init__(self, own: nn.Linear, weight: Tensor):
        super().__init__(weight)
        self.in_features, self.out_features, self.bias = own.in_features, own.out_features, own.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        return widened_linear(x, self.weight, self.bias)

    def plain(self, weight: nn.Parameter) -> nn.Linear:
        """The ordinary layer of this one, with a weight of the model's dtype."""
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        made.weight, made.bias = weight, self.bias
        return made


class StoredEmbedding(Stored):
    """A table whose rows are widened when they are looked up, to the dtype of `like`, which follows the model's."""

    like: Tensor

    def __init__(self, own: nn.Embedding, weight: Tensor):
        super().__init__(weight)
        self.register_buffer("like", torch.empty(0, dtype=torch.float32, device=weight.device), persistent=False)
        self.num_embeddings, self.embedding_dim, self.padding_idx = own.num_embeddings, own.embedding_dim, own.padding_idx

    def forward(self, ids: Tensor) -> Tensor:
        """ids [...] -> [..., embedding_dim]."""
        return F.embedding(ids, self.weight).to(self.like.dtype)

    def plain(self, weight: nn.Parameter) -> nn.Embedding:
        """The ordinary embedding of this one, with a weight of the model's dtype."""
        made = nn.Embedding(self.num_embeddings, self.embedding_dim, self.padding_idx, device="meta")
        made.weight = weight
        return made
