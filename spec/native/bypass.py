"""When compiled code may be called past torch."""

import torch
from torch import Tensor


def bypasses(x: Tensor) -> bool:
    """Whether code may be called past torch, whose compiler, tracer, autograd, autocast or dispatch mode would miss it: while decoding, that is."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return False
    if torch.is_autocast_enabled(x.device.type) or torch._C._len_torch_dispatch_stack():
        return False
    return type(x) is Tensor and torch.is_inference_mode_enabled()
