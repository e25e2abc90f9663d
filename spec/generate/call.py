"""The same as a function with every argument of `generate`: what a folder `custom_generate/` gives to transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationMixin

from spec.generate.door import speculative
from spec.generate.outputs import SpeculativeOutput
from spec.interfaces import Drafter, Verifier
from spec.named import drafter_named, verifier_named


def generate(
    model: Any,
    inputs: Tensor | None = None,
    *,
    drafter: Drafter | str | None = None,
    drafter_options: Mapping[str, Any] | None = None,
    verifier: Verifier | str = "recursive",
    verifier_options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    allow_lossy: bool = False,
    batch_size: int | None = None,
    **arguments: Any,
) -> Tensor | SpeculativeOutput:
    """`model.generate(inputs, **arguments)` by speculative decoding; the other arguments are those of `speculative`.

    drafter_options, verifier_options: settings of a drafter or verifier that is given by its short name. Raises ValueError as `speculative` does.
    """
    made = (_made(drafter_named, "drafter", drafter, drafter_options), _made(verifier_named, "verifier", verifier, verifier_options))
    door = speculative(*made, seed=seed, allow_lossy=allow_lossy, batch_size=batch_size)
    mixin: Any = GenerationMixin  # not the model's own: a folder beside the model may have replaced that by this very function
    return mixin.generate(model, inputs, custom_generate=door, **arguments)


def _made(named: Any, role: str, given: Any, options: Mapping[str, Any] | None) -> Any:
    if isinstance(given, str):
        return named(given, options)
    if options is not None:
        raise ValueError(f"{role}_options={dict(options)!r} are settings of a {role} given by its name; {role}={given!r} has its own")
    return given
