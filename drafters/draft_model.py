"""A small assistant drafts a chain, one token per forward, from its own cache (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318)."""

from typing import Any

import torch
from torch import Tensor

from spec.cache import KVCache
from spec.interfaces import Drafter
from spec.model import CausalLM, load_model
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class DraftModel(Drafter):
    """A causal LM with the target's vocabulary, given as `model` or loaded by `name` when first attached.

    Sampled tokens come from the same float32 row that is handed over as q, made by the target's own sampler. At temperature 0 the tokens are
    the assistant's argmax and q is left out: deterministic drafts are one-hot. `dtype` "auto" is the target's. Raises ValueError where the
    vocabularies differ.
    """

    def __init__(
        self,
        name: str = "embedded/drafter",
        num_tokens: int = 5,
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        model: Any = None,
    ):
        if num_tokens < 1:
            raise ValueError(f"num_tokens={num_tokens}: give at least 1 (drafter=none drafts nothing)")
        self.name, self.num_tokens, self.dtype = name, num_tokens, dtype
        self.device_map, self.attn_implementation = device_map, attn_implementation
        self.assistant = None if model is None else model if isinstance(model, CausalLM) else CausalLM(model)
        self.cache: KVCache | None = None

    def attach(self, target: CausalLM) -> None:
        if self.assistant is None:
            model = load_model(self.name, target.dtype if self.dtype == "auto" else self.dtype, self.device_map, self.attn_implementation)
            self.assistant = CausalLM(model if self.device_map is not None else model.to(target.device))
        if self.assistant.vocab_size != target.vocab_size:
            raise ValueError(
                f"vocabulary sizes differ: target {target.vocab_size}, drafter {self.assistant.vocab_size}; "
                "a draft model must share the target's tokenizer (prompt_lookup and lookahead need none)"
            )
        if self.assistant.device != target.device:
            raise ValueError(f"the target is on {target.device}, the draft model on {self.assistant.device}; put both on one device")
        self.context = self.assistant.context

    def reset(self, state: DecodeState) -> None:
        assert self.assistant is not None
        self.cache = self.assistant.new_cache(state.num_rows, max(map(len, state.rows)) + 64)
        self.assistant.extend(self.cache, [row[:-1] for row in state.rows])

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        """A chain of at most num_tokens in every row, fewer where the row has less room."""
        assert self.cache is not None
        self.cache.crop([len(row) - 1 for row in state.rows])  # rejected tokens are forgotten, accepted ones are there already
        room = [max(left - 1, 0) for left in state.room]
        num_tokens = min(self.num_tokens, max(0 if done else left for done, left in zip(state.done, room, strict=True)))
        tokens = torch.tensor(state.roots, device=state.device)[:, None]
        laws: list[Tensor] = []
        noise = sampler.noise(state)
        for depth in range(1, num_tokens + 1):
            feed = self._missing(state) if depth == 1 else Draft.chain(tokens[:, -1:])
            law = self._next_law(feed, state, tokens, sampler)
            if sampler.greedy:
                token = law.argmax(-1)
            else:
                token = noise.categorical(law, Purpose.DRAFT, torch.full_like(tokens[:, 0], depth))
                laws.append(law)
            tokens = torch.cat([tokens, token[:, None]], 1)
        sizes = torch.tensor([1 + min(num_tokens, left) for left in room], device=state.device)
        q = torch.stack([torch.zeros_like(laws[0]), *laws], 1) if laws else None
        return Draft.chain(tokens, sizes, q)

    def _missing(self, state: DecodeState) -> Draft:
        """Committed tokens that the assistant has not seen: the root, and after a full acceptance the last drafted token before it."""
        assert self.cache is not None
        rows = [row[length:] for row, length in zip(state.rows, self.cache.lengths, strict=True)]
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=state.device)
        return Draft.chain(tokens, torch.tensor([len(row) for row in rows], device=state.device))

    def _next_law(self, feed: Draft, state: DecodeState, tokens: Tensor, sampler: Sampler) -> Tensor:
        """Feeds the assistant and returns the law of the token after the last one fed; [B, V]."""
        assert self.assistant is not None
        assert self.cache is not None
        logits = self.assistant.score(feed, self.cache).logits
        sizes = [1] * state.num_rows if feed.num_slots == 1 else feed.sizes.tolist()
        self.cache.keep(sizes)
        last = logits[:, -1:] if feed.num_slots == 1 else logits.gather(1, (feed.sizes - 1)[:, None, None].expand(-1, 1, logits.shape[2]))
        drafted = tokens[:, 1:].tolist() if sampler.reads_prefix else []
        return sampler.law(last, lambda row, _: [*state.seen(row), *drafted[row]])[:, 0]
