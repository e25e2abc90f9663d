"""Whether a lean forward gives the logits of the model's own: tried once, in float64 on a narrow model of its class, and then on the model itself."""

import copy
import logging
import warnings
import weakref
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

import spec.masks as masks
from spec.cache import KVCache
from spec.lean.forward import Lean
from spec.lean.parts import NotLean, Parts, check_untouched, functions_of
from spec.once import say_once
from spec.reach import num_positions, read
from spec.types import Draft

NARROW = {"vocab_size": 64, "intermediate_size": 48, "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0}
DEPTHS = {"num_hidden_layers", "depth", "num_layers", "encoder_layers"}
NUM_CACHED, PLAIN_REACH = 4, 4096
ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of the spread of the logits
TRIED: "weakref.WeakKeyDictionary[Any, Lean | Refused]" = weakref.WeakKeyDictionary()  # by model
NARROWED: dict[tuple[Any, ...], str | None] = {}  # by class, settings and functions: why a narrow model failed, or None
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refused:
    """Why a model has no lean forward, as long as its parts are these."""

    reason: str
    parts: Parts

    def has_changed(self, model: Any) -> bool:
        return not self.parts.are_those_of(model)


def lean_if_fitting(model: Any, is_asked: bool) -> Lean | None:
    """The lean forward of a model, or None, with a warning if it `is_asked` for and else with a line in the log, once for each reason."""
    try:
        return lean_of(model)
    except NotLean as error:
        if is_asked:
            warnings.warn(f"runtime=lean is not possible here, the model's own forward is run: {error}", RuntimeWarning, stacklevel=4)
        else:
            say_once(LOG, f"{type(model).__name__} is run by its own forward, not the lean one: {error} (runtime=hf does not try)")
        return None


def lean_of(model: Any) -> Lean:
    """The lean forward of a model. Raises NotLean where it has none."""
    known = TRIED.get(model)
    if known is None or known.has_changed(model):
        TRIED.pop(model, None)  # its memory may be needed
        known = _tried(model)
        TRIED[model] = known
    if isinstance(known, Refused):
        raise NotLean(known.reason)
    return known


def _tried(model: Any) -> Lean | Refused:
    began = perf_counter()
    try:
        with torch.no_grad():
            found = Lean(model)
            key = type(model), model.config.to_json_string(use_diff=False), *functions_of(model.modules())
            if key not in NARROWED:
                NARROWED[key] = _why_not_narrow(model)
            if NARROWED[key] is not None:
                raise NotLean(NARROWED[key])
            _try_compiled(model, found)
        found.trial_seconds = perf_counter() - began
        return found
    except Exception as error:
        return Refused(_reason(error), Parts(model))


def _try_compiled(model: Any, found: Lean) -> None:
    """Tries the model itself. If compiled code gets other logits, it is given up, which is said once, and torch's operators are tried."""
    try:
        _try(model, found, 0)
    except NotLean as error:
        if found.native is None:
            raise
        found.native = None
        _try(model, found, 0)
        say_once(LOG, f"{type(model).__name__}: by code compiled for this processor {error}; torch's operators are run")


def _why_not_narrow(model: Any) -> str | None:
    """Tries a narrow model of this kind, at positions near and far."""
    try:
        narrow = _narrow(model)
        small, reach = Lean(narrow), num_positions(narrow.config.get_text_config()) or PLAIN_REACH
        _try(narrow, small, 0)
        small.has_table = False  # its angles would be a long table
        _try(narrow, small, reach - 2 * NUM_CACHED - 1)  # what depends on positions shows far out
    except Exception as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """Of a refusal, or of whatever a model of another shape runs into."""
    if isinstance(error, NotLean):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return "there is no memory to try it"
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def _narrow(model: Any) -> Any:
    """A model of the same class, settings and depth in float64, narrow and with random weights: what is equal there is equal, not similar."""
    check_untouched(model)
    config = copy.deepcopy(model.config)
    text = config.get_text_config()
    heads, groups = text.num_attention_heads, read(text, "num_key_value_heads") or text.num_attention_heads
    head_dim, given = read(text, "head_dim") or text.hidden_size // heads, read(text, "head_dim") is not None
    few = min(groups, 2)
    sizes = {"num_attention_heads": few * min(heads // groups, 2), "num_key_value_heads": few}
    sizes["hidden_size"] = 64 if given else sizes["num_attention_heads"] * head_dim
    for name, value in {**NARROW, **sizes}.items():
        setattr(text, name, value)
    for part in (getattr(config, name, None) for name in getattr(config, "sub_configs", {})):
        if part is not None and part is not text:  # a tower for images, say
            for name in DEPTHS.intersection(vars(part)):
                setattr(part, name, 1)
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        made = type(model)(config).double().eval()
        numbers = torch.Generator().manual_seed(0)
        for weight in made.parameters():
            spread = 2 * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5
            weight.copy_(torch.randn(weight.shape, generator=numbers, dtype=torch.float64) * spread)
    return made


def _try(model: Any, lean: Lean, first: int) -> None:
    """Raises NotLean where a tree behind rows of different lengths, or a chain behind equal ones, gets other logits than by the own forward.

    `first`: the position of the first token.
    """
    device = model.device
    tokens = torch.arange(1, 11, device=device).view(2, 5) * 7 % lean.head.out_features
    parents = torch.tensor([[-1, 0, 0, 1, 2]], device=device).repeat(2, 1)
    tree = Draft(tokens, parents, torch.tensor([5, 5], device=device))
    for draft, lengths in ((tree, [4, 2]), (Draft.chain(tokens[:, :3]), [4, 4]), (Draft.chain(tokens[:, :1]), [3, 3])):
        own, found = (_logits(model, run, tokens, draft, lengths, first) for run in (None, lean))
        spread = float((own.max() - own.min()).clamp(min=torch.finfo(own.dtype).tiny))
        gap = float((own - found).abs().max()) / spread
        if not gap <= ROUNDING.get(model.dtype, 0.0):
            raise NotLean(f"its logits differ by {gap:.0e} of their spread in {str(model.dtype).removeprefix('torch.')}")


def _logits(model: Any, lean: Lean | None, tokens: Tensor, draft: Draft, lengths: list[int], first: int) -> Tensor:
    """Those of the draft's slots, behind rows of `lengths` tokens."""
    cache = KVCache(len(model.get_decoder().layers), len(tokens), 16, model.device)
    cache.reserve(NUM_CACHED)
    before = torch.arange(first, first + NUM_CACHED, device=model.device).expand(len(tokens), -1)
    model(input_ids=tokens[:, :NUM_CACHED], position_ids=before, past_key_values=cache, use_cache=True)
    cache.keep(lengths)
    cache.reserve(draft.num_slots)
    mask = masks.behind_prefix(masks.draft_bias(draft, model.dtype), cache.starts(), cache.longest + draft.num_slots)
    places = masks.positions(draft, cache, 0, 16).expand_as(draft.tokens) + first
    if lean is not None:
        with torch.inference_mode():  # as while decoding, where compiled code may be called
            return lean.run(draft.tokens, None if draft.num_slots == 1 else mask, places, cache, False)[0]
    return model(input_ids=draft.tokens, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True).logits
