"""Tiny random pairs with few tokens, built in memory: their joint distributions can be computed outright, and a sample costs milliseconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 256
TARGET_TOKENS = ("a", "b", "ab", "bb")
STRANGER_TOKENS = ("b", "ba", "a", "aa", "bb")  # a, b and bb are common; the order is another
SPREAD = 0.4  # of the weights: distributions come out far from uniform and depend on the whole prefix


def toy_llama(vocabulary: int, seed: int) -> Any:
    """A Llama of one layer with random float32 weights and no EOS."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=CONTEXT,
            initializer_range=SPREAD,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
            tie_word_embeddings=False,
        )
        model = LlamaForCausalLM(config).eval()
    model.generation_config = GenerationConfig()
    return model


@torch.no_grad()
def resemble(model: Any, other: Any, rows: Sequence[int | None], weight: float = 0.92) -> None:
    """Moves a model's weights towards another's; `rows` gives, for each of the model's tokens, the other's token that it is, or None."""
    theirs = other.state_dict()
    own = [index for index, row in enumerate(rows) if row is not None]
    for name, parameter in model.named_parameters():
        source, place = theirs[name], ...
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            source, place = source[[row for row in rows if row is not None]], own
        parameter[place] = weight * source + (1 - weight**2) ** 0.5 * parameter[place]


def toy_tokenizer(tokens: Sequence[str], listed: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of exactly these tokens, ids in that order: single characters, and pairs that merge in the order given.

    `get_vocab` of a fast tokenizer answers in the order of a hash map, another one in every process; here it is `listed`, so that runs repeat.
    """
    merges = [(token[0], token[1]) for token in tokens if len(token) == 2]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
    vocabulary = {token: tokens.index(token) for token in listed or tokens}
    fast.get_vocab = lambda: dict(vocabulary)
    return fast


@dataclass(frozen=True)
class ToyPair:
    """A target, an assistant of the same tokens, and a stranger: an assistant of other tokens over the same text. Both resemble the target."""

    target: Any
    assistant: Any
    stranger: Any
    prompt: tuple[int, ...] = (0, 2, 1, 3, 0, 2)  # repeats itself, so that lookups find something


def toy_pair(seed: int = 0, dtype: torch.dtype = torch.float32) -> ToyPair:
    """The pair for a seed, the same in every process; weights are drawn in float32 and then rounded to `dtype`."""
    target, assistant = (toy_llama(len(TARGET_TOKENS), 3 * seed + which) for which in (0, 1))
    stranger = toy_llama(len(STRANGER_TOKENS), 3 * seed + 2)
    resemble(assistant, target, range(len(TARGET_TOKENS)))
    resemble(stranger, target, [TARGET_TOKENS.index(token) if token in TARGET_TOKENS else None for token in STRANGER_TOKENS])
    return ToyPair(*(model.to(dtype) for model in (target, assistant, stranger)))
