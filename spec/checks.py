"""Checks that need no transfer from the device: on the CPU they raise ValueError, elsewhere an assertion runs with the step's other kernels."""

import torch
from torch import Tensor

from spec.types import Draft

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
