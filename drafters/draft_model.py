"""A small assistant drafts a chain, one token per forward, from its own cache (Leviathan et al., arXiv 2211.17192; Chen et al., 2302.01318)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from spec.assistant import Assistant
from spec.assisted import AssistedDrafter
from spec.costs import StepCosts
from spec.interfaces import Traits
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.stopping import Lengths, StoppingRule
from spec.tree import numbers, on_device
from spec.types import Draft, Scores, Verdict

Contexts = Callable[[int, int], list[int]]


class DraftModel(AssistedDrafter):
    """A causal LM with the target's tokenizer: `DraftModel("a hub id or folder")` loads it when first attached, `DraftModel(model)` or `model=` is
    given one of transformers or a `CausalLM`.

    Sampled tokens come from the same float32 row that is handed over as q, made by the target's own sampler. At temperature 0 the tokens are
    the assistant's argmax and q is left out: deterministic drafts are one-hot. `dtype` "auto" is the target's. A `stopping` rule says how long each
    row's draft becomes, num_tokens at most; None: num_tokens always. num_tokens "auto": as many as pay
    (`spec.auto`). Raises ValueError where the tokenizers differ.
    """

    def __init__(
        self,
        name: str | Any = "embedded/drafter",
        num_tokens: int | str = 5,
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        runtime: str = "auto",
        store: str = "auto",
        stopping: StoppingRule | None = None,
        model: Any = None,
    ):
        self.stopping = stopping
        self.set_length(num_tokens, "at least 1 token (drafter=none drafts nothing)")
        if stopping is not None and stopping.wants_costs:
            self.costs = stopping.costs = self.costs or StepCosts()
        self.traits = Traits(keeps_state=stopping is not None and stopping.keeps_state)
        loading = {"dtype": dtype, "device_map": device_map, "attn_implementation": attn_implementation, "store": store}
        self.assistant = Assistant(name, model, runtime=runtime, **loading)

    def reset(self, state: DecodeState) -> None:
        super().reset(state)
        if self.stopping is not None:
            self.stopping.reset(state.num_rows, state.device)

    def rows_changed(self, state: DecodeState, origin: Sequence[int | None]) -> None:
        super().rows_changed(state, origin)
        if self.stopping is not None:
            self.stopping.rows_changed(origin, state.device)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        """A chain of at most num_tokens in every row, fewer where the row has less room."""
        room = [max(left - 1, 0) for left in state.room]
        num_tokens = min(self.num_tokens, max(0 if done else left for done, left in zip(state.done, room, strict=True)))
        tokens, distributions = [on_device(state.roots, state.device)[:, None]], []
        noise, lengths = sampler.noise(state), None
        if self.stopping is not None:
            wanted = self.stopping.start([0 if done else min(num_tokens, left) for done, left in zip(state.done, room, strict=True)])
            num_tokens, lengths = max(wanted), Lengths(self.stopping, wanted, state.device)
        for depth in range(1, num_tokens + 1):
            if sampler.greedy and lengths is None:
                tokens.append(sampler.best(*self._next_logits(state, tokens, sampler)))
                continue
            distribution = self._next_distribution(state, tokens, sampler)
            if lengths is not None and not lengths.before(distribution, depth):
                break
            if sampler.greedy:
                tokens.append(distribution.argmax(-1, keepdim=True))
            else:
                slots = numbers(depth + 1, state.device)[depth:].expand(state.num_rows)
                tokens.append(noise.categorical(distribution, Purpose.DRAFT, slots)[:, None])
                distributions.append(distribution)
            if lengths is not None and not lengths.after(distribution.gather(1, tokens[-1]).squeeze(1), depth):
                break
        sizes = None if lengths is None else lengths.sizes
        if lengths is None and min(room) < num_tokens:
            sizes = on_device([1 + min(num_tokens, left) for left in room], state.device)
        q = torch.stack([torch.zeros_like(distributions[0]), *distributions], 1) if distributions else None
        return Draft.chain(torch.cat(tokens, 1), sizes, q)

    def try_out(self, state: DecodeState, sampler: Sampler, option: int) -> Draft:
        rule, self.stopping = self.stopping, None
        try:
            return super().try_out(state, sampler, option)
        finally:
            self.stopping = rule

    def observe(self, state: DecodeState, draft: Draft, verdict: Verdict, scores: Scores) -> None:
        if self.stopping is not None:
            accepted = [max(len(tokens) - 1, 0) for tokens in state.fresh]
            assert verdict.drafted is not None
            self.stopping.observe([len(tokens) for tokens in verdict.drafted], accepted, verdict.cut or [False] * state.num_rows)

    def _next_distribution(self, state: DecodeState, tokens: list[Tensor], sampler: Sampler) -> Tensor:
        """The assistant's distribution after `tokens`, the root's and the drafted ones, [B, 1] each; [B, V]. At temperature 0 a softmax, for
        `stopping`."""
        logits, contexts = self._next_logits(state, tokens, sampler)
        return sampler.processed(logits, contexts).softmax(-1)[:, 0] if sampler.greedy else sampler.distribution(logits, contexts)[:, 0]

    def _next_logits(self, state: DecodeState, tokens: list[Tensor], sampler: Sampler) -> tuple[Tensor, Contexts]:
        """The assistant's logits after `tokens`, [B, 1, V], and what processors that read the prefix want to see of each row."""
        logits = self.assistant.follow(state) if len(tokens) == 1 else self.assistant.step(tokens[-1])
        drafted = torch.cat(tokens, 1)[:, 1:].tolist() if sampler.reads_prefix else []
        return logits, lambda row, _: [*state.seen(row), *drafted[row]]
