"""Plain decoding: a draft of the root alone, through the same loop as everything else."""

import torch

from spec.interfaces import Drafter
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class NoDraft(Drafter):
    """Drafts nothing; every step emits one token. The baseline of every comparison."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return Draft.chain(torch.tensor(state.roots, device=state.device)[:, None])
