"""Checks that need no transfer from the device: on the CPU they raise ValueError, elsewhere an assertion runs with the step's other kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spec.arguments import as_whole, shown
from spec.tree import chain_parents, numbers
from spec.types import Draft, Scratch, full_sizes

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


@dataclass(frozen=True)
class Limited:
    """Numbers of a draft, and the nearest ones that are allowed."""

    what: str
    given: Tensor
    allowed: Tensor


def check_draft(draft: Any, drafter: object, state: "DecodeState", vocab_size: int) -> Draft:
    """The draft. Raises ValueError, in one line that names the drafter, for one that the target cannot score or that breaks the form of `Draft`.

    Padding is scored too, so its ids must be in the vocabulary as well. Sizes and parents that `Draft.chain` made itself are right and not looked
    at. On CUDA the numbers are an assertion that nothing waits for.
    """
    name = type(drafter).__name__
    fault = _fault_of_form(draft, state, vocab_size)
    if fault is not None:
        raise ValueError(f"{name} {fault}")
    limited = _limited(draft, vocab_size)
    if on_cuda(draft.tokens):
        reason = f"{name} drafted a token id outside the vocabulary, a size, parent or width that is none; run it on the CPU to see where"
        for numbers_of in limited:
            refuse_where(numbers_of.given != numbers_of.allowed, reason)
        return draft
    for numbers_of in limited:
        if not torch.equal(numbers_of.given, numbers_of.allowed):
            raise ValueError(f"{name} {_fault_of_values(draft, vocab_size, numbers_of)}")
    for row, (root, last, done) in enumerate(zip(draft.tokens[:, 0].tolist(), state.roots, state.done, strict=True)):
        if root != last and not done:
            raise ValueError(f"{name} put token id {root} into slot 0 of row {row}; slot 0 is the row's last committed token, here {last}")
    return draft


def _fault_of_form(draft: Any, state: "DecodeState", vocab_size: int) -> str | None:
    """What is wrong with types, devices and shapes; it looks at no numbers."""
    if not isinstance(draft, Draft):
        return f"proposed {shown(draft)}; give a Draft, for example Draft.chain(tokens)"
    tokens, num_rows = draft.tokens, state.num_rows
    fault = _no_tensor("drafted tokens", tokens, state.device)
    if fault is not None:
        return fault
    if tokens.ndim != 2 or len(tokens) != num_rows or tokens.shape[1] == 0:
        return f"drafted tokens of shape {list(tokens.shape)}; give [{num_rows}, N]: one row for each of the batch, with the root in slot 0"
    for what, given, shape in (("tokens", tokens, tokens.shape), ("parents", draft.parents, tokens.shape), ("sizes", draft.sizes, tokens.shape[:1])):
        fault = _another_form(f"drafted {what}", given, shape, state.device)
        if fault is not None:
            return fault
    if draft.width is not None and (isinstance(draft.width, Tensor) or as_whole(draft.width) is None or draft.width < 1):
        return f"gave width={shown(draft.width)}; give the largest number of siblings, a whole number of at least 1 (1 for a chain), or None"
    return _fault_of_q(draft, vocab_size) or _fault_of_scratch(draft)


def _fault_of_q(draft: Draft, vocab_size: int) -> str | None:
    if draft.q is None:
        return None
    q, shape = draft.q, (*draft.tokens.shape, vocab_size)
    fault = _no_tensor("declared q", q, draft.tokens.device)
    if fault is None and (q.shape != shape or not q.is_floating_point()):
        given = f"declared q of dtype {q.dtype} and shape {list(q.shape)}"
        return f"{given}; give {list(shape)} of floats: for each slot the probabilities of all ids of the target"
    return fault


def _fault_of_scratch(draft: Draft) -> str | None:
    scratch, (num_rows, num_slots), device = draft.scratch, draft.tokens.shape, draft.tokens.device
    if scratch is None:
        return None
    if not isinstance(scratch, Scratch):
        return f"gave scratch={shown(scratch)}; give a Scratch or None"
    fault = _no_tensor("drafted scratch.tokens", scratch.tokens, device)
    if fault is not None:
        return fault
    if scratch.tokens.ndim != 2 or len(scratch.tokens) != num_rows:
        return f"drafted scratch.tokens of shape {list(scratch.tokens.shape)}; give [{num_rows}, M]: one row for each of the batch"
    shape = scratch.tokens.shape
    return (
        _another_form("drafted scratch.tokens", scratch.tokens, shape, device)
        or _another_form("drafted scratch.positions", scratch.positions, shape, device)
        or _another_form("drafted scratch.visible", scratch.visible, (*shape, num_slots + shape[1]), device, torch.bool)
    )


def _another_form(what: str, given: Any, shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.int64) -> str | None:
    fault = _no_tensor(what, given, device)
    if fault is None and (given.dtype != dtype or given.shape != shape):
        return f"{what} of dtype {given.dtype} and shape {list(given.shape)}; give {str(dtype).removeprefix('torch.')} and {list(shape)}"
    return fault


def _no_tensor(what: str, given: Any, device: torch.device) -> str | None:
    """What keeps `given` from being a dense tensor on the device."""
    if not isinstance(given, Tensor):
        return f"{what} of the type {type(given).__name__}; give a tensor on {device}"
    if given.layout != torch.strided or given.is_nested:
        return f"{what} as a {'nested' if given.is_nested else 'sparse'} tensor; give a dense one, as by .to_dense()"
    if given.device != device:
        return f"{what} on the device {given.device}; give a tensor on {device}, where the target is"
    return None


def _limited(draft: Draft, vocab_size: int) -> list[Limited]:
    """Ids, sizes, the numbers of scratch slots, parents, and numbers of siblings."""
    found = [Limited("tokens", draft.tokens, draft.tokens.clamp(0, vocab_size - 1))]
    if draft.sizes is not full_sizes(*draft.tokens.shape, draft.tokens.device):
        found.append(Limited("sizes", draft.sizes, draft.sizes.clamp(1, draft.num_slots)))
    if draft.scratch is not None:
        found.append(Limited("scratch tokens", draft.scratch.tokens, draft.scratch.tokens.clamp(0, vocab_size - 1)))
        found.append(Limited("scratch positions", draft.scratch.positions, draft.scratch.positions.clamp(min=0)))
    if draft.parents is chain_parents(*draft.tokens.shape, draft.tokens.device) or (draft.tables is not None and fits_width(draft)):
        return found
    before = numbers(draft.num_slots, draft.tokens.device) - 1
    found.append(Limited("parents", draft.parents, draft.parents.clamp(min=0).minimum(before)))
    used = (draft.slots > 0) & (draft.slots < draft.sizes[:, None])
    if draft.is_chain:
        found.append(Limited("chain", draft.parents, torch.where(used, before, draft.parents)))
    elif draft.width is not None:
        counts = ((draft.parents[:, None] == draft.slots[..., None]) & used[:, None]).sum(-1)  # [B, N] children of each slot
        found.append(Limited("width", counts, counts.clamp(max=draft.width)))
    return found


def fits_width(draft: Draft) -> bool:
    """Whether parents that `Draft.of_shape` made are those of a tree of the draft's width."""
    shape = draft.shape or ()
    counts = [shape.count(parent) for parent in set(shape[1:])]
    in_order = shape[:1] == (-1,) and all(0 <= parent < slot for slot, parent in enumerate(shape[1:], 1))
    return in_order and not draft.is_chain and max(counts, default=0) <= (draft.width or len(shape))


