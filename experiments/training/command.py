"""The recipe of the embedded pair: a byte-level tokenizer, a 5M target trained on the standard library, a drafter distilled from it.

Run `draftproof train`; every number is in `conf/train_pair.yaml`. An interrupted run goes on from its last checkpoint.
"""

import json
import logging
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.parts.command import entry
from experiments.parts.target import find_device
from experiments.training.card import CONTEXT, agreement, bits_per_byte, card
from experiments.training.corpus import Corpus, edit_examples, read_corpus
from experiments.training.distil import distillation, make_lessons, own_samples, repeats
from experiments.training.trainer import Trainer, Windows
from spec.loading import load_model, load_tokenizer

log = logging.getLogger(__name__)
END, PAD = "<|endoftext|>", "<|pad|>"
UNSAID = "ÿ"  # how a byte-level vocabulary writes the byte 255, which no text in UTF-8 holds
LossOf = Callable[[Any, Any], Tensor]  # (model, batch) -> mean loss
NOT_SHAPE = ("steps", "tokens_per_step", "phases", "lessons", "likeliest")  # settings of a part that are not its model's


def train_tokenizer(documents: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; `END` opens every document and closes it, `PAD` stands in none."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(documents, trainer)
    bpe.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, bpe.token_to_id(END))])
    return PreTrainedTokenizerFast(tokenizer_object=own_padding(bpe), bos_token=END, eos_token=END, pad_token=PAD, model_max_length=CONTEXT)


def own_padding(bpe: Tokenizer) -> Tokenizer:
    """The same tokenizer with `PAD` in place of a byte that no text holds, so that the ids of texts and the size of the vocabulary stay the same."""
    made = json.loads(bpe.to_str())
    vocabulary = made["model"]["vocab"]
    vocabulary[PAD] = vocabulary.pop(UNSAID)
    bpe = Tokenizer.from_str(json.dumps(made))
    bpe.add_special_tokens([PAD])
    return bpe


def build_model(part: DictConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    shape = {str(name): value for name, value in part.items() if name not in NOT_SHAPE}
    end = tokenizer.eos_token_id  # also the padding while the model learns; the padding token gets no gradient through the embedding
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, tie_word_embeddings=True, **ids, **shape))


def cross_entropy(model: Any, windows: Tensor) -> Tensor:
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


def encode_all(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> list[Tensor]:
    encoded = tokenizer(documents, verbose=False).input_ids
    return [torch.tensor([*ids, tokenizer.eos_token_id]) for ids in encoded]


def pools_of(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, settings: DictConfig) -> dict[str, list[Tensor]]:
    edits = edit_examples(corpus.library, settings.edit_examples, settings.seed)
    return {name: encode_all(tokenizer, texts) for name, texts in {"library": corpus.library, "tests": corpus.tests, "edits": edits}.items()}


def prepared_target(settings: DictConfig, trainer: Trainer, corpus: Corpus) -> tuple[Any, PreTrainedTokenizerFast, dict[str, list[Tensor]]]:
    """The target in the precision in which it is saved, its tokenizer and the pools of tokens; trained here, or taken from `distil_from`."""
    if settings.distil_from:
        tokenizer = load_tokenizer(settings.distil_from)
        target, pools = load_model(settings.distil_from, torch.float32).to(trainer.device), pools_of(corpus, tokenizer, settings)
        return target, tokenizer, pools
    place = trainer.folder / "tokenizer"
    if not place.exists():
        train_tokenizer(corpus.library + edit_examples(corpus.library, 2000, settings.seed), settings.vocabulary).save_pretrained(place)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(place)
    pools = pools_of(corpus, tokenizer, settings)
    log.info("tokens: %s", json.dumps({name: sum(map(len, pool)) for name, pool in pools.items()}))
    target = build_model(settings.target, tokenizer).to(trainer.device)
    windows = Windows(pools, dict(settings.mixture), settings.seed)
    trainer.run("target", target, lambda step: trainer.batch("target", windows, step / settings.target.steps), cross_entropy, windows.rng)
    return target.half().float().eval(), tokenizer, pools  # the drafter learns from exactly what is saved and evaluated


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` returns, made once and read back when the recipe goes on."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)


def execute(settings: DictConfig) -> None:
    """Trains what is not there yet, and writes both models and their card."""
    device, folder = torch.device(find_device(settings.device)), Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    corpus, trainer = read_corpus(), Trainer(settings, device, folder)
    target, tokenizer, pools = prepared_target(settings, trainer, corpus)
    pools["samples"] = kept(folder / "samples.pt", lambda: own_samples(target, pools, settings))
    pools["repeats"] = repeats(pools["library"], settings.repeats, settings.seed)
    windows = Windows(pools, dict(settings.drafter_mixture), settings.seed + 1)
    asked = partial(make_lessons, target, settings.drafter, lambda progress: trainer.batch("drafter", windows, progress))
    lessons, rng = kept(folder / "lessons.pt", asked), random.Random(settings.seed + 2)
    drafter = build_model(settings.drafter, tokenizer).to(device)
    trainer.run("drafter", drafter, lambda step: rng.choice(lessons), distillation, rng)
    drafter.half().float().eval()
    held_out = list(corpus.held_out.values())
    figures = {
        "target_bits_per_byte": bits_per_byte(target, tokenizer, held_out),
        "drafter_bits_per_byte": bits_per_byte(drafter, tokenizer, held_out),
        **agreement(target, drafter, tokenizer, held_out),
    }
    for name, model in (("target", target), ("drafter", drafter)):
        model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.half().save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    sizes = {name: sum(p.numel() for p in model.parameters()) for name, model in (("target", target), ("drafter", drafter))}
    (folder / "CARD.md").write_text(card(settings, corpus, pools, sizes, figures))
    log.info("saved in %s: %s", folder, json.dumps(figures))


main = entry("train_pair", lambda config, *_: execute(config))
