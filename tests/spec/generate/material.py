"""What the tests of the door share: a padded batch, a tokenizer of forty words, and `generate` with and without the door."""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from spec import speculative
from tests.tiny import VOCABULARY

PADDED = torch.tensor([[0, 0, 0, 5, 9, 13], [5, 9, 13, 5, 9, 13], [0, 2, 30, 30, 8, 17]])
MASK = torch.tensor([[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]])


def letters() -> PreTrainedTokenizerFast:
    """Token i is one character."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:VOCABULARY]
    plain = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token=alphabet[0], pad_token=alphabet[0])


def words() -> PreTrainedTokenizerFast:
    """Token i is the word "w<i>"."""
    plain = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCABULARY)}, unk_token="w0"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="w0", pad_token="w0", unk_token="w0")


def call(model: Any, **options: Any) -> Any:
    """`generate` on the padded batch, greedy unless `options` say otherwise."""
    ids, mask = options.pop("ids", PADDED), options.pop("mask", MASK)
    arguments = {"attention_mask": mask, "max_new_tokens": 16, "do_sample": False, "pad_token_id": 0, **options}
    return model.generate(ids, **arguments)


def both(model: Any, door: Any = None, **options: Any) -> tuple[Any, Any]:
    """With the door and without it, on equal arguments."""
    return call(model, **options, custom_generate=door or speculative("prompt_lookup")), call(model, **options)


class Collector:
    """A streamer that remembers."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.chunks.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended = True