def _fault_of_values(draft: Draft, vocab_size: int, wrong: Limited) -> str:
    """Where the first wrong number of a draft on the CPU stands; one of a used slot, if there is any."""
    given, bad = wrong.given, wrong.given != wrong.allowed
    used = bad & (draft.slots < draft.sizes[:, None]) if wrong.what in ("tokens", "parents") else bad
    row, *slots = (used if used.any() else bad).nonzero()[0].tolist()
    number, slot = int(given[(row, *slots)]), slots[0] if slots else 0
    match wrong.what:
        case "sizes":
            return f"gave row {row} the size {number}; sizes count the slots in use, the root included: 1 to {draft.num_slots}"
        case "scratch tokens":
            return f"put token id {number} into scratch (row {row}, scratch slot {slot}); the vocabulary is 0 to {vocab_size - 1}"
        case "scratch positions":
            return f"gave scratch slot {slot} of row {row} the position {number}; positions count from the root's, which is 0"
        case "tokens":
            remedy = "" if used.any() else "; the slot is padding, which is scored as well: fill it with the root"
            return f"drafted token id {number} (row {row}, slot {slot}); the vocabulary is 0 to {vocab_size - 1}{remedy}"
        case "chain":
            return f"gave slot {slot} of row {row} the parent {number} and width=1; in a chain it is {slot - 1}: leave width out for a tree"
        case "width":
            return f"gave slot {slot} of row {row} {number} children and width={draft.width}; width is the largest number of siblings, or None"
    if slot == 0:
        return f"gave the root (slot 0) of row {row} the parent {number}; the root has none: -1"
    return f"gave slot {slot} of row {row} the parent {number}; a parent is an earlier slot, 0 to {slot - 1} (0 for padding)"
