"""The mass of a law, and what brings it to 1: over a real vocabulary neither a float32 softmax nor a float32 sum is exact enough to be judged by.

A softmax of 262,144 float32 logits sums to 1 within 2e-5 where they are spread out, and misses it by up to 8e-4 where one token stands out.
"""

import torch
from torch import Tensor

BLOCK = 128  # numbers that are added in float32


def mass(rows: Tensor) -> Tensor:
    """Sums of rows [..., V] of numbers that are not negative, as float64 [...]; within about 1e-7 of themselves, usually 3e-8.

    On the CPU blocks are added in float32, and the blocks in float64. That is about one fifth of the time of a float64 sum. The largest block of a row
    is added in float64 as well: it is there that one likely token makes all others be rounded.
    """
    num_blocks = rows.shape[-1] // BLOCK
    if rows.dtype == torch.float64 or rows.device.type != "cpu" or num_blocks < 2:
        return rows.sum(-1, dtype=torch.float64)
    blocks = rows[..., : num_blocks * BLOCK].unflatten(-1, (num_blocks, BLOCK))
    sums = blocks.sum(-1)
    most, place = sums.max(-1, keepdim=True)
    largest = blocks.gather(-2, place[..., None].expand(*place.shape, BLOCK))
    behind = rows[..., num_blocks * BLOCK :]
    total = sums.sum(-1, dtype=torch.float64) - most.squeeze(-1) + largest.sum((-2, -1), dtype=torch.float64)
    return total + behind.sum(-1, dtype=torch.float64) if behind.shape[-1] else total


def excess(masses: Tensor, dtype: torch.dtype) -> Tensor:
    """The share of themselves that rows of the given masses [...] must lose to sum to 1, [..., 1].

    Near 1 it is a small number, so rounding it to float32 costs nothing; a factor near 1 is rounded by up to 6e-8, and with it the whole row.
    """
    return (1 - 1 / masses).to(dtype)[..., None]
