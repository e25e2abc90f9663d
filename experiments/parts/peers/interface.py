"""What a peer is: a named way to continue prompts whose target forwards are counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from spec.sampling import Sampler
from spec.state import Limits


@dataclass(frozen=True)
class PeerResult:
    """What a peer made of the prompts; every list has an entry per prompt.

    A target forward counts for every prompt in its batch that it gave a token to. The first one of a peer of `generate` reads the prompt as well;
    ours reads the prompt before and does not count that. Either way every counted forward emits at least one token.
    """

    sequences: list[list[int]]  # ids, prompt included, cut after the first EOS
    prompt_lengths: list[int]
    target_forwards: list[int]
    seconds: list[float]  # wall clock; a batch's is divided evenly among its prompts

    def new_tokens(self, index: int = 0) -> list[int]:
        return self.sequences[index][self.prompt_lengths[index] :]

    @property
    def num_tokens(self) -> int:
        """Emitted tokens of all prompts."""
        return sum(map(len, self.sequences)) - sum(self.prompt_lengths)

    @property
    def tokens_per_step(self) -> float:
        """Emitted tokens per target forward; 1 for plain decoding."""
        return self.num_tokens / sum(self.target_forwards)


class Peer(Protocol):
    """`name` stands in tables. `generate` continues every prompt as the sampler and the limits say, all randomness from the sampler's seed.

    The same prompt given twice is continued independently. Raises ValueError for settings that the peer cannot honour; nothing is ignored silently.
    """

    @property
    def name(self) -> str: ...

    def generate(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits) -> PeerResult: ...
