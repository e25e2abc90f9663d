"""Several chains of a small assistant side by side, all from the root, one assistant forward per depth for all of them.

Source: SpecInfer (Miao et al., arXiv 2305.09781) and SpecTr (Sun et al., 2310.15141) for independent chains; Jeon et al., 2402.14160, for first
tokens drawn without replacement; Hu et al., ICLR 2025, "Towards optimal multi-draft speculative decoding", for the greedy draft set.
"""

from typing import Any

from spec.arguments import whole
from spec.assistant import Assistant
from spec.assisted import AssistedDrafter
from spec.growth import SIBLINGS, Growth
from spec.interfaces import Traits
from spec.sampling import Sampler
from spec.state import DecodeState
from spec.types import Draft


class MultiDraft(AssistedDrafter):
    """num_chains chains of num_tokens tokens; `name`, `dtype` and so on as in `draft_model`.

    siblings: how the first tokens are drawn. "independent": with replacement, so they may be equal (what `kseq` needs). "distinct": without.
    "greedy": the num_chains - 1 most probable tokens, one-hot, and one drawn from the rest (for `greedy_multi`). Further tokens continue their
    own chain. A first token does not exist where nothing is left to draw. At temperature 0 the first tokens are the most probable ones, for every
    choice, and q is left out. Raises ValueError for values outside their ranges.
    """

    def __init__(
        self,
        name: str | Any = "embedded/drafter",
        num_chains: int = 2,
        num_tokens: int | str = 4,
        siblings: str = "independent",
        dtype: str = "auto",
        device_map: Any = None,
        attn_implementation: str = "sdpa",
        runtime: str = "auto",
        store: str = "auto",
        model: Any = None,
    ):
        self.num_chains = whole("num_chains", num_chains, "at least 1 chain", 1)
        self.set_length(num_tokens, "at least 1 token (drafter=none drafts nothing)")
        if siblings not in SIBLINGS:
            raise ValueError(f"siblings={siblings!r}: choose one of {', '.join(SIBLINGS)}")
        self.siblings = siblings
        self.traits = Traits(makes_trees=num_chains > 1)
        loading = {"dtype": dtype, "device_map": device_map, "attn_implementation": attn_implementation, "store": store}
        self.assistant = Assistant(name, model, runtime=runtime, **loading)

    def propose(self, state: DecodeState, sampler: Sampler) -> Draft:
        """The chains level by level: slots 1 to K are the first tokens, slot i > K continues slot i - K."""
        self.growth = growth = Growth(self.assistant, state, sampler, width=self.num_chains)
        growth.branch(self.num_chains, self.siblings)
        for _ in range(self.num_tokens - 1):
            growth.branch(1)
        return growth.draft()
