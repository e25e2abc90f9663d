"""The counter-based noise: known numbers, the distributions it claims, and that no key shares its number with another."""

import math

import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from spec.noise import NUM_SLOTS, HostNoise, Noise, Purpose, StepNoise, covering, mix, uniform

ALPHA = 1e-6
NUM_KEYS = 20_000
NUM_DRAWS = 5_000
EULER = 0.5772156649015329


def keys(num_keys: int = NUM_KEYS, seed: int = 0, vary: str = "sequence") -> tuple[StepNoise, Tensor]:
    """A noise and slots with `num_keys` different keys that differ in one part of the key only."""
    count = torch.arange(num_keys)
    same = torch.full_like(count, 5)
    if vary == "sequence":
        return Noise(seed).at(count, same), same
    if vary == "position":
        return Noise(seed).at(same, count), same
    return Noise(seed).at(same, same), count


def chi_square(observed: Tensor, expected: Tensor) -> float:
    """p-value of counts against expected counts; cells that expect nothing must be empty."""
    assert not bool(observed[expected == 0].any())
    observed, expected = observed[expected > 0].double(), expected[expected > 0]
    if len(expected) == 1:
        return float(observed == expected)
    return float(chi2.sf(((observed - expected) ** 2 / expected).sum().item(), len(expected) - 1))


def known_answers(device: str) -> dict[str, list]:
    """Numbers that every device must give."""
    ids, positions = torch.tensor([0, 1, 2**40], device=device), torch.tensor([0, 17, 4095], device=device)
    noise, slots = Noise(1234).at(ids, positions), torch.tensor([0, 1, 63], device=device)
    many, half = torch.arange(64, device=device).expand(3, 64), torch.full((3, 64), 0.5, device=device)
    distribution = torch.tensor([0.1, 0.0, 0.2, 0.3, 0.4], device=device).expand(3, 64, 5)
    return {
        "bits": noise.bits(slots, Purpose.ACCEPT).tolist(),
        "uniforms": noise.uniform(slots, Purpose.RESIDUAL).tolist(),
        "bernoulli": noise.bernoulli(half, Purpose.ACCEPT, many).long().tolist(),
        "categorical": noise.categorical(distribution, Purpose.DRAFT, many).tolist(),
        "gumbel": noise.gumbel(positions, 4).tolist(),
    }


def test_finaliser_is_splitmix64():
    # first outputs of SplitMix64 from state 0, as published with the generator
    state = torch.tensor([1, 2, 3]) * -0x61C8864680B583EB
    assert [value % 2**64 for value in mix(state).tolist()] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_known_answers():
    found = known_answers("cpu")
    assert found["bits"] == [2950420663373387766, 3389941176590156894, 3310259614639023037]
    assert found["uniforms"] == [0.05993826530890889, 0.8259033633708568, 0.16566827160983522]
    assert [sum(row) for row in found["bernoulli"]] == [32, 32, 33]
    assert [row[:8] for row in found["categorical"]] == [[3, 4, 3, 4, 3, 2, 4, 4], [3, 4, 4, 4, 2, 2, 4, 4], [3, 4, 3, 3, 3, 3, 4, 2]]
    assert found["gumbel"][1] == pytest.approx([0.7585226584033322, 0.8247165153864139, 1.8536818911825315, -0.2929172762245093], abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, -1, 2**62, -(2**63)])
