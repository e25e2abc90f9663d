"""Whether a lean forward gives the logits of the model's own: tried once, in float64 on a small model of its class, and then on the model itself."""

import copy
import weakref
from typing import Any

import torch

import spec.masks as masks
from spec.cache import KVCache
from spec.lean.forward import Lean, NotLean, check_untouched
from spec.types import Draft

SMALL = {"num_hidden_layers": 2, "vocab_size": 64, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}  # tried in float64
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of the spread of the logits
MADE: "weakref.WeakKeyDictionary[Any, Lean]" = weakref.WeakKeyDictionary()  # by model: packed and tried once


def lean_of(model: Any) -> "Lean":
    """The lean forward of a model. Raises NotLean where it has none."""
    if model in MADE and not MADE[model].has_changed(model):
        return MADE[model]
    MADE.pop(model, None)
    try:
        small = _small(model)
        _try(small, Lean(small))
        found = Lean(model)
        _try(model, found)
    except NotLean:
        raise
    except torch.OutOfMemoryError as error:
        raise NotLean("there is no memory to pack its weights") from error
    except Exception as error:  # whatever a model of another shape runs into
        raise NotLean(f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}") from error
    MADE[model] = found
    return found


def _small(model: Any) -> Any:
    """A model of the same class and settings in float64, with few layers, few ids and random weights: what is equal there is equal, not similar."""
    check_untouched(model)
    config = copy.deepcopy(model.config)
    text, depth = config.get_text_config(), SMALL["num_hidden_layers"]
    for name, value in vars(text).items():
        if isinstance(value, (list, tuple)) and len(value) == text.num_hidden_layers:
            setattr(text, name, value[:depth])
    for name, value in SMALL.items():
        setattr(text, name, value)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        torch.manual_seed(0)
        made = type(model)._from_config(config, dtype=torch.float64).eval()
        for weight in made.parameters():
            weight.normal_(std=2 * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5)
    return made


@torch.no_grad()
def _try(model: Any, lean: Lean) -> None:
    """Raises NotLean where a tree behind rows of different lengths, or a chain behind equal ones, gets other logits than by the own forward."""
    vocab_size, device = lean.head.parts[0].out_features, model.device
    tokens = torch.arange(1, 11, device=device).view(2, 5) * 7 % vocab_size
    parents = torch.tensor([[-1, 0, 0, 1, 2]], device=device).repeat(2, 1)
    tree = Draft(tokens, parents, torch.tensor([5, 5], device=device))
    for draft, lengths in ((tree, [4, 2]), (Draft.chain(tokens[:, :3]), [4, 4]), (Draft.chain(tokens[:, :1]), [3, 3])):
        found = []
        for run in (None, lean):
            cache = KVCache(len(lean.layers), 2, 16, device)
            cache.reserve(4)
            model(input_ids=tokens[:, :4], past_key_values=cache, use_cache=True)
            cache.keep(lengths)
            cache.reserve(draft.num_slots)
            mask = masks.behind_prefix(masks.draft_bias(draft, model.dtype), cache.starts(), cache.longest + draft.num_slots)
            places = masks.positions(draft, cache, 0, 16).expand_as(draft.tokens)
            if run is None:
                own = model(input_ids=draft.tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True)
                found.append(own.logits)
            else:
                found.append(run(draft.tokens, None if draft.num_slots == 1 else mask, places, cache, False)[0])
        spread = found[0].max() - found[0].min()
        gap = float((found[0] - found[1]).abs().max() / spread)
        if not gap <= ROUNDING.get(model.dtype, 0.0):
            raise NotLean(f"its logits differ by {gap:.0e} of their spread in {str(model.dtype).removeprefix('torch.')}")
