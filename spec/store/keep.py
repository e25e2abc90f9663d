"""Which weights of a model are kept in 16 bits: those whose numbers fit, whatever their checkpoint says of itself. And the way back."""

import copy
import inspect
import logging
import re
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spec.native import NoKernel, kernel
from spec.once import say_once
from spec.store.modules import Stored, StoredEmbedding, StoredLinear
from spec.store.product import FEW_BITS

STORES = ("auto", "checkpoint", "float32")
LOG = logging.getLogger(__name__)
COPIES: "weakref.WeakKeyDictionary[Any, Any]" = weakref.WeakKeyDictionary()  # in float32, by model, with what its weights were then
AS_PLAIN = {StoredLinear: StoredLinear.plain, StoredEmbedding: StoredEmbedding.plain}


def check_store(store: str) -> str:
    """`store` itself. Raises ValueError if there is no such way."""
    if store not in STORES:
        raise ValueError(f"store={store!r}: give one of {', '.join(STORES)}")
    return store


def stored(model: Any, store: str = "auto") -> Any:
    """The model itself, its linear layers and embeddings in the form that `store` says.

    "checkpoint": where all numbers of a weight fit into 16 bits, it is kept so and widened when it is used, which changes no number. "auto": the same
    where it pays, for a model of float32 on a CPU that the kernel is built for. "float32": as transformers has them. Models of other dtypes and
    quantised ones stay as they are under "auto". Raises ValueError for "checkpoint" where it is not possible.
    """
    quantised = getattr(model.config, "quantization_config", None) is not None
    if check_store(store) == "float32":
        if _is_stored(model):
            _swap(model, AS_PLAIN, _widened)
        return model
    if (store == "auto" and (model.dtype != torch.float32 or model.device.type != "cpu" or quantised)) or _is_stored(model):
        return model
    if model.dtype != torch.float32 or quantised:
        what = "is quantised" if quantised else f"is of {str(model.dtype).removeprefix('torch.')}"
        raise ValueError(f"store=checkpoint keeps 16-bit weights under float32 arithmetic, and the model {what}; use dtype=float32 or store=auto")
    if store == "auto" and not (_seems_narrow(model) and _has_kernel("weights are kept in float32")):
        return model
    reason = _kept_in_16_bits(model)
    if store == "checkpoint" and reason is not None:
        raise ValueError(f"store=checkpoint: {reason}; use store=float32")
    if store == "checkpoint":
        _has_kernel("weights are widened anew for every product, which is slow")
    return model


def _kept_in_16_bits(model: Any) -> str | None:
    """Changes the model in place, or says why not."""
    if not _source(model):
        return "the source of this model's class is not at hand, which may use the weights itself"
    _swap(model, {nn.Linear: StoredLinear, nn.Embedding: StoredEmbedding}, _narrowed)
    if next(model.parameters(), None) is None:
        _swap(model, AS_PLAIN, _widened)
        return "this model has no other parameters, and transformers asks one for the dtype"
    return None if _is_stored(model) else "this model has no linear layers or embeddings whose numbers fit into 16 bits"


def store_of(model: Any) -> str:
    """In what most of a model's numbers are kept, "float16" say."""
    sizes: dict[str, int] = defaultdict(int)
    for tensor in (*model.parameters(), *model.buffers()):
        sizes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return max(sizes, key=lambda name: sizes[name])


def as_float32(model: Any) -> Any:
    """A model that computes the same by transformers' own layers: itself if nothing of it is stored, else one copy with widened weights."""
    if not _is_stored(model):
        return model
    now = [(tensor.data_ptr(), tensor.dtype, 0 if tensor.is_inference() else tensor._version) for tensor in (*model.parameters(), *model.buffers())]
    if model not in COPIES or COPIES[model][0] != now:
        made = copy.deepcopy(model)
        _swap(made, AS_PLAIN, _widened)
        COPIES[model] = now, made
    return COPIES[model][1]


def _is_stored(model: Any) -> bool:
    return any(isinstance(part, Stored) for part in model.modules())


def _has_kernel(otherwise: str) -> bool:
    """Whether there is a kernel; what happens without one is said once."""
    try:
        kernel()
    except NoKernel as error:
        say_once(LOG, f"no kernel for 16-bit weights, {otherwise}: {error}")
        return False
    return True


def _seems_narrow(model: Any) -> bool:
    first = next((part for part in model.modules() if type(part) is nn.Linear), None)
    return first is not None and _narrowed(first.weight[:1]) is not None


def _narrowed(weight: Tensor) -> Tensor | None:
    """The same numbers in 16 bits; None where some do not fit."""
    if weight.dtype != torch.float32:
        return None
    narrow = (weight.detach().to(dtype).contiguous() for dtype in FEW_BITS)
    return next((found for found in narrow if torch.equal(found.to(weight.dtype), weight)), None)


def _widened(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight.to(torch.float32))


def _source(model: Any) -> str:
    """The file that a model's class is in; empty where it is not at hand."""
    try:
        return inspect.getsource(sys.modules[type(model).__module__])
    except (OSError, TypeError, KeyError):
        return ""


def _asked(source: str) -> set[str]:
    """Names of layers whose weights a model's code uses itself."""
    return {*re.findall(r"\bself\.(?:\w+\.)*(\w+)\.weight\b", source), *re.findall(r"(\w+)\.weight\.dtype", source)}


def _swap(model: Any, kinds: dict[type, Callable[[Any, Any], nn.Module]], change: Callable[[Tensor], Tensor | None]) -> None:
    """Changes weights that are used by parts of `kinds` alone, and puts parts made of the old ones in their places; tied weights stay tied."""
    places, users, asked = defaultdict(list), defaultdict(list), _asked(_source(model))
    for parent in model.modules():
        for name, part in parent.named_children():
            places[part].append((parent, name))
        for tensor in (*parent.parameters(recurse=False), *parent.buffers(recurse=False)):
            users[tensor].append(parent)
    while users:  # taken out one by one, so that memory is freed as it goes
        weight, parts = users.popitem()
        fit = all(type(part) in kinds and part.weight is weight and not (part._forward_hooks or part._forward_pre_hooks) for part in parts)
        changed = change(weight) if fit and not any(name in asked for part in parts for _, name in places[part]) else None
        for part in parts if changed is not None else ():
            made = kinds[type(part)](part, changed).train(part.training)
            for parent, name in places.pop(part):
                setattr(parent, name, made)
