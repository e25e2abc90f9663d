"""A tree that an assistant grows level by level under the q contract: every drawn token is kept, and its distribution is the row that it was drawn
from.

Siblings are drawn with replacement ("independent"), without ("distinct": earlier siblings are taken out of the row, which is normalised again; Jeon
et al., arXiv 2402.14160), or all but the last are the most probable tokens, one-hot, and the last is drawn from the rest ("greedy": Hu et al.,
2502.18779). At temperature 0 all three ways take the most probable tokens, and q is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spec.assistant import Assistant
from spec.mass import mass
from spec.noise import Purpose, covering
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import constant, numbers, on_device, same_parents, tables_of
from spec.types import Draft, full_sizes

SIBLINGS = ("distinct", "independent", "greedy")


@dataclass
class _Level:
    """The tokens of one level, rank by rank, before they are added."""

    tokens: list[Tensor]  # [B, W] each
    rows: list[Tensor | None]  # [B, W, V] each
    exists: list[Tensor | None]  # [B, W] each; None: all

    def add(self, tokens: Tensor, rows: Tensor | None, exists: Tensor | None) -> None:
        self.tokens.append(tokens)
        self.rows.append(rows)
        self.exists.append(exists)

    def joined(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """[B, K * W]"""
        rows = [row for row in self.rows if row is not None]
        found = None
        if any(one is not None for one in self.exists):
            like = self.tokens[0]
            found = _cat([torch.ones_like(like, dtype=torch.bool) if one is None else one for one in self.exists])
        return _cat(self.tokens), _cat(rows) if rows else None, found


def _cat(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


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
        self.room: list[int] | None = room  # `limits` on the host; None where a drafter has set its own
        self.tokens = on_device(state.roots, state.device)[:, None]  # [B, N]
        self.shape: tuple[int, ...] | None = (-1,)  # the parents of all rows; None once they differ, or only the device knows them
        self.host_depths = [0]  # of the slots in `shape`
        self.rows: list[Tensor] = []  # q of the slots after the root, [B, K, V] each
        self.num_levels = 0  # made by `branch`
        self.num_followed = 0  # slots whose distributions have been asked for
        self.order: Tensor | None = None  # [B, N] the column of each slot of the finished draft; None: unchanged
        self._limits: Tensor | None = None
        self._exists: Tensor | None = None  # None: all slots do
        self._parents = self._depths = self._ancestors = self.tokens  # used where `shape` is None

    @property
    def limits(self) -> Tensor:
        """The deepest level of each row, [B, 1]."""
        if self._limits is None:
            assert self.room is not None
            self._limits = on_device(self.room, self.tokens.device)[:, None]
        return self._limits

    @limits.setter
    def limits(self, limits: Tensor) -> None:
        self._limits, self.room = limits, None

    @property
    def parents(self) -> Tensor:
        """[B, N]"""
        return self._parents if self.shape is None else same_parents(self.shape, len(self.tokens), self.tokens.device)

    @property
    def depths(self) -> Tensor:
        """[B, N]"""
        return self._depths if self.shape is None else constant(tuple(self.host_depths), self.tokens.device).expand_as(self.tokens)

    @property
    def ancestors(self) -> Tensor:
        """As `Draft.ancestors`, [B, N, N]."""
        if self.shape is None:
            return self._ancestors
        return tables_of(self.shape, self.tokens.device).ancestors.expand(len(self.tokens), -1, -1)

    @property
    def exists(self) -> Tensor:
        """[B, N]"""
        return torch.ones_like(self.tokens, dtype=torch.bool) if self._exists is None else self._exists

    @property
    def num_slots(self) -> int:
        return self.tokens.shape[1]

    def next_distributions(self, *, sharp: bool = False) -> Tensor:
        """The assistant's distributions after all slots that are new since the last call, [B, W, V].

        At temperature 0 they are the softmax of its logits, which says how sure it is, or with `sharp` the one-hot distributions.
        """
        assert self.assistant is not None
        start, self.num_followed = self.num_followed, self.num_slots
        draft = self._draft(None, None)
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
        parents = range(first, self.num_slots)
        num_children = min(num_children, distribution.shape[2])
        certain = num_children if self.sampler.greedy else num_children - 1 if siblings == "greedy" else 0
        level = _Level([], [], [])
        left = distribution if certain == 0 else self._take_best(level, distribution, certain)
        whole = 1 if siblings != "independent" else num_children - certain  # tokens drawn from the very same rows: a batch of them at once
        if certain == 0 and num_children:
            tokens, row, _ = self.draw(parents, left, None, whole)
            level.add(tokens, row, None)
        for rank in range(whole if certain == 0 else certain, num_children):
            if certain < rank or certain == 0:
                left = left.scatter(2, level.tokens[-1][..., None], 0.0)
            tokens, row, has_mass = self.draw(parents, left, distribution, offset=rank * len(parents))
            level.add(tokens, row, has_mass)
        tokens, rows, exists = level.joined()
        self.add([*parents] * num_children, tokens, rows, exists)

    def _take_best(self, level: "_Level", distribution: Tensor, count: int) -> Tensor:
        """Adds the `count` most probable tokens of each distribution [B, W, V], rank by rank, and gives what they leave."""
        best = distribution.topk(count)
        for token, chance in zip(best.indices.unbind(2), best.values.unbind(2), strict=True):
            one_hot = None if self.sampler.greedy else torch.zeros_like(distribution).scatter_(2, token[..., None], 1.0)
            level.add(token, one_hot, chance)
        level.exists = [best.values.transpose(1, 2).flatten(1) > 0]  # an id of probability zero may be one that is never drafted
        return distribution if self.sampler.greedy else distribution.scatter(2, best.indices, 0.0)

    def draw(
        self, parents: Sequence[int] | Tensor, left: Tensor, otherwise: Tensor | None, times: int = 1, offset: int = 0
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draws one token from each distribution [B, K, V], for the slots from the next free one + `offset` on; or `times` of them, rank by rank.

        Returns tokens [B, times * K], the rows drawn from, and which rows have mass. `otherwise` replaces rows without mass. None: no token was taken
        out of the distributions, so they are used as they are.
        """
        row, has_mass = left, None
        if otherwise is not None:
            total = mass(left)[..., None]
            row, has_mass = torch.where(total > 0, left / total.to(left.dtype), otherwise), total.squeeze(2) > 0
        if self.uneven:  # a slot that cannot exist gets a certain token, so that an enumeration of all outcomes does not branch there
            has_room = self._depths_of(parents) < self.limits
            row = torch.where(has_room[..., None], row, (numbers(row.shape[2], row.device) == 0).to(row.dtype))
        row = row if times == 1 else row.repeat(1, times, 1)
        first = self.num_slots + offset
        slots = numbers(first + row.shape[1], row.device)[first:].expand(row.shape[:2])
        self.noise = covering(self.noise, first + row.shape[1])
        return self.noise.categorical(row, Purpose.DRAFT, slots), row, has_mass

    def _depths_of(self, parents: Sequence[int] | Tensor) -> Tensor:
        """Depths of slots [B, K] or, the same in every row, K of them; [B, K] or [1, K]."""
        if isinstance(parents, Tensor):
            return self.depths.gather(1, parents)
        if self.shape is None:
            return self.depths[:, list(parents)]
        return constant(tuple(self.host_depths[parent] for parent in parents), self.tokens.device)[None]

    def add(self, parents: Sequence[int] | Tensor, tokens: Tensor, rows: Tensor | None, exists: Tensor | None = None) -> None:
        """Adds slots [B, K], drawn from the distributions [B, K, V]. A slot exists if its parent does, its row has room, and `exists` is true.

        `parents` [B, K], or K numbers if they are the same in every row.
        """
        if self.shape is not None and not isinstance(parents, Tensor):
            self._add_known(parents, exists)
        else:
            self._add(parents if isinstance(parents, Tensor) else constant(tuple(parents), tokens.device).expand_as(tokens), exists)
        self.tokens = torch.cat([self.tokens, tokens], 1)
        if rows is not None:
            self.rows.append(rows)

    def _add_known(self, parents: Sequence[int], exists: Tensor | None) -> None:
        assert self.shape is not None
        depths = [self.host_depths[parent] + 1 for parent in parents]
        if self.room is None or min(self.room) < max(depths):
            has_room = constant(tuple(depths), self.tokens.device) <= self.limits
            exists = has_room if exists is None else exists & has_room
        if self._exists is not None:
            above = self._exists[:, constant(tuple(parents), self.tokens.device)]
            exists = above if exists is None else exists & above
        if exists is not None:
            self._exists = torch.cat([self.exists, exists], 1)
        self.shape = (*self.shape, *parents)
        self.host_depths += depths

    def _add(self, parents: Tensor, exists: Tensor | None) -> None:
        before, depths = self.ancestors, self.depths
        own = depths.gather(1, parents) + 1
        alive = self.exists.gather(1, parents) & (own <= self.limits)
        num_slots, num_new = self.num_slots, parents.shape[1]
        above = before.gather(1, parents[..., None].expand(-1, -1, num_slots))
        below = torch.cat([above, torch.eye(num_new, dtype=torch.bool, device=parents.device).expand(len(parents), -1, -1)], 2)
        ancestors = torch.cat([torch.nn.functional.pad(before, (0, num_new)), below], 1)
        self._exists = torch.cat([self.exists, alive if exists is None else alive & exists], 1)
        self._parents, self._depths, self._ancestors, self.shape = torch.cat([self.parents, parents], 1), torch.cat([depths, own], 1), ancestors, None

    def draft(self) -> Draft:
        """The finished draft. Slots that do not exist are taken out, and the order of the others stays."""
        q = torch.cat([torch.zeros_like(self.rows[0][:, :1]), *self.rows], 1) if self.rows else None
        if self._exists is not None and self._exists.device.type == "cpu" and bool(self._exists.all()):
            self._exists = None
        if self._exists is None or self.width == 1:
            return self._draft(None if self._exists is None else self._exists.sum(1), q)
        sizes = self._exists.sum(1)
        self.order = order = (~self._exists).byte().argsort(dim=1, stable=True)
        slot_of = order.argsort(1)
        parents = slot_of.gather(1, self.parents.clamp(min=0)).gather(1, order)
        parents = torch.where(numbers(self.num_slots, order.device) < sizes[:, None], parents, 0)
        parents = torch.cat([self.parents[:, :1], parents[:, 1:]], 1)
        q = None if q is None else q.gather(1, order[..., None].expand_as(q))
        return Draft(self.tokens.gather(1, order), parents, sizes, q, width=self.width)

    def _draft(self, sizes: Tensor | None, q: Tensor | None) -> Draft:
        """The slots as they stand; sizes None: all are used."""
        if self.width == 1:
            return Draft.chain(self.tokens, sizes, q)
        if self.shape is not None:
            return Draft.of_shape(self.tokens, self.shape, sizes, q, self.width)
        sizes = full_sizes(*self.tokens.shape, self.tokens.device) if sizes is None else sizes
        return Draft(self.tokens, self._parents, sizes, q, width=self.width).knowing(self._ancestors)

    def settle(self, path: Tensor) -> None:
        """After the verdict: the assistant's cache keeps the slots on `path` [B, D] of the finished draft, -1 after the end."""
        if self.assistant is None or self.num_followed == 0:
            return
        if self.order is not None:
            path = torch.where(path >= 0, self.order.gather(1, path.clamp(min=0)), -1)
        self.assistant.keep(path)
