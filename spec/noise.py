"""Randomness as a function: a number is a hash of its key, so it is the same on any device, in any batch and in any order.

Keys are (seed, sequence id, root position of the step, slot, purpose); a root position belongs to one step only, so no number is used twice.
Keying by the absolute position of a token instead would let a later step reuse a number that has already judged a rejected draft.
The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014) in 64-bit integer arithmetic, which CPU and CUDA compute alike. On the CPU
up to `FEW` numbers are hashed with Python's integers, at a tenth of the cost of small tensor operations; the numbers are the same. Where the host
knows a step's keys, an accelerator gets all its numbers in one transfer instead of hashing each draw by some twenty kernels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from spec.arguments import whole
from spec.tree import on_device

_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX1 = -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
_MIX2 = -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
_MASK = 2**64 - 1
FEW = 48  # above this many numbers tensor operations are faster on the CPU, too
NUM_SLOTS = 128  # an accelerator is sent a step's numbers for so many slots, or for as many as the draft has


class Purpose(IntEnum):
    """What a number is for; two purposes never share a number."""

    DRAFT = 1
    ACCEPT = 2
    RESIDUAL = 3
    GUMBEL = 4


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, with logical shifts."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _MIX1
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _MIX2
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def uniform(bits: Tensor) -> Tensor:
    """float64 in [0, 1) on a grid of 2**-52, so that u * total < total for every positive total."""
    return ((bits >> 12) & 0xFFFFFFFFFFFFF).to(torch.float64) * 2.0**-52


def mix_int(x: int) -> int:
    """`mix` on a Python integer; the result is in [0, 2**64)."""
    x &= _MASK
    x = ((x ^ (x >> 30)) * _MIX1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX2) & _MASK
    return x ^ (x >> 31)


def number(base: int, place: int) -> float:
    """`uniform` of `bits` on Python integers, for one key."""
    return (mix_int(base ^ (place * _MIX1)) >> 12) * 2.0**-52


@dataclass(frozen=True)
class Noise:
    """The only source of randomness. `at` binds it to the rows and root positions of one step."""

    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole("seed", self.seed, "a whole number of at most 64 bits, sign included"))

    def at(self, sequence_ids: Tensor, root_positions: Tensor) -> "StepNoise":
        """sequence_ids [B] and root_positions [B], int64; the device of the noise is theirs."""
        if sequence_ids.device.type == "cpu":
            return StepNoise(row_hashes(self.seed, tuple(sequence_ids.tolist())), root_positions)
        seed = mix(torch.full_like(sequence_ids, self.seed) + _GOLDEN)
        return StepNoise(mix(seed ^ (sequence_ids * _GOLDEN)), root_positions)

    def of_step(self, sequence_ids: Sequence[int], roots: Sequence[int], device: torch.device) -> "HostNoise":
        """As `at`, with keys that the host knows."""
        return HostNoise(tuple(hashes_of_rows(self.seed, tuple(sequence_ids))), tuple(roots), device)


@lru_cache(maxsize=64)
def hashes_of_rows(seed: int, sequence_ids: tuple[int, ...]) -> tuple[int, ...]:
    """The hash of each row's seed and sequence, from which its numbers are made; signed. Cached: it is the same in every step."""
    base = mix_int(seed + _GOLDEN)
    hashes = [mix_int(base ^ (sequence_id * _GOLDEN & _MASK)) for sequence_id in sequence_ids]
    return tuple(value - (value >> 63 << 64) for value in hashes)


@lru_cache(maxsize=64)
def row_hashes(seed: int, sequence_ids: tuple[int, ...]) -> Tensor:
    """`hashes_of_rows` as a tensor, [B] int64 on the CPU; never write into it."""
    with torch.inference_mode(False):
        return torch.tensor(hashes_of_rows(seed, sequence_ids))


