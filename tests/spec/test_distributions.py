"""Distributions sum to 1 at any size of vocabulary: those of the sampler, and those that a drafter declares."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from drafters.none import NoDraft
from spec import CausalLM, Limits, Sampler, decode
from spec.mass import mass
from spec.sampling import Sampler as AnySampler
from spec.state import DecodeState
from spec.types import Draft
from tests.tiny import build
from verifiers.recursive import Recursive

LARGE = 262_144
SIZES = (152_064, LARGE)


def strong(share: float, size: int) -> Tensor:
    logits = torch.zeros(size)
    logits[size // 3] = math.log(share * (size - 1) / (1 - share))
    return logits


def gaussian(size: int, spread: float = 4.0) -> Tensor:
    return spread * torch.randn(size, generator=torch.Generator().manual_seed(size))


def rows(size: int) -> dict[str, Tensor]:
    return {f"one of {share}": strong(share, size) for share in (0.37, 0.5, 0.9, 0.99)} | {"Gaussian": gaussian(size)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", rows(8))
def test_distribution_sums_to_one(name, size):
    """A float32 softmax is off by 1e-6 to 8e-4 here."""
    logits = rows(size)[name]
    distribution = Sampler().distribution(logits.expand(1, 2, -1))
    assert distribution.dtype == torch.float32
    assert (distribution.double().sum(-1) - 1).abs().max() < 1e-7
    wanted = logits.softmax(-1).double()
    assert ((distribution.double() / (wanted / wanted.sum()) - 1).abs().max()) < 2e-7  # no token gains or loses beside the others


def test_float64_distributions_are_the_softmax_to_the_last_bit():
    logits = gaussian(5000).double()[None, None]
    assert torch.equal(Sampler().distribution(logits), logits.softmax(-1))


def test_temperature_zero_stays_one_hot():
    distribution = Sampler(0).distribution(gaussian(5000)[None, None])
    assert set(distribution.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param(gaussian(LARGE).softmax(-1).expand(3, 2, -1), id="Gaussian"),
        pytest.param(gaussian(100_003).softmax(-1).expand(3, 2, -1), id="no multiple of a block"),
        pytest.param(torch.full((3, LARGE), 3.3333e-6), id="flat"),
        pytest.param(torch.stack([strong(share, LARGE).softmax(-1) for share in (0.3, 0.7, 0.97)]), id="one stands out"),
        pytest.param(gaussian(2 * LARGE).exp().view(2, LARGE)[:, ::2], id="every second number"),
        pytest.param((gaussian(LARGE).softmax(-1) - strong(0.3, LARGE).softmax(-1)).clamp(min=0).expand(2, -1), id="what a rejection leaves"),
        pytest.param(torch.zeros(3, LARGE), id="nothing"),
        pytest.param(torch.rand(4, 7), id="small"),
    ],
)
def test_mass_is_the_sum(numbers):
    assert torch.allclose(mass(numbers), numbers.double().sum(-1), rtol=1e-7, atol=0)


def test_mass_of_a_row_does_not_depend_on_its_neighbours():
    numbers = torch.stack([gaussian(LARGE).softmax(-1), strong(0.9, LARGE).softmax(-1)])
    assert torch.equal(mass(numbers), torch.cat([mass(numbers[1:].repeat(2, 1))[:0], mass(numbers.flip(0)).flip(0)]))


@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_mass_of_a_spoiled_row_is_not_finite(spoiled):
    numbers = torch.ones(2, LARGE)
    numbers[1, 70_000] = spoiled
    assert mass(numbers).isfinite().tolist() == [True, False]


def chain(distribution: Tensor, sizes: list[int] | None = None) -> Draft:
    """Two rows, two slots drawn from `distribution` [V]."""
    q = torch.stack([torch.zeros_like(distribution), distribution, distribution]).expand(2, -1, -1).clone()
    return Draft.chain(torch.zeros(2, 3, dtype=torch.int64), None if sizes is None else torch.tensor(sizes), q)


def declared(draft: Draft) -> Tensor:
    assert draft.q is not None
    return draft.q


def test_a_drafters_own_softmax_is_brought_to_one():
    raw = strong(0.9, LARGE).softmax(-1)
    assert abs(float(raw.double().sum()) - 1) > 1e-5
    checked = chain(raw).check_distributions()
    assert (declared(checked)[:, 1:].double().sum(-1) - 1).abs().max() < 1e-7
    assert torch.equal(declared(checked)[0], declared(checked)[1])


def test_a_sixteen_bit_row_becomes_a_float32_distribution():
    checked = chain(gaussian(5000, 1.0).softmax(-1).bfloat16()).check_distributions()
    assert declared(checked).dtype == torch.float32
    assert (declared(checked)[:, 1:].double().sum(-1) - 1).abs().max() < 1e-6


def test_distributions_of_the_sampler_are_left_as_they_are():
    for distribution in (Sampler().distribution(gaussian(LARGE)[None, None])[0, 0], Sampler().distribution(gaussian(50).double()[None, None])[0, 0]):
        draft = chain(distribution)
        assert draft.check_distributions() is draft


def test_a_row_is_brought_to_one_whatever_the_other_rows_are():
    good, bad = Sampler().distribution(gaussian(LARGE)[None, None])[0, 0], strong(0.9, LARGE).softmax(-1)
    draft = chain(good)
    q = declared(draft).clone()
    q[1, 2] = bad
    checked = declared(replace(draft, q=q).check_distributions())
    assert torch.equal(checked[0], declared(draft)[0])
    assert torch.equal(checked[1, 1], good)
    assert not torch.equal(checked[1, 2], bad)


@pytest.mark.parametrize(("factor", "said"), [(0.7, "sums to 0.7"), (1.02, "sums to 1.02"), (float("nan"), "is not finite")])
def test_a_distribution_that_is_off_by_more_than_rounding_is_refused(factor, said):
    draft = chain(torch.full((8,), 0.125))
    declared(draft)[1, 2] *= factor
    with pytest.raises(ValueError, match=rf"{said}.*row 1, slot 2"):
        draft.check_distributions()


def test_a_distribution_with_a_negative_entry_is_refused_though_it_sums_to_one():
    draft = chain(torch.full((8,), 0.125))
    declared(draft)[1, 2, :2] = torch.tensor([-0.25, 0.5])
    assert declared(draft)[1, 2].sum() == 1
    with pytest.raises(ValueError, match=r"has a negative entry, -0\.25 \(row 1, slot 2\)"):
        draft.check_distributions()


def test_rows_of_padding_and_of_the_root_may_hold_anything():
    draft = chain(torch.full((8,), 0.125), sizes=[3, 2])
    declared(draft)[1, 2] = float("nan")
    declared(draft)[0, 0] = -7.0
    assert draft.check_distributions() is draft


class Halved(NoDraft):
    """Wrong: declares half of the distribution that it draws from."""

    def propose(self, state: DecodeState, sampler: AnySampler) -> Draft:
        root = torch.tensor(state.roots)
        distribution = torch.full((len(root), 2, 40), 0.5 / 40)
        sizes = torch.tensor([min(room, 2) for room in state.room])
        return Draft.chain(torch.stack([root, torch.zeros_like(root)], 1), sizes, distribution)


def test_the_loop_refuses_such_a_drafter():
    with pytest.raises(ValueError, match=r"sums to 0\.5"):
        decode(CausalLM(build("llama")), Halved(), Recursive(), [[1, 2, 3]], sampler=Sampler(), limits=Limits(4))
