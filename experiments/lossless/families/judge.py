"""One tiny model on trial: is what the loop emits the model's own, is the model refused with a line, or is something wrong?"""

import copy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from drafters.draft_model import DraftModel
from drafters.draft_tree import DraftTree
from drafters.lookahead import Lookahead
from drafters.none import NoDraft
from drafters.prompt_lookup import PromptLookup
from experiments.lossless.families.tiny import CONTEXT, NotBuiltError, build, one_line
from spec import CausalLM, Draft, Drafter, Limits, Sampler, Verifier, decode
from spec.rows import CHAINS_ONLY, NO_FIXED_SHAPES
from verifiers.coupled import Coupled
from verifiers.recursive import Recursive

IDENTICAL, CHAINS, REFUSED, NOT_BUILT, WRONG, CRASH = "identical", "chains only", "refused", "not built", "wrong", "crash"
PROMPTS = [[5, 9, 13, 5, 9, 13, 5, 9], [3, 7], [17, 2, 30, 30, 30, 8, 17, 2, 30, 1, 33, 4]]  # rows of one batch
TREE = [-1, 0, 0, 1, 2, 4, 4]  # parents of the slots of one draft
LEAVES = ([0, 1, 3], [0, 2, 4, 5], [0, 2, 4, 6])
LARGEST_GAP = 1e-4  # of a logit; many models compute parts in float32 whatever the dtype of their weights, which makes 1e-6 here
SMALLEST_REACH = 1e-3


@dataclass(frozen=True)
class Finding:
    """What became of one model."""

    verdict: str  # identical, chains only, refused, not built, wrong or crash
    why: str = ""  # our own line, or what went wrong
    gap: float | None = None  # the largest difference of a logit of a draft after a ragged batch from the model's own, without cache


def find(model_type: str, settings: dict[str, Any] | None = None, context: int | None = None) -> Finding:
    """Builds a tiny model of a type and tries it."""
    try:
        model = build(model_type, settings)
    except NotBuiltError as reason:
        return Finding(NOT_BUILT, str(reason))
    return judge(model, context)


def judge(model: Any, context: int | None = None) -> Finding:
    """`context` as in `CausalLM`. Raises nothing: what breaks is the verdict."""
    try:
        target = CausalLM(model, context)
    except ValueError as refusal:
        return Finding(REFUSED, str(refusal))
    except Exception as error:
        return Finding(CRASH, one_line(error))
    try:
        wanted = [generated(model, prompt, target.context) for prompt in PROMPTS]
        reach = far_reach(model)
    except Exception as error:  # not our doing
        return Finding(NOT_BUILT, f"transformers' own generate fails on it: {one_line(error)}")
    if reach < SMALLEST_REACH:
        return Finding(NOT_BUILT, f"the tiny model does not read its prompt: another first token moves no logit by more than {reach:.0e}")
    try:
        return compared(target, model, wanted)
    except Exception as error:
        return Finding(CRASH, one_line(error))


def compared(target: CausalLM, model: Any, wanted: list[list[int]]) -> Finding:
    """Greedy texts against `generate`'s, sampled texts against plain decoding alone, logits of a tree against a forward without cache.

    A model that serves chains only gets chains; that it refuses the rest in our words is part of its verdict.
    """
    gap = forward_gap(target, model)
    assistant = CausalLM(noisy(model), target.context)
    chains: dict[str, Drafter] = {"plain": NoDraft(), "prompt lookup": PromptLookup(), "draft chain": DraftModel(model=assistant)}
    branching: dict[str, Drafter] = {
        "draft tree": DraftTree(model=assistant, widths=(2, 2, 1)),
        "lookahead": Lookahead(window=3, ngram=3, guesses=3),
    }
    drafters = chains if target.chains_only else {**chains, **branching}
    off = [name for name, drafter in drafters.items() if texts(target, drafter, Recursive(), 0.0) != wanted]
    if target.chains_only:
        off += [f"{name} is not refused" for name, drafter in branching.items() if not is_refused(target, drafter)]
        off += [f"fixed shapes are not refused: {said}" for said in fixed_shapes_of_chains(target)]
    else:
        shaped = fixed_shapes(target)
        off += [f"{name} over fixed shapes" for name in ("plain", "draft tree") if texts(shaped, drafters[name], Recursive(), 0.0) != wanted]
    alone = texts(target, NoDraft(), Coupled(), 1.0, batch_size=1)
    sampled = [name for name in ("plain", "draft chain", "draft tree") if name in drafters]
    off += [f"sampled {name}" for name in sampled if texts(target, drafters[name], Coupled(), 1.0) != alone]
    if off:
        return Finding(WRONG, f"other texts: {', '.join(off)}; logits differ by up to {gap:.1e}", gap)
    if gap >= LARGEST_GAP:
        return Finding(WRONG, f"logits of a draft differ by up to {gap:.1e}", gap)
    return Finding(CHAINS, CHAINS_ONLY.format(name=type(model).__name__), gap) if target.chains_only else Finding(IDENTICAL, "", gap)


