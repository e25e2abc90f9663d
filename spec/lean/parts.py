"""What a model's forward is made of: modules, their plain attributes, hooks, settings and functions. Any of it may change between two decodes."""

import inspect
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.nn.modules import module as torch_hooks
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spec.attention import chosen
from spec.reach import inner
from spec.store import StoredLinear

PLAIN = (bool, int, float, str)
KNOWN = ("transformers.", "torch.nn.", StoredLinear.__module__)  # where classes come from whose forward is what a trial of their class shows


class NotLean(ValueError):  # noqa: N818  an answer rather than an error
    """A model that is not of the shape; the message says why."""


class Parts:
    """All that a model's forward depends on but the numbers of its weights, which may change at any time."""

    def __init__(self, model: Any):
        parts = list(model.modules())
        self.modules = [weakref.ref(part) for part in parts]
        self.state = self._state(model, parts)

    @staticmethod
    def _state(model: Any, parts: Sequence[Any]) -> tuple[Any, ...]:
        config = model.config.get_text_config()
        plain = [_plain(vars(part)) for part in (*parts, config)]
        forms = [_form(tensor) for part in parts for tensor in (*part._parameters.values(), *part._buffers.values())]
        return model.device, model.dtype, chosen(config), plain, forms, functions_of(parts), next(_touched(parts), None)

    def are_those_of(self, model: Any) -> bool:
        now = list(model.modules())
        same = len(now) == len(self.modules) and all(part is kept() for part, kept in zip(now, self.modules, strict=True))
        return same and self.state == self._state(model, now)


def check_untouched(model: Any) -> None:
    """Raises NotLean where calling the model does more than the classes of its parts say."""
    if inner(model) is not model:
        raise NotLean(f"{type(model).__name__} wraps a model")
    if model.training:
        raise NotLean("it is in training mode; model.eval() ends that")
    name = next(_touched(model.modules()), None)
    if name is not None:
        raise NotLean(f"{name} has a hook, a forward of its own, or is no class of transformers or torch")


def _plain(attributes: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in attributes.items() if type(value) in PLAIN and name[0] != "_"]


def _form(tensor: Any) -> tuple[Any, ...] | None:
    return None if tensor is None else (tensor.dtype, tensor.shape, tensor.stride())


def functions_of(parts: Iterable[Any]) -> list[Any]:
    """The forwards of modules' classes, the functions of transformers' models that they call, and sdpa: each may have been replaced."""
    found: dict[Any, None] = {}
    waiting = [kind.forward for kind in dict.fromkeys(map(type, parts))]
    while waiting:
        function = inspect.unwrap(waiting.pop())
        code = getattr(function, "__code__", None)
        if function not in found and code is not None:
            found[function] = None
            named = (function.__globals__.get(name) for name in code.co_names)
            waiting += [other for other in named if getattr(other, "__module__", "").startswith(KNOWN[0] + "models.") and inspect.isfunction(other)]
    return [*found, ALL_ATTENTION_FUNCTIONS["sdpa"]]


def _touched(parts: Any) -> Iterator[str]:
    if any((torch_hooks._global_forward_hooks, torch_hooks._global_forward_pre_hooks)):
        yield "every module"
    for part in parts:
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) or not type(part).__module__.startswith(KNOWN):
            yield type(part).__name__