def test_hash_in_python_equals_the_hash_in_tensors(seed, monkeypatch):
    monkeypatch.setattr("spec.noise.FEW", 1000)  # so many in Python
    generator = torch.Generator().manual_seed(1)
    ids, positions = (torch.randint(-(2**63), 2**63 - 1, (50,), generator=generator) for _ in range(2))
    slots = torch.randint(0, 2**40, (50, 7), generator=generator)
    base = mix(torch.full_like(ids, seed) - 0x61C8864680B583EB)
    by_tensors = mix(base ^ (ids * -0x61C8864680B583EB))
    assert torch.equal(Noise(seed).at(ids, positions).rows, by_tensors)
    noise = StepNoise(by_tensors, positions)
    for purpose in Purpose:
        assert torch.equal(noise.uniform(slots, purpose), uniform(noise.bits(slots, purpose)))
        assert torch.equal(noise.uniform(slots[:, 0], purpose), uniform(noise.bits(slots[:, 0], purpose)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_numbers_of_the_cpu():
    cpu, cuda = known_answers("cpu"), known_answers("cuda")
    for name in ("bits", "uniforms", "bernoulli", "categorical"):
        assert cpu[name] == cuda[name], name
    for left, right in zip(cpu["gumbel"], cuda["gumbel"], strict=True):  # logarithms may differ in the last place
        assert left == pytest.approx(right, rel=1e-14)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_the_tokens_of_the_cpu_from_a_large_vocabulary():
    distribution = torch.rand(256, 32_000, generator=torch.Generator().manual_seed(0))
    ids = torch.arange(256)
    cpu = Noise(3).at(ids, ids).categorical(distribution, Purpose.DRAFT, ids)
    cuda = Noise(3).at(ids.cuda(), ids.cuda()).categorical(distribution.cuda(), Purpose.DRAFT, ids.cuda())
    assert cpu.tolist() == cuda.cpu().tolist()


@pytest.mark.parametrize("vary", ["sequence", "position", "slot"])
def test_uniform_moments(vary):
    noise, slots = keys(vary=vary)
    u = uniform(noise.bits(slots, Purpose.ACCEPT))
    assert u.dtype == torch.float64
    assert 0 <= float(u.min()) < 1e-3
    assert 1 - 1e-3 < float(u.max()) < 1
    for power in (1, 2, 3, 4):
        mean, variance = 1 / (power + 1), 1 / (2 * power + 1) - 1 / (power + 1) ** 2
        assert abs(float((u**power).mean()) - mean) < 5 * math.sqrt(variance / NUM_KEYS)
    correlation = ((u[1:] - 0.5) * (u[:-1] - 0.5)).mean() * 12
    assert abs(float(correlation)) < 5 / math.sqrt(NUM_KEYS)


@pytest.mark.parametrize("vary", ["sequence", "position", "slot"])
def test_neighbouring_uniforms_fill_the_square(vary):
    noise, slots = keys(vary=vary)
    cells = (uniform(noise.bits(slots, Purpose.DRAFT)) * 8).long()
    observed = torch.bincount(cells[::2] * 8 + cells[1::2], minlength=64)
    assert chi_square(observed, torch.full((64,), NUM_KEYS / 2 / 64)) > ALPHA


def test_purposes_and_seeds_are_independent():
    noise, slots = keys()
    other, _ = keys(seed=1)
    first = (uniform(noise.bits(slots, Purpose.ACCEPT)) * 8).long()
    for second in (noise.bits(slots, Purpose.RESIDUAL), noise.bits(slots + 1, Purpose.ACCEPT), other.bits(slots, Purpose.ACCEPT)):
        observed = torch.bincount(first * 8 + (uniform(second) * 8).long(), minlength=64)
        assert chi_square(observed, torch.full((64,), NUM_KEYS / 64)) > ALPHA


@pytest.mark.parametrize("vary", ["sequence", "position", "slot"])
@pytest.mark.parametrize("prob", [0.003, 0.3, 0.75])
def test_bernoulli_distribution(vary, prob):
    noise, slots = keys(NUM_DRAWS, vary=vary)
    hits = noise.bernoulli(torch.full((NUM_DRAWS,), prob, dtype=torch.float64), Purpose.ACCEPT, slots).sum()
    observed = torch.stack([NUM_DRAWS - hits, hits])
    assert chi_square(observed, torch.tensor([1 - prob, prob], dtype=torch.float64) * NUM_DRAWS) > ALPHA


def test_bernoulli_of_zero_and_one_is_certain():
    noise, slots = keys(NUM_DRAWS)
    assert not bool(noise.bernoulli(torch.zeros(NUM_DRAWS), Purpose.ACCEPT, slots).any())
    assert bool(noise.bernoulli(torch.ones(NUM_DRAWS), Purpose.ACCEPT, slots).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("vary", ["sequence", "position", "slot"])
@pytest.mark.parametrize("distribution", [[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.0, 0.25, 0.25, 0.0], [1.0], [0.0, 0.0, 3.0], [2.0, 0.0, 6.0]])
def test_categorical_distribution(distribution, vary, dtype):
    noise, slots = keys(NUM_DRAWS, vary=vary)
    weights = torch.tensor(distribution, dtype=dtype)
    drawn = noise.categorical(weights.expand(NUM_DRAWS, -1), Purpose.DRAFT, slots)
    expected = weights.double() / weights.double().sum() * NUM_DRAWS
    assert chi_square(torch.bincount(drawn, minlength=len(distribution)), expected) > ALPHA


class Extreme(StepNoise):
    """Noise stuck at the smallest or the largest number there is."""

    def uniform(self, slots: Tensor, purpose: Purpose) -> Tensor:
        return uniform(torch.full_like(slots, 0 if purpose == Purpose.DRAFT else -1))


@pytest.mark.parametrize("purpose", [Purpose.DRAFT, Purpose.RESIDUAL], ids=["smallest", "largest"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30, 1 / 3])
def test_index_of_probability_zero_is_never_drawn_at_the_ends(purpose, scale):
    distribution = torch.tensor([0.0, 0.0, 0.1, 0.0, 0.7, 0.2, 0.0, 0.0], dtype=torch.float64) * scale
    zero = torch.zeros(1, dtype=torch.int64)
    drawn = Extreme(zero, zero).categorical(distribution[None], purpose, zero)
    assert drawn.tolist() == [2 if purpose == Purpose.DRAFT else 5]


def test_index_of_probability_zero_is_never_drawn_from_sparse_distributions():
    generator = torch.Generator().manual_seed(0)
    distribution = torch.rand(2000, 300, generator=generator) * (torch.rand(2000, 300, generator=generator) < 0.02)
    distribution[:, 150] += 1e-6
    ids = torch.arange(2000)
    drawn = Noise(5).at(ids, ids).categorical(distribution, Purpose.RESIDUAL, ids)
    assert bool((distribution.gather(1, drawn[:, None]) > 0).all())


def test_row_draws_the_same_in_any_batch_and_order():
    ids, positions = torch.tensor([4, 9, 2, 7]), torch.tensor([10, 3, 10, 44])
    slots, distribution = torch.arange(6).expand(4, 6), torch.rand(4, 6, 11, generator=torch.Generator().manual_seed(0))
    whole = Noise(7).at(ids, positions)
    tokens, hits = whole.categorical(distribution, Purpose.DRAFT, slots), whole.bernoulli(distribution[..., 0], Purpose.ACCEPT, slots)
    gumbel = whole.gumbel(positions, 11)
    for order in ([2], [3, 0], [1, 2, 0, 3]):
        part = Noise(7).at(ids[order], positions[order])
        assert torch.equal(part.categorical(distribution[order], Purpose.DRAFT, slots[order]), tokens[order])
        assert torch.equal(part.bernoulli(distribution[order][..., 0], Purpose.ACCEPT, slots[order]), hits[order])
        assert torch.equal(part.gumbel(positions[order], 11), gumbel[order])


def test_slots_draw_the_same_one_by_one():
    ids, slots = torch.tensor([4, 9]), torch.arange(6).expand(2, 6)
    noise, distribution = Noise(7).at(ids, ids), torch.rand(2, 6, 11, generator=torch.Generator().manual_seed(0))
    whole = noise.categorical(distribution, Purpose.DRAFT, slots)
    one_by_one = [noise.categorical(distribution[:, slot], Purpose.DRAFT, slots[:, slot]) for slot in range(6)]
    assert torch.equal(torch.stack(one_by_one, 1), whole)


def test_no_two_keys_share_a_number():
    ids, positions = (grid.flatten() for grid in torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij"))
    slots = torch.arange(24).expand(len(ids), -1)
    numbers = [Noise(seed).at(ids, positions).bits(slots, purpose) for seed in (0, 1) for purpose in Purpose]
    everything = torch.stack(numbers).flatten()
    assert len(everything.unique()) == len(everything)


def test_no_collision_of_shifted_keys():
    # keys that a sum or an exclusive or of the parts would confuse
    ids, positions = torch.tensor([0, 1, 2, 3]), torch.tensor([3, 2, 1, 0])
    numbers = torch.cat([Noise(0).at(ids, positions).bits(slots, Purpose.DRAFT) for slots in (ids, positions, ids * 8, ids + 8)])
    distinct = {key for slots in (ids, positions, ids * 8, ids + 8) for key in zip(ids.tolist(), positions.tolist(), slots.tolist(), strict=True)}
    assert len(numbers.unique()) == len(distinct)


def test_gumbel_distribution():
    ids = torch.arange(200)
    noise = Noise(0).at(ids, ids * 0)
    g = noise.gumbel(torch.arange(100).expand(200, 100), 2).flatten()
    assert abs(float(g.mean()) - EULER) < 5 * math.pi / math.sqrt(6 * len(g))
    cells = (torch.exp(-torch.exp(-g)) * 20).long().clamp(max=19)  # its distribution function makes it uniform
    assert chi_square(torch.bincount(cells, minlength=20), torch.full((20,), len(g) / 20)) > ALPHA


def test_gumbel_maximum_draws_the_distribution():
    distribution = torch.tensor([0.1, 0.0, 0.2, 0.3, 0.4], dtype=torch.float64)
    ids = torch.arange(NUM_DRAWS)
    drawn = (distribution.log() + Noise(0).at(ids, ids * 0).gumbel(ids * 0 + 9, 5)).argmax(-1)
    assert chi_square(torch.bincount(drawn, minlength=5), distribution * NUM_DRAWS) > ALPHA


def test_gumbel_is_keyed_by_position_and_not_by_step():
    ids = torch.tensor([3, 8])
    early, late = Noise(0).at(ids, torch.tensor([5, 5])), Noise(0).at(ids, torch.tensor([6, 7]))
    positions = torch.tensor([[6, 7, 8], [7, 8, 9]])
    assert torch.equal(early.gumbel(positions, 4), late.gumbel(positions, 4))
    assert bool(torch.isfinite(early.gumbel(positions, 4)).all())
    assert len(early.gumbel(positions, 4).unique()) == 24


@pytest.mark.parametrize("ids", [[0, 5, -3, 2**62], [-(2**63), 2**63 - 1, 1, 2]])
def test_numbers_of_keys_on_the_host_are_those_of_keys_in_tensors(ids):
    """Also those of the table, which is what an accelerator looks them up in."""
    roots, slots = [0, 7, 1000, 3], torch.randint(0, NUM_SLOTS, (4, 60), generator=torch.Generator().manual_seed(0))
    plain, found = Noise(-9).at(torch.tensor(ids), torch.tensor(roots)), Noise(-9).of_step(ids, roots, torch.device("cpu"))
    for purpose in (Purpose.DRAFT, Purpose.ACCEPT, Purpose.RESIDUAL):
        wanted = uniform(plain.bits(slots, purpose))
        assert torch.equal(found.uniform(slots, purpose), wanted)
        assert torch.equal(found.look_up(slots, purpose), wanted)
        assert torch.equal(found.look_up(slots[:, 3], purpose), wanted[:, 3])
    assert torch.equal(found.gumbel(torch.tensor(roots), 5), plain.gumbel(torch.tensor(roots), 5))
    assert torch.equal(found.gumbel(slots, 5)[:, 3], plain.gumbel(slots[:, 3], 5))


def test_a_table_grows_where_a_draft_has_more_slots():
    noise = Noise(1).of_step([4], [2], torch.device("cpu"))
    slots = torch.tensor([[0, NUM_SLOTS + 70]])
    more = covering(noise, NUM_SLOTS + 71)
    assert isinstance(more, HostNoise)
    assert torch.equal(more.look_up(slots, Purpose.ACCEPT), noise.uniform(slots, Purpose.ACCEPT))
    assert covering(noise, NUM_SLOTS) is noise
