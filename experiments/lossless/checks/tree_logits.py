"""Logits of a tree after a ragged cache against a plain forward over each path alone: masks, positions and the gathering of kept slots."""

import torch
from torch import Tensor

from experiments.lossless.subject import FAIL, PASS, Check, Effort, Subject
from spec.cache import KVCache
from spec.model import CausalLM
from spec.types import Draft

NAME = "tree logits"
PARENTS = [-1, 0, 0, 1, 1, 2, 5, 3]
KEPT = [0, 2, 5]
ULPS = {2: 20.0, 4: 500.0, 8: 5e4}  # bytes of the dtype -> tolerated rounding, in its epsilon times the largest logit


@torch.inference_mode()
def check_tree_logits(subject: Subject, effort: Effort) -> Check:
    """Two trees in a row; between them a branch that is not first in the cache is kept."""
    target, generator = subject.target, torch.Generator().manual_seed(0)
    rows = [list(prompt)[: max(len(prompt) - index, 1)] for index, prompt in enumerate([*subject.prompts, *subject.prompts][:3])]  # lengths differ
    cache = target.new_cache(len(rows), max(map(len, rows)) + 4 * len(PARENTS))
    target.extend(cache, [row[:-1] for row in rows])
    worst = scale = 0.0
    for _ in range(2):
        tokens = torch.randint(target.vocab_size, (len(rows), len(PARENTS)), generator=generator)
        tokens[:, 0] = torch.tensor([row[-1] for row in rows])
        draft = tree_of(tokens, target)
        logits = target.score(draft, cache).logits
        for index, row in enumerate(rows):
            for slot in range(len(PARENTS)):
                alone = logits_after(target, [*row, *draft.path(index, slot)])
                worst = max(worst, (logits[index, slot] - alone).abs().nan_to_num(0.0).max().item())
                scale = max(scale, alone[alone.isfinite()].abs().max().item(), 1.0)
        keep(target, cache, len(rows))
        rows = [[*row, *draft.path(index, KEPT[-1]), int(tokens[index, 0])] for index, row in enumerate(rows)]
    tolerance = ULPS[target.dtype.itemsize] * torch.finfo(target.dtype).eps * scale
    found = f"largest difference {worst:.2g} between a tree's logits and those of its paths alone; rounding may make {tolerance:.2g}"
    return Check(NAME, PASS if worst <= tolerance else FAIL, found, statistic=worst)


def tree_of(tokens: Tensor, target: CausalLM) -> Draft:
    """Tokens [B, N] as a tree whose parents are PARENTS."""
    parents = torch.tensor(PARENTS, device=target.device).expand(len(tokens), -1)
    sizes = torch.full((len(tokens),), len(PARENTS), device=target.device)
    return Draft(tokens.to(target.device), parents, sizes)


def keep(target: CausalLM, cache: KVCache, num_rows: int) -> None:
    path = torch.tensor(KEPT, device=target.device).expand(num_rows, -1)
    cache.keep([len(KEPT)] * num_rows, path)


def logits_after(target: CausalLM, tokens: list[int]) -> Tensor:
    """The model's own logits after `tokens`, without a cache; [V]."""
    return target.model(input_ids=torch.tensor([tokens], device=target.device), use_cache=False).logits[0, -1]
