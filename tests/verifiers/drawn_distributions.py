"""Pairs of distributions for property tests, and those of the table models."""

import torch
from hypothesis import strategies as st
from torch import Tensor

from experiments.lossless.enumeration.tables import Instance


def root(instance: Instance) -> tuple[Tensor, Tensor]:
    return instance.p(()), instance.q(())


@st.composite
def pairs(draw: st.DrawFn, largest: int = 5) -> tuple[Tensor, Tensor]:
    """Two distributions over the same few tokens, with zeros and ties among them."""
    vocabulary = draw(st.integers(2, largest))
    rows = [draw(st.lists(st.integers(0, 12), min_size=vocabulary, max_size=vocabulary).filter(any)) for _ in range(2)]
    p, q = (torch.tensor(row, dtype=torch.float64) / sum(row) for row in rows)
    return p, q
