"""The loop of this repository as a peer: the control among the others."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.parts.peers.interface import PeerResult
from spec.decode import decode
from spec.interfaces import Drafter, Verifier
from spec.model import CausalLM
from spec.sampling import Sampler
from spec.state import Limits


@dataclass(frozen=True)
class Ours:
    """`decode` with the given parts, `batch_size` prompts together; a verifier that changes the law is let through, since a table will show it."""

    target: CausalLM
    drafter: Drafter
    verifier: Verifier
    name: str = "ours"
    batch_size: int = 1

    def generate(self, prompts: Sequence[Sequence[int]], *, sampler: Sampler, limits: Limits) -> PeerResult:
        """Continues the prompts; the noise of prompt i is keyed by i, whatever the batch."""
        result = PeerResult([], [], [], [])
        for start in range(0, len(prompts), self.batch_size):
            rows = prompts[start : start + self.batch_size]
            began = time.perf_counter()
            made = decode(
                self.target,
                self.drafter,
                self.verifier,
                rows,
                sampler=sampler,
                limits=limits,
                allow_lossy=True,
                sequence_ids=range(start, start + len(rows)),
            )
            result.sequences.extend(sequence.tolist() for sequence in made.sequences)
            result.seconds.extend([(time.perf_counter() - began) / len(rows)] * len(rows))
            result.prompt_lengths.extend(made.prompt_lengths)
            result.target_forwards.extend(made.stats.row(row).num_steps for row in range(len(rows)))
        return result
