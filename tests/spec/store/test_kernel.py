"""Products of 16-bit weights against float64, by every kernel that this processor can run and by the fallback."""

import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spec.store import StoredLinear
from spec.store.product import FEW_BITS, widened_linear, widened_linears
from tests.spec.store.kernels import KINDS, use

SIZES = ((1, 1), (5, 3), (8, 24), (16, 25), (31, 7), (33, 49), (100, 50), (256, 128))  # of the input and the output


@pytest.fixture(params=(*KINDS, "none"))
def kind(request, monkeypatch) -> str:
    use(request.param, monkeypatch)
    return request.param


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(found: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Within what float32 can lose in a sum of that many products, whatever the order."""
    x, weight, wide = x.double(), weight.double(), None if bias is None else bias.double()
    size = F.linear(x.abs(), weight.abs(), None if wide is None else wide.abs())
    return bool(((found.double() - F.linear(x, weight, wide)).abs() <= (x.shape[-1] + 1) * 2.0**-24 * size).all())


@pytest.mark.parametrize("dtype", FEW_BITS)
@pytest.mark.parametrize(("num_in", "num_out"), SIZES)
def test_products_are_those_of_the_widened_weights(kind, dtype, num_in, num_out):
    weight, bias = numbers(num_out, num_in).to(dtype), numbers(num_out, seed=1)
    for rows in range(1, 21):
        x = numbers(rows, num_in, seed=rows)
        assert close(widened_linear(x, weight), x, weight)
        found = widened_linear(x, weight, bias)
        assert close(found, x, weight, bias)
        with torch.inference_mode():  # where the kernel is called past torch
            assert torch.equal(widened_linear(x, weight, bias), found)
            assert torch.equal(widened_linears(x, [weight, weight], [bias, None]), torch.cat([found, widened_linear(x, weight)], -1))


@pytest.mark.parametrize("dtype", FEW_BITS)
def test_every_number_of_16_bits_is_widened_exactly(kind, dtype):
    """Subnormal ones, both zeros, infinities and NaN among them; where the kernel takes many at once, and at the end of a row."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    assert torch.equal(widened_linear(torch.ones(1, 1), every[:, None])[0].nan_to_num(7.0), every.float().nan_to_num(7.0))
    finite = every[every.isfinite()]
    table = finite[: len(finite) // 48 * 48].view(-1, 48)
    assert torch.equal(widened_linear(torch.eye(48), table).T, table.float())


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_infinities_and_nan_reach_their_own_sums_alone(kind, bad):
    weight, x = numbers(30, 37).half(), numbers(9, 37)
    weight[4, 36], x[3, 2] = bad, bad
    found, wanted = widened_linear(x, weight), F.linear(x, weight.float())
    assert torch.equal(found.isfinite(), wanted.isfinite())
    assert torch.equal(found.isnan(), wanted.isnan())


@pytest.mark.parametrize("num_in", [48, 37])
def test_a_row_does_not_depend_on_the_rows_beside_it(kind, num_in):
    if kind == "none":
        pytest.skip("BLAS sums in another order for other numbers of rows")
    weight, x = numbers(77, num_in).bfloat16(), numbers(40, num_in)
    alone = torch.cat([widened_linear(row[None], weight) for row in x])
    for rows in (*range(2, 21), 40):
        assert torch.equal(widened_linear(x[:rows], weight), alone[:rows])


def test_any_layout_and_any_number_of_dimensions(kind):
    weight, bias = numbers(19, 21).half(), numbers(19)
    for x in (numbers(21, 6).T, numbers(4, 42)[:, ::2], numbers(2, 3, 21), numbers(2, 3, 5, 21)[:, :, 1], numbers(21), numbers(0, 21)):
        found = widened_linear(x, weight, bias)
        assert found.shape == (*x.shape[:-1], 19)
        assert close(found, x, weight, bias)
    x = numbers(3, 19)
    assert close(widened_linear(x, weight.T), x, weight.T)


def test_layers_beside_each_other_give_what_each_gives_alone(kind):
    weights = [numbers(size, 37, seed=size).to(dtype) for size, dtype in ((30, FEW_BITS[0]), (7, FEW_BITS[1]), (24, FEW_BITS[0]))]
    for x in (numbers(1, 1, 37), numbers(2, 9, 37), numbers(37, 3).T):
        biases = [numbers(30), None, numbers(24)]
        wanted = torch.cat([widened_linear(x, weight, bias) for weight, bias in zip(weights, biases, strict=True)], -1)
        assert torch.equal(widened_linears(x, weights, biases), wanted)
    assert widened_linears(numbers(3, 37).double(), weights, [None] * 3).dtype == torch.float64


def test_two_threads_give_the_same_bits(kind):
    weight, x = numbers(500, 300).half(), numbers(7, 300)
    one, before = widened_linear(x, weight), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = widened_linear(x, weight)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two) or kind == "none"


def test_what_the_kernel_does_not_take_is_widened(kind):
    weight = numbers(5, 8).half()
    for x in (numbers(3, 8).double(), numbers(3, 8).half(), numbers(3, 8).bfloat16()):
        assert torch.equal(widened_linear(x, weight), F.linear(x, weight.to(x.dtype)))
    with pytest.raises(RuntimeError):
        widened_linear(numbers(3, 7), weight)
    with pytest.raises(RuntimeError):
        widened_linear(numbers(3, 8), weight, numbers(4))


def test_gradients_are_those_of_the_widened_product(kind):
    weight = numbers(5, 8).half()
    x, bias = numbers(2, 3, 8).requires_grad_(), numbers(5).requires_grad_()
    found = torch.autograd.grad((widened_linear(x, weight, bias) ** 2).sum(), (x, bias))
    wanted = torch.autograd.grad((F.linear(x, weight.float(), bias) ** 2).sum(), (x, bias))
    assert all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, wanted, strict=True))


def test_it_is_an_operator_that_compilers_can_trace(kind):
    weight, x = numbers(5, 8).half(), numbers(2, 3, 8)
    torch.library.opcheck(torch.ops.draftproof.widened_linear.default, (x, weight, None), test_utils=("test_schema", "test_faketensor"))
    traced = torch.compile(lambda x: widened_linear(x * 2, weight) + 1, backend="aot_eager", fullgraph=True)
    assert torch.equal(traced(x), widened_linear(x * 2, weight) + 1)


def test_tracers_and_gradients_see_it(kind):
    layer, x = StoredLinear(torch.nn.Linear(8, 5), numbers(5, 8).half()), numbers(3, 8)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is old
        traced = torch.jit.trace(layer, x, check_trace=False)
    assert torch.equal(traced(2 * x), layer(2 * x))
    layer.bias.requires_grad_(True)
    layer(x).sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((5,), 3.0))
