"""How far apart two ways to read the same text are: total variation per token and of whole texts, and where the likeliest token differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

MARGINS = (0.0, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, float("inf"))  # upper ends; the first holds exact ties alone


@dataclass(frozen=True)
class Gap:
    """What differs along one text of L tokens. TV is half the sum of |p - other| over the vocabulary, in float64."""

    tv: NDArray[np.float64]  # [temperatures, L]
    flipped: NDArray[np.bool_]  # [L] the two ways have another likeliest token
    margin: NDArray[np.float64]  # [L] the largest logit less the second largest, of the first way
    text: float  # half of |P - other P| of the whole text, over the probability by which it was sampled; its mean over texts is the TV of texts


def gap(logits: Tensor, other: Tensor, temperatures: Sequence[float], text: float = 0.0) -> Gap:
    """Compares two ways' logits [L, V] of the same tokens. `text`: what `text_gap` says of them."""
    logits, other = logits.double(), other.double()
    tv = [0.5 * ((logits / scale).softmax(-1) - (other / scale).softmax(-1)).abs().sum(-1) for scale in temperatures]
    best = logits.topk(2).values
    return Gap(torch.stack(tv).cpu().numpy(), (logits.argmax(-1) != other.argmax(-1)).cpu().numpy(), (best[:, 0] - best[:, 1]).cpu().numpy(), text)


def text_gap(one: float, other: float, sampled: float) -> float:
    """A text's share in the TV between two distributions of texts, from its log-likelihood in both and in the distribution that it was sampled
    from."""
    return 0.5 * abs(np.exp(one - sampled) - np.exp(other - sampled))


def likelihood(logits: Tensor, answer: Sequence[int], temperature: float) -> float:
    """The log-likelihood of a text's tokens under logits [L, V], in float64."""
    distributions = (logits.double() / temperature).log_softmax(-1)
    return distributions.gather(-1, torch.tensor(answer, device=distributions.device)[:, None]).sum().item()


def figures(gaps: Sequence[Gap], temperatures: Sequence[float]) -> dict[str, Any]:
    """All texts together: TV per token by temperature, and flips by margin. Intervals are 95 %, by bootstrap over texts."""
    flipped, margins = np.concatenate([found.flipped for found in gaps]), np.concatenate([found.margin for found in gaps])
    bins = np.searchsorted(MARGINS, margins)  # the first bin whose upper end is not below the margin
    by_margin = [
        {"margin_up_to": end if np.isfinite(end) else None, "positions": int((bins == index).sum()), "flips": int(flipped[bins == index].sum())}
        for index, end in enumerate(MARGINS)
    ]
    return {
        "positions": len(flipped),
        "tv": [{"temperature": scale} | spread([found.tv[index] for found in gaps]) for index, scale in enumerate(temperatures)],
        "text_tv": spread([np.array([found.text]) for found in gaps]),
        "flips": int(flipped.sum()),
        "flip_share": float(flipped.mean()),
        "largest_flipped_margin": float(margins[flipped].max()) if flipped.any() else None,
        "by_margin": by_margin,
    }


def spread(values: Sequence[NDArray]) -> dict[str, Any]:
    """Mean with its interval, the value that one in a hundred passes, and the largest; values of one text stand together."""
    together = np.concatenate(values)
    sums, counts = np.array([found.sum() for found in values]), np.array([len(found) for found in values])
    interval = [float(together.mean())] * 2
    if len(values) > 1 and np.ptp(sums / counts) > 0:
        found = stats.bootstrap((sums, counts), ratio, paired=True, vectorized=True, n_resamples=2000, method="percentile", rng=0).confidence_interval
        interval = [float(found.low), float(found.high)]
    return {
        "mean": float(together.mean()),
        "interval": interval,
        "one_in_100": float(np.quantile(together, 0.99)),
        "largest": float(together.max()),
    }


def ratio(sums: NDArray, counts: NDArray, axis: int = -1) -> NDArray:
    return sums.sum(axis) / counts.sum(axis)
