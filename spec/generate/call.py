"""The same as a function with every argument of `generate`: what a folder `custom_generate/` gives to transformers."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import GenerationMixin

from spec.arguments import shown
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
    runtime: str = "auto",
    **arguments: Any,
) -> Tensor | SpeculativeOutput:
    """`model.generate(inputs, **arguments)` by speculative decoding; the other arguments are those of `speculative`.

    drafter_options, verifier_options: settings of a drafter or verifier that is given by its short name. With `custom_generate=`, which a model whose
    own `generate` is this function may be given, that is done instead. Raises ValueError as `speculative` does.
    """
    mixin: Any = GenerationMixin  # not the model's own: a folder beside the model may have replaced that by this very function
    if arguments.get("custom_generate") is not None:
        if drafter is not None:
            raise ValueError(f"drafter={shown(drafter)} and custom_generate were given; give one of them")
        return mixin.generate(model, inputs, **arguments)
    arguments.pop("custom_generate", None)
    made = (_made(drafter_named, "drafter", drafter, drafter_options), _made(verifier_named, "verifier", verifier, verifier_options))
    door = speculative(*made, seed=seed, allow_lossy=allow_lossy, batch_size=batch_size, runtime=runtime)
    return mixin.generate(model, inputs, custom_generate=door, **arguments)


def _made(named: Any, role: str, given: Any, options: Mapping[str, Any] | None) -> Any:
    if isinstance(given, str):
        return named(given, options)
    if options is not None:
        remedy = f"name one, as in {role}={'lookahead' if role == 'drafter' else 'recursive'!r}" if given is None else f"{shown(given)} has its own"
        raise ValueError(f"{role}_options={shown(options)} are settings of a {role} that is given by its name; {remedy}")
    return given
