"""Which draw a drafted token came from, where several draws gave the same token."""

import torch

from experiments.lossless.checks.drawn_as_declared import CLOSE, Drawing, Watch
from spec.types import Draft

VOCABULARY, TOKEN = 64, 5


def two_alike(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two distributions [V] further apart than rounding makes them, whose marks (a random weight per token, as the watch draws them) agree."""
    weights = torch.rand(VOCABULARY, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(seed)
    distribution = torch.rand(VOCABULARY, dtype=torch.float64, generator=generator)
    distribution[TOKEN] = 2 * VOCABULARY
    distribution /= distribution.sum()
    change = torch.zeros(VOCABULARY, dtype=torch.float64)
    first, second, third = (20 + torch.randperm(40, generator=generator)[:3]).tolist()
    change[first], change[second], change[third] = weights[second] - weights[third], weights[third] - weights[first], weights[first] - weights[second]
    change *= 1e-5 / change.abs().sum()  # neither the sum nor the mark of the distribution changes
    return distribution, distribution + change


def watched(declared: torch.Tensor, *drawn: torch.Tensor) -> Watch:
    """After one draft of one token with the distribution `declared`, and draws of that token from all the distributions `drawn`, not quite of mass
    1."""
    rows = torch.stack([distribution * (1 + 3e-5) for distribution in drawn]).float()[None]
    watch = Watch([Drawing(rows, torch.full((1, len(drawn)), TOKEN))])
    q = torch.stack([torch.zeros(VOCABULARY), declared.float()])[None]
    watch.compare(Draft.chain(torch.tensor([[1, TOKEN]]), torch.tensor([2]), q))
    return watch


def test_a_token_drawn_twice_from_nearly_the_same_distribution_is_laid_beside_its_own():
    """At V = 262,144 an honest drafter was convicted: marks told its draw from another one of the same token by chance alone."""
    for seed in range(40):
        one, other = two_alike(seed)
        assert (one - other).abs().sum() / 2 > 4 * CLOSE
        for drawn in ((one, other), (other, one)):
            watch = watched(one, *drawn)
            assert (watch.compared, watch.differing) == (1, 0)
            assert watch.worst < CLOSE


def test_a_distribution_that_no_draw_of_the_token_had_differs():
    one, other = two_alike(0)
    assert watched(one, other, other).differing == 1
