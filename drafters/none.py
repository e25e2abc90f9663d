"""Plain decoding: a draft of the root alone, through the same loop as everything else."""

from spec.interfaces import Drafter
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.tree import on_device
from spec.types import Draft


class NoDraft(Drafter):
    """Drafts nothing; every step emits one token. The baseline of every comparison."""

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        return Draft.chain(on_device(state.roots, state.device)[:, None])
