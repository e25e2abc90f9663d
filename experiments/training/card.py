"""What the embedded pair is worth: bits per byte on held-out modules, agreement of drafter and target, and the card that states both."""

import math
import platform
from collections.abc import Iterator
from datetime import date

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.training.corpus import Corpus

CONTEXT = 1024


@torch.inference_mode()
def bits_per_byte(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> float:
    """Total code length of the texts in bits over their UTF-8 bytes; windows of the whole context that overlap by half, each token scored once."""
    nats, size = 0.0, 0
    for text in texts:
        size += len(text.encode())
        for start, window in windows_of(text, tokenizer):
            logits = model(input_ids=window[None, :-1].to(model.device), use_cache=False).logits[0].float()
            nats += F.cross_entropy(logits[start:], window[1 + start :].to(model.device), reduction="sum").item()
    return nats / math.log(2) / max(size, 1)


@torch.inference_mode()
def agreement(target: LlamaForCausalLM, drafter: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> dict[str, float]:
    """Mean over held-out positions of 1 - TV(p, q), the chance that a sampled draft token is accepted, and of equal argmax."""
    overlap = top1 = count = 0.0
    for text in texts:
        for start, window in windows_of(text, tokenizer):
            ids = window[None, :-1].to(target.device)
            p, q = (model(input_ids=ids, use_cache=False).logits[0, start:].float().softmax(-1) for model in (target, drafter))
            overlap += torch.minimum(p, q).sum().item()
            top1 += (p.argmax(-1) == q.argmax(-1)).sum().item()
            count += len(p)
    return {"agreement_1_minus_tv": overlap / count, "agreement_top1": top1 / count}


def windows_of(text: str, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[int, Tensor]]:
    """Yields (first prediction to count, window of at most CONTEXT + 1 tokens); every prediction is counted once."""
    tokens = tokenizer(text, return_tensors="pt", verbose=False).input_ids[0]
    begin = counted = 0
    while counted < len(tokens) - 1:
        window = tokens[begin : begin + CONTEXT + 1]
        yield counted - begin, window
        counted = begin + len(window) - 1
        begin += CONTEXT // 2


def card(settings: DictConfig, corpus: Corpus, pools: dict[str, list[Tensor]], sizes: dict[str, int], figures: dict[str, float]) -> str:
    """The model card, Markdown; `sizes` are parameter counts by model."""
    tokens = {name: part.steps * part.tokens_per_step for name, part in (("target", settings.target), ("drafter", settings.drafter))}
    lessons = settings.drafter.lessons
    asked = (
        f"{lessons} batches ({lessons * settings.drafter.tokens_per_step:,} tokens, the {settings.drafter.likeliest} likeliest continuations of each)"
    )
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in figures.items())
    return f"""# The embedded pair

Two Llama-shaped models that share one byte-level BPE tokenizer ({settings.vocabulary} entries), context {CONTEXT}, float16 weights.
Made by `draftproof train` with the settings in `conf/train_pair.yaml`;
{date.today()}, Python {platform.python_version()}, torch {torch.__version__}.

| | parameters | training tokens | steps |
|---|---|---|---|
| target | {sizes["target"]:,} | {tokens["target"]:,} | {settings.target.steps} |
| drafter | {sizes["drafter"]:,} | {tokens["drafter"]:,} | {settings.drafter.steps} |

**Data.** The source of the Python {platform.python_version()} standard library as installed: {len(corpus.library)} library modules
({sum(map(len, pools["library"])):,} tokens), {len(corpus.tests)} modules of its test suites, and repeat-with-an-edit examples
generated from the library modules.
{len(corpus.held_out)} library modules, chosen by the hash of their path, were held out of all three. No text of the library is stored here.
The drafter was distilled: the target was asked once for its distributions on {asked}
of the same data, of {len(pools["samples"])} continuations that the target wrote at temperatures {list(settings.sample_temperatures)},
and of spans of library text said two to four times over.

Measured on the held-out modules ({sum(len(text.encode()) for text in corpus.held_out.values()):,} bytes), on the weights as saved:

| figure | value |
|---|---|
{rows}

**Padding.** `<|endoftext|>`, id 0, opens every prompt and closes every text. `<|pad|>` stands in none: it has the id of the byte 255, which
no text in UTF-8 holds, so a `generate` without an attention mask hides nothing of a prompt. While the pair learnt, its configuration had id 0 for
the padding token.

**Use.** A test bench for decoding methods, not a coding assistant: it writes library-like Python, copies when the prompt asks for it,
and loops under greedy decoding.
Held-out modules: {", ".join(f"`{name}`" for name in corpus.held_out)}.
"""
