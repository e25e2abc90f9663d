"""The recipe of the embedded pair: a byte-level tokenizer, a 5M target trained on the standard library, a drafter distilled from it.

Run `python -m experiments.train_pair`; every number is in `conf/train_pair.yaml`. An interrupted run goes on from its last checkpoint.
"""

import json
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.corpus import Corpus, edit_examples, read_corpus
from experiments.distil import distillation, make_lessons, own_samples, repeats
from experiments.muon import Muon32
from experiments.pair_card import CONTEXT, agreement, bits_per_byte, card
from spec.model import load_model, resolve_name

log = logging.getLogger(__name__)
END, PAD = "<|endoftext|>", "<|pad|>"
UNSAID = "ÿ"  # how a byte-level vocabulary writes the byte 255, which no text in UTF-8 holds
LossOf = Callable[[Any, Any], Tensor]  # (model, what a batch is) -> mean loss
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
    """The same tokenizer with `PAD` in the place of a byte that is never said, so that the ids of texts and the size of the vocabulary stay."""
    made = json.loads(bpe.to_str())
    vocabulary = made["model"]["vocab"]
    vocabulary[PAD] = vocabulary.pop(UNSAID)
    bpe = Tokenizer.from_str(json.dumps(made))
    bpe.add_special_tokens([PAD])
    return bpe


class Windows:
    """Endless batches of token windows: documents are laid end to end, from the pool that lags most behind its share of the tokens."""

    def __init__(self, pools: dict[str, list[Tensor]], shares: dict[str, float], seed: int):
        self.pools, self.shares, self.rng = pools, shares, random.Random(seed)
        self.buffer = torch.empty(0, dtype=torch.int64)
        self.used = dict.fromkeys(shares, 0)

    def batch(self, rows: int, length: int) -> Tensor:
        """Returns [rows, length + 1] token ids."""
        need = rows * (length + 1)
        parts, have = [self.buffer], len(self.buffer)
        while have < need:
            name = min(self.shares, key=lambda pool: self.used[pool] / self.shares[pool])
            document = self.rng.choice(self.pools[name])
            if name != "edits" and len(document) > 3 * CONTEXT:  # a slice, so that one long module does not fill a batch
                start = self.rng.randrange(len(document) - 2 * CONTEXT)
                document = document[start : start + 2 * CONTEXT]
            parts.append(document)
            self.used[name] += len(document)
            have += len(document)
        stream = torch.cat(parts)
        self.buffer = stream[need:]
        return stream[:need].view(rows, length + 1)


def build_model(part: DictConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    shape = {str(name): value for name, value in part.items() if name not in NOT_SHAPE}
    end = tokenizer.eos_token_id  # the padding, too, while it learns: what is the padding has no gradient through the embedding
    ids = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=CONTEXT, tie_word_embeddings=True, **ids, **shape))


class Optimizer:
    """Muon for the matrices inside the layers, AdamW for the rest; one schedule: warm-up, constant, linear decay to zero."""

    def __init__(self, model: torch.nn.Module, settings: DictConfig, steps: int):
        self.settings, self.steps = settings, steps
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
        self.parts = [
            Muon32(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay),
            torch.optim.AdamW(rest, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.rates = [settings.muon_lr, settings.adam_lr]

    def step(self, index: int) -> None:
        decay_steps = max(1, round(self.steps * self.settings.decay_share))
        scale = min(1.0, (index + 1) / self.settings.warmup, (self.steps - index) / decay_steps)
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * scale
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


@dataclass
class Trainer:
    """Runs one model's steps with checkpoints; `loss_of(model, windows)` is cross-entropy or distillation."""

    settings: DictConfig
    device: torch.device
    folder: Path

    def run(
        self, name: str, model: LlamaForCausalLM, batches: Callable[[int], Any], loss_of: Callable[[Any, Any], Tensor], rng: random.Random
    ) -> None:
        """`batches(step)` makes the material of a step, drawing from `rng`, whose state is kept with the checkpoints."""
        steps = self.settings[name].steps
        checkpoint = self.folder / f"{name}.checkpoint.pt"
        optimizer, start = Optimizer(model, self.settings.optimizer, steps), 0
        if checkpoint.exists():
            saved = torch.load(checkpoint, map_location=self.device, weights_only=False)
            model.load_state_dict(saved["model"])
            optimizer.load(saved["optimizer"])
            rng.setstate(saved["rng"])
            start = saved["step"]
            log.info("%s: going on from step %d", name, start)
        forward = torch.compile(model, dynamic=False) if self.settings.compile else model
        mean = 0.0
        for index in range(start, steps):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.use_bf16()):
                loss = loss_of(forward, batches(index))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(index)
            mean = loss.item() if index == start else 0.95 * mean + 0.05 * loss.item()
            if (index + 1) % 10 == 0:
                log.info("%s step %d/%d loss %.4f", name, index + 1, steps, mean)
            if (index + 1) % self.settings.save_every == 0 or index + 1 == steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state(), "rng": rng.getstate(), "step": index + 1}
                partial = checkpoint.with_suffix(".partial")
                torch.save(state, partial)
                partial.replace(checkpoint)

    def batch(self, name: str, windows: Windows, progress: float) -> Tensor:
        """Token windows for one step of a model, as long as its phases say; [rows, length + 1]."""
        part = self.settings[name]
        length = length_at(part.phases, progress)
        return windows.batch(part.tokens_per_step // length, length).to(self.device)

    def use_bf16(self) -> bool:
        if self.settings.autocast != "auto":
            return bool(self.settings.autocast)
        return self.device.type == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)


def cross_entropy(model: Any, windows: Tensor) -> Tensor:
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return F.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


def length_at(phases: Any, progress: float) -> int:
    """Window length after the share `progress` of the steps."""
    for phase in phases:
        progress -= phase.share
        if progress < 0:
            return phase.length
    return phases[-1].length


def encode_all(tokenizer: PreTrainedTokenizerFast, documents: list[str]) -> list[Tensor]:
    encoded = tokenizer(documents, verbose=False).input_ids
    return [torch.tensor([*ids, tokenizer.eos_token_id]) for ids in encoded]


def pools_of(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, settings: DictConfig) -> dict[str, list[Tensor]]:
    edits = edit_examples(corpus.library, settings.edit_examples, settings.seed)
    return {name: encode_all(tokenizer, texts) for name, texts in {"library": corpus.library, "tests": corpus.tests, "edits": edits}.items()}


def prepared_target(settings: DictConfig, trainer: Trainer, corpus: Corpus) -> tuple[Any, PreTrainedTokenizerFast, dict[str, list[Tensor]]]:
    """The target in the precision in which it is saved, its tokenizer and the pools of tokens; trained here, or taken from `distil_from`."""
    if settings.distil_from:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(resolve_name(settings.distil_from))
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
    return target.half().float().eval(), tokenizer, pools  # what is saved is what the drafter learns from and what is evaluated


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What `make` returns, made once and read back when the recipe goes on."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=False)


@hydra.main(config_path="pkg://conf", config_name="train_pair", version_base=None)
def main(settings: DictConfig) -> None:
    folder = Path(settings.output)
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if settings.device == "auto" else settings.device)
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


if __name__ == "__main__":
    main()
