"""Checks that need no transfer from the device: on the CPU they raise ValueError, elsewhere an assertion runs with the step's other kernels."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spec.arguments import shown
from spec.tree import numbers
from spec.types import Draft, full_sizes

if TYPE_CHECKING:
    from spec.state import DecodeState

NAN_ROW = "the drafter declared a distribution with NaN in it; check its logits, or leave q out where the distribution is not known"


def refuse_where(bad: Tensor, reason: str) -> None:
    """Raises ValueError(reason) if any element of `bad` is true; on an accelerator the error comes late and ends the process's use of the device."""
    if bad.device.type != "cpu":
        torch._assert_async(~bad.any(), reason)  # pyright: ignore[reportPrivateImportUsage]
    elif bool(bad.any()):
        raise ValueError(reason)


def refuse_nan_rows(draft: Draft) -> None:
    """Raises ValueError if the probability of a drafted token is NaN, as in every row that a softmax spoiled; no token is judged by such a row."""
    if draft.q is None:
        return
    offered = draft.q.gather(2, draft.tokens[..., None]).squeeze(2)
    used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
    refuse_where(offered.isnan() & used, NAN_ROW)


def on_cuda(tensor: Tensor) -> bool:
    return tensor.device.type == "cuda"


def check_draft(draft: Any, drafter: object, state: "DecodeState", vocab_size: int) -> Draft:
    """The draft. Raises ValueError, in one line that names the drafter, for one that the target cannot score or that breaks the form of `Draft`.

    Padding is scored too, so its ids must be in the vocabulary as well. On CUDA ids, sizes and parents are an assertion that nothing waits for.
    """
    name = type(drafter).__name__
    fault = _fault_of_form(draft, state.num_rows, vocab_size)
    if fault is not None:
        raise ValueError(f"{name} {fault}")
    if on_cuda(draft.tokens):
        reason = f"{name} drafted a token id outside the vocabulary, a size or a parent that is none; run it on the CPU to see where"
        for given, allowed in _limited(draft, vocab_size):
            refuse_where(given != allowed, reason)
        return draft
    if not all(torch.equal(given, allowed) for given, allowed in _limited(draft, vocab_size)):
        raise ValueError(f"{name} {_fault_of_values(draft, vocab_size)}")
    for row, (root, last, done) in enumerate(zip(draft.tokens[:, 0].tolist(), state.roots, state.done, strict=True)):
        if root != last and not done:
            raise ValueError(f"{name} put token id {root} into slot 0 of row {row}; slot 0 is the row's last committed token, here {last}")
    return draft


def _fault_of_form(draft: Any, num_rows: int, vocab_size: int) -> str | None:
    """What is wrong with types and shapes; it looks at no numbers."""
    if not isinstance(draft, Draft):
        return f"proposed {shown(draft)}; give a Draft, for example Draft.chain(tokens)"
    tokens, q = draft.tokens, draft.q
    if tokens.ndim != 2 or len(tokens) != num_rows or tokens.shape[1] == 0:
        return f"drafted tokens of shape {list(tokens.shape)}; give [{num_rows}, N]: one row for each of the batch, with the root in slot 0"
    for what, given, shape in (("tokens", tokens, tokens.shape), ("parents", draft.parents, tokens.shape), ("sizes", draft.sizes, tokens.shape[:1])):
        if given.dtype != torch.int64 or given.shape != shape:
            return f"drafted {what} of dtype {given.dtype} and shape {list(given.shape)}; give int64 and {list(shape)}"
    if q is not None and (q.shape != (*tokens.shape, vocab_size) or not q.is_floating_point()):
        return (
            f"declared q of dtype {q.dtype} and shape {list(q.shape)}; give {[*tokens.shape, vocab_size]}: for each slot the probabilities of all "
            "ids of the target"
        )
    return None


def _limited(draft: Draft, vocab_size: int) -> list[tuple[Tensor, Tensor]]:
    """Ids, sizes, the ids of scratch slots, and parents behind the root, each with the nearest numbers that are allowed."""
    found = [(draft.tokens, draft.tokens.clamp(0, vocab_size - 1))]
    if draft.sizes is not full_sizes(*draft.tokens.shape, draft.tokens.device):  # what `Draft.chain` gives is right
        found.append((draft.sizes, draft.sizes.clamp(1, draft.num_slots)))
    if draft.scratch is not None:
        found.append((draft.scratch.tokens, draft.scratch.tokens.clamp(0, vocab_size - 1)))
    if not draft.is_chain:
        parents = draft.parents[:, 1:]
        found.append((parents, parents.clamp(min=0).minimum(numbers(draft.num_slots - 1, parents.device))))
    return found


def _fault_of_values(draft: Draft, vocab_size: int) -> str:
    """Where the first wrong number of a draft on the CPU stands; one of a used slot, if there is any."""
    place = next(index for index, (given, allowed) in enumerate(_limited(draft, vocab_size)) if not torch.equal(given, allowed))
    given, allowed = _limited(draft, vocab_size)[place]
    bad = given != allowed
    if given is draft.sizes:
        row = int(bad.nonzero()[0])
        return f"gave row {row} the size {int(given[row])}; sizes count the slots in use, the root included: 1 to {draft.num_slots}"
    if draft.scratch is not None and given is draft.scratch.tokens:
        row, slot = bad.nonzero()[0].tolist()
        return f"put token id {int(given[row, slot])} into scratch (row {row}, scratch slot {slot}); the vocabulary is 0 to {vocab_size - 1}"
    if given is draft.tokens:
        used = bad & (draft.slots < draft.sizes[:, None])
        row, slot = (used if used.any() else bad).nonzero()[0].tolist()
        remedy = "" if used.any() else "; the slot is padding, which is scored as well: fill it with the root"
        return f"drafted token id {int(given[row, slot])} (row {row}, slot {slot}); the vocabulary is 0 to {vocab_size - 1}{remedy}"
    row, slot = bad.nonzero()[0].tolist()
    return f"gave slot {slot + 1} of row {row} the parent {int(given[row, slot])}; a parent is an earlier slot, 0 to {slot} (0 for padding)"
