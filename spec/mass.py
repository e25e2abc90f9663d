"""The mass (sum) of a distribution, and its correction to 1: over a real vocabulary a float32 softmax or sum is not exact enough for a verifier.

A softmax of 262,144 float32 logits sums to 1 within 2e-5 where they are spread out, and misses it by up to 8e-4 where one token stands out.
"""

import torch
from torch import Tensor

BLOCK = 256  # numbers that are added in float32
PROBES = 16  # blocks of a row that are added in float64 as well
FEW = 1 << 18  # numbers; below that a float64 sum of all is as fast


def mass(rows: Tensor) -> Tensor:
    """Sums of rows [..., V] of numbers that are not negative, as float64 [...]; the relative error is below about 1e-7, usually 2e-8.

    Many numbers on the CPU are added in float32 within blocks and in float64 over the blocks: several times as fast as a float64 sum of all. Two
    errors are corrected. The largest block, where one likely token makes all others be rounded, is added in float64. The error that the other blocks
    have in common where numbers repeat, as in a flat tail, is estimated as the median over some of them.
    """
    if rows.dtype == torch.float64 or rows.device.type != "cpu" or rows.numel() < FEW or rows.shape[-1] < 2 * PROBES * BLOCK:
        return rows.sum(-1, dtype=torch.float64)
    num_blocks = rows.shape[-1] // BLOCK
    blocks = rows[..., : num_blocks * BLOCK].unflatten(-1, (num_blocks, BLOCK))
    sums = blocks.sum(-1)
    most, place = sums.max(-1, keepdim=True)
    largest = blocks.gather(-2, place[..., None].expand(*place.shape, BLOCK)).sum((-2, -1), dtype=torch.float64)
    others = sums.sum(-1, dtype=torch.float64) - most.squeeze(-1)
    step = num_blocks // PROBES
    error = (blocks[..., ::step, :].sum(-1, dtype=torch.float64) / sums[..., ::step] - 1).nan_to_num(0.0).median(-1).values
    total = others * (1 + error) + largest
    behind = rows[..., num_blocks * BLOCK :]
    return total + behind.sum(-1, dtype=torch.float64) if behind.shape[-1] else total


def excess(masses: Tensor, dtype: torch.dtype) -> Tensor:
    """The share that rows of the given masses [...] must lose to sum to 1, [..., 1].

    The share is small, so rounding it to float32 costs nothing. A factor near 1 would be rounded by up to 6e-8, and with it the whole row.
    """
    return (1 - 1 / masses).to(dtype)[..., None]
