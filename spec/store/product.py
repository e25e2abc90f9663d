"""The operator `draftproof::widened_linear`: x W^T + bias in float32 with W in 16 bits, by the kernel on a CPU and by widening W elsewhere."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spec.native import NoKernel, bypasses, kernel

FEW_BITS = (torch.bfloat16, torch.float16)  # numbers that fit into both are kept in the first
NAME, SCHEMA = "draftproof::widened_linear", "(Tensor x, Tensor weight, Tensor? bias) -> Tensor"


def widened_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., in] times weight [out, in], plus bias [out]: what F.linear gives for the widened weight, but for the order of summation.

    Raises RuntimeError, as F.linear does, where shapes or devices do not fit.
    """
    return _computed(x, weight, bias) if bypasses(x) else torch.ops.draftproof.widened_linear(x, weight, bias)


def widened_linears(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    """The products of several layers with one x beside each other in the last dimension, written there at once."""
    if bypasses(x) and _call() is not None and all(_fits(x, *layer) for layer in zip(weights, biases, strict=True)):
        return _beside(x, weights, biases)
    return torch.cat([widened_linear(x, *layer) for layer in zip(weights, biases, strict=True)], -1)


def _computed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """By the kernel, a row's products do not depend on the rows beside it, to the last bit."""
    if _call() is None or not _fits(x, weight, bias):
        return F.linear(x, weight.to(x.dtype), bias)
    return _beside(x, (weight,), (bias,))


def _beside(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor:
    call, threads, width = _call(), torch.get_num_threads(), sum([len(weight) for weight in weights])
    x, made = x.contiguous(), x.new_empty((*x.shape[:-1], width))
    source, into, rows = x.data_ptr(), made.data_ptr(), made.numel() // width
    for weight, bias in zip(weights, biases, strict=True):
        num_out, num_in = weight.shape
        at_bias = 0 if bias is None else bias.data_ptr()
        call(source, weight.data_ptr(), at_bias, into, rows, num_in, num_out, width, weight.dtype == torch.bfloat16, threads)
        into += num_out * made.itemsize
    return made


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernel takes these."""
    if x.dtype != torch.float32 or weight.dtype not in FEW_BITS or not (x.is_cpu and weight.is_cpu and weight.is_contiguous()):
        return False
    if bias is not None and (bias.dtype != torch.float32 or not bias.is_cpu or bias.shape != weight.shape[:1] or not bias.is_contiguous()):
        return False
    return x.shape[-1:] == weight.shape[1:] and weight.shape[0] > 0


@cache
def _call() -> Any:
    try:
        return kernel().call
    except NoKernel:
        return None


def _shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _gradients(kept: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
    wanted, (weight,) = kept.needs_input_grad, kept.saved_tensors
    return grad @ weight.to(grad.dtype) if wanted[0] else None, None, grad.flatten(0, -2).sum(0) if wanted[2] else None


if not hasattr(torch.ops.draftproof, "widened_linear"):  # two copies of this package in one process share the first one's
    torch.library.define(NAME, SCHEMA)
    torch.library.impl(NAME, "default", _computed)
    torch.library.register_fake(NAME, _shape)
    torch.library.register_autograd(NAME, _gradients, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[1]))
