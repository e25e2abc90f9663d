"""The mode `store`: what 16-bit weights under float32 arithmetic cost, beside float32 and bfloat16 as a whole.

First the products of the target's linear layers alone, by the number of rows; then a random model of a real size, with the same numbers in all three.
"""

import copy
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from drafters.none import NoDraft
from experiments.analysis.terminal import render
from experiments.bench.material import Material
from experiments.bench.memory import must_hold
from experiments.bench.slots import Bed, curves
from experiments.parts.interleave import shuffled
from experiments.parts.random_target import random_model, random_prompts
from experiments.recording.clock import Stopwatch, timed
from spec import CausalLM, Limits, Sampler, decode
from spec.store import NoKernel, StoredLinear, kernel, stored, widened_linear
from verifiers.recursive import Recursive


def stores(material: Material) -> dict[str, Any]:
    """Milliseconds of products and forwards, tokens per second and bytes. Raises ValueError where there is no kernel, or the device is no CPU."""
    settings, seed = material.config.store, material.config.seed
    if material.target.device.type != "cpu":
        raise ValueError(f"mode=store measures a processor's kernel, and the target is on {material.target.device}; give target.device=cpu")
    try:
        found = kernel()
    except NoKernel as error:
        raise ValueError(f"mode=store: {error}") from error
    result: dict[str, Any] = {"kernel": {"instructions": found.instructions, "build_seconds": found.build_seconds}}
    result["products"] = products(weights_of(material.model), settings.slots, settings.repeats, seed)
    targets = same_numbers(settings.size, seed)
    beds = [Bed.make(name, target, rows=1, context=settings.context, seed=seed) for name, target in targets.items()]
    result["curves"] = curves(beds, settings.slots, repeats=settings.repeats, seed=seed)
    result["decoding"] = decoding(targets, settings.context, settings.new_tokens, seed)
    return result


def weights_of(model: Any) -> list[Tensor]:
    """Those of all linear layers, rounded to float16 where they are not of 16 bits."""
    parts = [part.weight.detach() for part in model.modules() if isinstance(part, (nn.Linear, StoredLinear))]
    return [weight if weight.dtype.itemsize == 2 else weight.half() for weight in parts]


@torch.inference_mode()
def products(weights: Sequence[Tensor], rows: Sequence[int], repeats: int, seed: int) -> list[dict[str, Any]]:
    """Milliseconds of one product with each of the weights, by rows: the least of the repeats, interleaved, after two that do not count."""
    ways: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "float32": (F.linear, [weight.float() for weight in weights]),
        "bfloat16": (F.linear, [weight.bfloat16() for weight in weights]),
        "16 bits in float32": (widened_linear, list(weights)),
    }
    found = []
    for count in rows:
        dtypes = {name: torch.bfloat16 if name == "bfloat16" else torch.float32 for name in ways}
        inputs = {name: [torch.randn(count, weight.shape[1]).to(dtype) for weight in weights] for name, dtype in dtypes.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 2):
            for name in shuffled(list(ways), seed, turn, count):
                work, held = ways[name]
                pairs = list(zip(inputs[name], held, strict=True))
                _, spent = timed(lambda work=work, pairs=pairs: [work(x, weight) for x, weight in pairs], Stopwatch(torch.device("cpu")))
                seconds[name].append(spent.seconds)
        found.append({"rows": count, "ms": {name: 1000 * min(times[2:]) for name, times in seconds.items()}})
    return found


def same_numbers(size: str, seed: int) -> dict[str, CausalLM]:
    """A random model of bfloat16, and the same numbers in float32 and in 16 bits under float32 arithmetic."""
    few = random_model(size, "bfloat16", seed=seed)
    wide = copy.deepcopy(few).float()
    kept = stored(copy.deepcopy(few).float(), "checkpoint")
    return {name: CausalLM(model, runtime="lean") for name, model in (("float32", wide), ("bfloat16", few), ("16 bits in float32", kept))}


def decoding(targets: dict[str, CausalLM], context: int, new_tokens: int, seed: int) -> list[dict[str, Any]]:
    """Tokens per second of plain decoding behind a prompt, the median of three rounds after one, and bytes of weights, cache and logits."""
    prompts = random_prompts(next(iter(targets.values())), [context], 1, seed)
    rates: dict[str, list[float]] = {name: [] for name in targets}
    for turn in range(4):
        for name in shuffled(list(targets), seed, turn):
            made = decode(targets[name], NoDraft(), Recursive(), prompts, sampler=Sampler(0.0), limits=Limits(new_tokens))
            rates[name].append(new_tokens / made.stats.decode_seconds)
    held = {name: must_hold(target.model, rows=1, positions=context + new_tokens, slots=1) for name, target in targets.items()}
    return [{"store": name, "tokens_per_second": statistics.median(rates[name][1:]), "must_hold": held[name]} for name in targets]


def show(result: dict[str, Any]) -> None:
    """A line per number of rows, and one per form of the model."""
    lines = [{"rows": str(line["rows"])} | {name: f"{ms:.2f} ms" for name, ms in line["ms"].items()} for line in result["products"]]
    render(lines, title=f"products of the target's linear layers ({result['kernel']['instructions']})")
    forwards = {curve["bed"]: {f"{point['slots']} slots": f"{point['ms']:.1f} ms" for point in curve["points"]} for curve in result["curves"]}
    lines = [
        {"weights": line["store"], "tokens/s": f"{line['tokens_per_second']:.1f}", "memory": f"{line['must_hold'] / 2**20:.0f} MiB"}
        | forwards[line["store"]]
        for line in result["decoding"]
    ]
    render(lines, title="a random model: plain decoding, and a forward over N slots")
