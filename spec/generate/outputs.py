"""What `generate` returns: the sequences as it pads them, and, where asked for, the scores of every emitted token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.utils import GenerateDecoderOnlyOutput

from spec.arguments import one_or_more
from spec.decode import Generation
from spec.stats import GenerationStats


@dataclass
class SpeculativeOutput(GenerateDecoderOnlyOutput):
    """transformers' own output with `stats` beside it. Attentions, hidden states and the cache are always None.

    `scores` and `logits` have an entry [B, V] for every new token, in float32. Where a row has ended before, the padding token has 0 and all others
    -inf, so that its log-probability is 0 and those of a sequence add up.
    """

    stats: GenerationStats | None = None


def wanted(config: GenerationConfig) -> list[str]:
    """Which of "scores" and "logits" the caller wants."""
    return [name for name in ("scores", "logits") if config.return_dict_in_generate and getattr(config, f"output_{name}", False)]


def output(input_ids: Tensor, result: Generation, config: GenerationConfig) -> Tensor | SpeculativeOutput:
    """Sequences [B, T]: the prompts as they were given, the new tokens, padding; or a `SpeculativeOutput`."""
    new, pad = [result.new_tokens(row) for row in range(len(result.sequences))], _pad_id(config)
    longest = max(map(len, new))
    padded = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in new], device=input_ids.device)
    sequences = torch.cat([input_ids, padded], 1)
    if not config.return_dict_in_generate:
        return sequences
    kept = {name: None if rows is None else _by_token(rows, longest, pad) for name, rows in (("scores", result.scores), ("logits", result.logits))}
    return SpeculativeOutput(sequences, stats=result.stats, **kept)  # pyright: ignore[reportArgumentType]


def _by_token(rows: Sequence[Tensor], longest: int, pad: int) -> tuple[Tensor, ...]:
    """One tensor [B, V] per new token from one [new tokens, V] per row."""
    width = rows[0].shape[1]
    after_end = torch.full((width,), -torch.inf, device=rows[0].device)
    if pad < width:
        after_end[pad] = 0.0
    return tuple(torch.stack([row[place] if place < len(row) else after_end for row in rows]).float() for place in range(longest))


def _pad_id(config: GenerationConfig) -> int:
    given = [number for name in ("pad_token_id", "eos_token_id") for number in one_or_more(name, getattr(config, name), "token ids")]
    return given[0] if given else 0