@dataclass(frozen=True)
class StepNoise:
    """Noise of one step: every draw names its slot and its purpose."""

    rows: Tensor  # [B] hash of (seed, sequence id)
    root_positions: Tensor  # [B]

    def uniform(self, slots: Tensor, purpose: Purpose) -> Tensor:
        """float64 in [0, 1) for every key; `slots` is [B] or [B, K], and so is the result."""
        if slots.device.type != "cpu" or slots.numel() > FEW:
            return uniform(self.bits(slots, purpose))
        bases, place = self._bases, int(purpose)
        if slots.ndim == 1:
            found = [number(base, slot * 8 + place) for base, slot in zip(bases, slots.tolist(), strict=True)]
        else:
            found = [[number(base, slot * 8 + place) for slot in row] for base, row in zip(bases, slots.tolist(), strict=True)]
        return torch.tensor(found, dtype=torch.float64)

    @cached_property
    def _bases(self) -> list[int]:
        return [mix_int(row + (root + 1) * _GOLDEN) for row, root in zip(self.rows.tolist(), self.root_positions.tolist(), strict=True)]

    def bits(self, slots: Tensor, purpose: Purpose) -> Tensor:
        """int64 hash of the whole key; `slots` is [B] or [B, K], and so is the result."""
        base = mix(self.rows + (self.root_positions + 1) * _GOLDEN)
        if slots.ndim > 1:
            base = base[:, None]
        return mix(base ^ ((slots * 8 + int(purpose)) * _MIX1))

    def bernoulli(self, prob: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """True with probability `prob`; prob and slots [B] or [B, K]. u < prob with u in [0, 1): 0 is never, 1 is always."""
        return self.uniform(slots, purpose) < prob

    def categorical(self, distribution: Tensor, purpose: Purpose, slots: Tensor) -> Tensor:
        """An index drawn from each distribution; distribution [B, V] with slots [B], or [B, K, V] with [B, K]. Inverse distribution function in
        float64.

        The distribution need not be normalised; an index of probability zero is never returned.
        """
        cumulative = distribution.cumsum(-1, dtype=torch.float64)
        threshold = self.uniform(slots, purpose).unsqueeze(-1) * cumulative[..., -1:]
        return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)

    def gumbel(self, positions: Tensor, vocabulary: int) -> Tensor:
        """Standard Gumbel numbers keyed by (seed, sequence id, ABSOLUTE position, token), for coupling; positions [B, ...] -> [B, ..., V] float64."""
        base = self._bases_at(positions)
        hashes = mix_(base[..., None] ^ token_keys(vocabulary, positions.device))
        numbers = hashes.bitwise_right_shift_(12).bitwise_and_(0xFFFFFFFFFFFFF).to(torch.float64)
        return numbers.add_(0.5).mul_(2.0**-52).log_().neg_().log_().neg_()

    def _bases_at(self, positions: Tensor) -> Tensor:
        """The hash of (sequence, position), shaped as `positions`."""
        if positions.device.type != "cpu" or positions.ndim > 1 or positions.numel() > FEW:
            rows = self.rows.view(-1, *[1] * (positions.ndim - 1))
            return mix(mix(rows ^ int(Purpose.GUMBEL)) + (positions + 1) * _GOLDEN)
        rows = [mix_int(row ^ int(Purpose.GUMBEL)) for row in self.rows.tolist()]
        found = [mix_int(row + (position + 1) * _GOLDEN) for row, position in zip(rows, positions.tolist(), strict=True)]
        return torch.tensor([value - (value >> 63 << 64) for value in found])


class HostNoise(StepNoise):
    """`StepNoise` whose keys are known on the host. An accelerator is sent all numbers of a step at once, and looks them up by slot.

    A slot that is `num_slots` or more has no number there: `covering` makes a noise for more of them.
    """

    hashes: tuple[int, ...]  # of the rows' seed and sequence id
    roots: tuple[int, ...]  # root positions
    device: torch.device
    num_slots: int

    def __init__(self, hashes: tuple[int, ...], roots: tuple[int, ...], device: torch.device, num_slots: int = NUM_SLOTS):
        vars(self).update(hashes=hashes, roots=roots, device=device, num_slots=num_slots)

    @cached_property
    def rows(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return on_device(self.hashes, self.device)

    @cached_property
    def root_positions(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return on_device(self.roots, self.device)

    @cached_property
    def _bases(self) -> list[int]:
        return [mix_int(row + (root + 1) * _GOLDEN) for row, root in zip(self.hashes, self.roots, strict=True)]

    def uniform(self, slots: Tensor, purpose: Purpose) -> Tensor:
        if slots.device.type == "cpu":
            return super().uniform(slots, purpose)
        return self.look_up(slots, purpose)

    def look_up(self, slots: Tensor, purpose: Purpose) -> Tensor:
        """`uniform`, from the table."""
        numbers_of = self.table[:, int(purpose) - 1]
        return numbers_of.gather(1, slots if slots.ndim > 1 else slots[:, None]).view_as(slots)

    @cached_property
    def table(self) -> Tensor:
        """The numbers of a step, [B, 3, num_slots]: purpose by purpose, slot by slot; hashed on the CPU, in one sweep."""
        places = torch.arange(self.num_slots) * 8 + torch.tensor([[Purpose.DRAFT], [Purpose.ACCEPT], [Purpose.RESIDUAL]])
        bases = torch.tensor([base - (base >> 63 << 64) for base in self._bases])
        found = uniform(mix(bases[:, None, None] ^ (places * _MIX1)))
        return found if self.device.type == "cpu" else found.pin_memory().to(self.device, non_blocking=True)


def covering(noise: StepNoise, num_slots: int) -> StepNoise:
    """The noise, or the same with numbers for more slots where it has fewer than `num_slots`."""
    if not isinstance(noise, HostNoise) or noise.num_slots >= num_slots:
        return noise
    return HostNoise(noise.hashes, noise.roots, noise.device, max(num_slots, 2 * noise.num_slots))


@lru_cache(maxsize=8)
def token_keys(vocabulary: int, device: torch.device) -> Tensor:
    """One key for every token, [V]; made once, never write into it."""
    with torch.inference_mode(False):
        return (torch.arange(vocabulary, device=device) + 1) * _MIX1


def mix_(x: Tensor) -> Tensor:
    """`mix` in place, to save memory on a number per token of the vocabulary."""
    for shift, mask, factor in ((30, 0x3FFFFFFFF, _MIX1), (27, 0x1FFFFFFFFF, _MIX2), (31, 0x1FFFFFFFF, None)):
        x.bitwise_xor_((x >> shift).bitwise_and_(mask))
        if factor is not None:
            x.mul_(factor)
    return x