def is_refused(target: CausalLM, drafter: Drafter) -> bool:
    """Whether a drafter that branches is refused with the line for models that serve chains only."""
    try:
        texts(target, drafter, Recursive(), 0.0)
    except ValueError as refusal:
        return str(refusal) == CHAINS_ONLY.format(name=type(target.model).__name__)
    return False


def fixed_shapes_of_chains(target: CausalLM) -> list[str]:
    """What is said instead of the refusal of fixed shapes; empty where they are refused."""
    said = []
    for kind in ("compile", "graphs"):
        line = NO_FIXED_SHAPES.format(runtime=kind, name=type(target.model).__name__)
        try:
            CausalLM(target.model, target.context, kind)
            said.append(f"runtime={kind} is taken")
        except ValueError as refusal:
            said += [] if str(refusal) == line else [str(refusal)]
    return said


def fixed_shapes(target: CausalLM) -> CausalLM:
    """The same model with caches and forwards of fixed shapes, as they are compiled and captured, but run by plain calls."""
    shaped = CausalLM(target.model, target.context, "compile")
    assert shaped.runtime is not None
    shaped.runtime.kind = "hf"
    return shaped


def generated(model: Any, prompt: list[int], context: int) -> list[int]:
    """What `generate` adds to a prompt alone, at temperature 0."""
    ids = torch.tensor([prompt])
    options = {"max_new_tokens": num_tokens(context), "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt) :].tolist()


def num_tokens(context: int) -> int:
    """New tokens such that the longest text ends with the context."""
    return min(context, CONTEXT) - max(map(len, PROMPTS))


def texts(target: CausalLM, drafter: Drafter, verifier: Verifier, temperature: float, batch_size: int | None = None) -> list[list[int]]:
    """The same through the loop, all prompts in one ragged batch unless told otherwise."""
    sampler, limits = Sampler(temperature, seed=5), Limits(num_tokens(target.context))
    result = decode(target, drafter, verifier, PROMPTS, sampler=sampler, limits=limits, batch_size=batch_size)
    return [result.new_tokens(row) for row in range(len(PROMPTS))]


@torch.inference_mode()
def forward_gap(target: CausalLM, model: Any) -> float:
    """Logits after every slot of a tree that follows rows of different lengths, against those after the same tokens alone, without cache or draft.

    Where only chains are served, each path of the tree is a chain behind the same rows.
    """
    state = target.prefill(PROMPTS)
    tokens = torch.tensor([[prompt[-1], 4, 6, 8, 10, 12, 14] for prompt in PROMPTS])
    draft, worst = Draft(tokens, torch.tensor([TREE] * len(PROMPTS)), torch.tensor([len(TREE)] * len(PROMPTS))), 0.0
    whole = None if target.chains_only else target.score(draft, state.cache).logits
    for path in LEAVES:
        scored = target.score(Draft.chain(tokens[:, path]), state.cache).logits if whole is None else whole[:, path]
        for row, prompt in enumerate(PROMPTS):
            plain = alone(model, [*prompt[:-1], *tokens[row, path].tolist()])[len(prompt) - 1 :]
            worst = max(worst, float((plain - scored[row]).abs().max()))
    return worst


@torch.inference_mode()
def far_reach(model: Any) -> float:
    """By how much the last logits change when the first of twelve tokens changes: if they do not, this comparison shows nothing."""
    first, other = PROMPTS[2], [11, *PROMPTS[2][1:]]
    return float((alone(model, first)[-1] - alone(model, other)[-1]).abs().max())


def alone(model: Any, row: list[int]) -> Tensor:
    """Logits after every token of one row, [T, V], by the model's own forward; positions as `generate` gives them, to a class that takes any."""
    ids = torch.tensor([row])
    places = {"position_ids": torch.arange(len(row))[None]} if "position_ids" in signature(model.forward).parameters else {}
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **places).logits[0]


@torch.no_grad()
def noisy(model: Any) -> Any:
    """A drafter that is often but not always right: the model with noise on its weights."""
    drafter, generator = copy.deepcopy(model), torch.Generator().manual_seed(2)
    for weights in drafter.parameters():
        if weights.is_floating_point() and weights.numel() > 1:
            weights.add_(0.05 * weights.std() * torch.randn(weights.shape, generator=generator, dtype=torch.float64))
    return drafter
