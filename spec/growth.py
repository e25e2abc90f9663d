"""A tree that an assistant grows level by level under the q contract: every drawn token is kept, and its distribution is the row that it was drawn
from.

Siblings are drawn with replacement ("independent"), without ("distinct": earlier siblings are taken out of the row, which is normalised again; Jeon
et al., arXiv 2402.14160), or all but the last are the most probable tokens, one-hot, and the last is drawn from the rest ("greedy": Hu et al.,
2502.18779). At temperature 0 all three ways take the most probable tokens, and q is left out.
"""

import torch
from torch import Tensor

from spec.assistant import Assistant
from spec.mass import mass
from spec.noise import Purpose
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import numbers, on_device
from spec.types import Draft

SIBLINGS = ("distinct", "independent", "greedy")


class Growth:
    """A draft under construction. Columns are slots. `exists` says which rows have a slot there, and `draft` takes out the slots that are missing.

    `assistant` None: the caller supplies the distributions. `width` as in `Draft`. Letters: W slots of the last level, K slots added at once.
    """

    def __init__(self, assistant: Assistant | None, state: DecodeState, sampler: Sampler, width: int | None = None):
        self.assistant, self.state, self.sampler, self.width = assistant, state, sampler, width
        self.noise = sampler.noise(state)
        room = [max(left - 1, 0) for left in state.room]
        live = [left for done, left in zip(state.done, room, strict=True) if not done]
        self.deepest = max(live, default=0)  # levels of use to any row
        self.uneven = min(live, default=0) < self.deepest  # whether live rows differ in their deepest level
        self.limits = on_device(room, state.device)[:, None]  # [B, 1] deepest level of each row
        self.tokens = on_device(state.roots, state.device)[:, None]  # [B, N]
        self.parents = torch.full_like(self.tokens, -1)  # [B, N]
        self.depths = torch.zeros_like(self.tokens)  # [B, N]
        self.exists = torch.ones_like(self.tokens, dtype=torch.bool)  # [B, N]
        self.rows: list[Tensor] = []  # q of the slots after the root, [B, K, V] each
        self.num_levels = 0  # made by `branch`
        self.num_followed = 0  # slots whose distributions have been asked for
        self.order: Tensor | None = None  # [B, N] the column of each slot of the finished draft; None: unchanged

    @property
    def num_slots(self) -> int:
        return self.tokens.shape[1]

    def next_distributions(self, *, sharp: bool = False) -> Tensor:
        """The assistant's distributions after all slots that are new since the last call, [B, W, V].

        At temperature 0 they are the softmax of its logits, which says how sure it is, or with `sharp` the one-hot distributions.
        """
        assert self.assistant is not None
        start, self.num_followed = self.num_followed, self.num_slots
        draft = Draft(self.tokens, self.parents, self.exists.sum(1), width=self.width)
        logits = self.assistant.follow(self.state) if start == 0 else self.assistant.score(draft)
        contexts = draft.contexts(self.state.seen)
        if self.sampler.greedy and not sharp:
            return self.sampler.processed(logits, lambda row, slot: contexts(row, slot + start)).softmax(-1)
        return self.sampler.distribution(logits, lambda row, slot: contexts(row, slot + start))

    def branch(self, num_children: int, siblings: str = "distinct") -> None:
        """Gives every slot of the last level `num_children` children; does nothing if no row has room for another level."""
        if self.num_levels >= self.deepest:
            return
        self.num_levels += 1
        first = self.num_followed
        distribution = self.next_distributions()
        parents = torch.arange(first, self.num_slots, device=distribution.device).expand(len(distribution), -1)
        num_children = min(num_children, distribution.shape[2])
        certain = num_children if self.sampler.greedy else num_children - 1 if siblings == "greedy" else 0
        left = distribution
        best = distribution.topk(certain) if certain else None
        for token, chance in zip(best.indices.unbind(2), best.values.unbind(2), strict=True) if best else ():
            one_hot = None if self.sampler.greedy else torch.zeros_like(distribution).scatter_(2, token[..., None], 1.0)
            self.add(parents, token, one_hot, chance > 0)  # an id of probability zero may be one that is never drafted
            left = left.scatter(2, token[..., None], 0.0)
        for rank in range(certain, num_children):
            whole = rank == 0 or siblings == "independent"  # then siblings share the very same row
            token, row, has_mass = self.draw(parents, left, None if whole else distribution)
            self.add(parents, token, row, has_mass)
            if siblings != "independent":
                left = left.scatter(2, token[..., None], 0.0)

    def draw(self, parents: Tensor, left: Tensor, otherwise: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draws one token from each distribution [B, K, V], for the next free slots. Returns tokens [B, K], the rows drawn from, and which rows have
        mass.

        `otherwise` replaces rows without mass. None: no token was taken out of the distributions, so they are used as they are.
        """
        slots = (numbers(left.shape[1], left.device) + self.num_slots).expand(left.shape[:2])
        row, has_mass = left, None
        if otherwise is not None:
            total = mass(left)[..., None]
            row, has_mass = torch.where(total > 0, left / total.to(left.dtype), otherwise), total.squeeze(2) > 0
        if self.uneven:  # a slot that cannot exist gets a certain token, so that an enumeration of all outcomes does not branch there
            has_room = self.depths.gather(1, parents) < self.limits
            row = torch.where(has_room[..., None], row, (numbers(row.shape[2], row.device) == 0).to(row.dtype))
        return self.noise.categorical(row, Purpose.DRAFT, slots), row, has_mass

    def add(self, parents: Tensor, tokens: Tensor, rows: Tensor | None, exists: Tensor | None = None) -> None:
        """Adds slots [B, K], drawn from the distributions [B, K, V]. A slot exists if its parent does, its row has room, and `exists` is true."""
        depths = self.depths.gather(1, parents) + 1
        alive = self.exists.gather(1, parents) & (depths <= self.limits)
        self.tokens, self.parents = torch.cat([self.tokens, tokens], 1), torch.cat([self.parents, parents], 1)
        self.depths = torch.cat([self.depths, depths], 1)
        self.exists = torch.cat([self.exists, alive if exists is None else alive & exists], 1)
        if rows is not None:
            self.rows.append(rows)

    def draft(self) -> Draft:
        """The finished draft. Slots that do not exist are taken out, and the order of the others stays."""
        q = torch.cat([torch.zeros_like(self.rows[0][:, :1]), *self.rows], 1) if self.rows else None
        sizes = self.exists.sum(1)
        if self.width == 1:
            return Draft.chain(self.tokens, sizes, q)
        if self.exists.device.type == "cpu" and bool(self.exists.all()):
            return Draft(self.tokens, self.parents, sizes, q, width=self.width)
        self.order = order = (~self.exists).byte().argsort(dim=1, stable=True)
        slot_of = order.argsort(1)
        parents = slot_of.gather(1, self.parents.clamp(min=0)).gather(1, order)
        parents = torch.where(numbers(self.num_slots, order.device) < sizes[:, None], parents, 0)
        parents = torch.cat([self.parents[:, :1], parents[:, 1:]], 1)
        q = None if q is None else q.gather(1, order[..., None].expand_as(q))
        return Draft(self.tokens.gather(1, order), parents, sizes, q, width=self.width)

    def settle(self, path: Tensor) -> None:
        """After the verdict: the assistant's cache keeps the slots on `path` [B, D] of the finished draft, -1 after the end."""
        if self.assistant is None or self.num_followed == 0:
            return
        if self.order is not None:
            path = torch.where(path >= 0, self.order.gather(1, path.clamp(min=0)), -1)
        self.assistant.keep(path)
