"""The target's distributions along recorded answers: the k likeliest tokens at every place, in one file that `experiments.replay` reads.

`python -m experiments.replay.distributions recorded=RUN_FOLDER top_k=64` makes the file: one forward per answer.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from experiments.parts.build import make
from experiments.parts.command import entry
from experiments.parts.settings import resolved
from experiments.parts.target import Target
from experiments.recording.files import reason
from experiments.recording.machine import circumstances
from experiments.replay.texts import RecordedText, Source, open_recording, read_run
from spec.model import CausalLM
from spec.sampling import Sampler


@dataclass(frozen=True)
class TextDistributions:
    """Distributions of T tokens of one text, each given all tokens before it."""

    answer: NDArray[np.int32]  # [T] the recorded tokens
    chosen: NDArray[np.float32]  # [T] their probabilities
    tokens: NDArray[np.int32]  # [T, k] the likeliest tokens, in falling order
    probs: NDArray[np.float32]  # [T, k]

    def overlap(self, index: int, drafted: int, q: Tensor | None) -> tuple[float, float]:
        """Bounds on the sum of min(p, q) at one token, where the draft's distribution is q [V]; None: one-hot at `drafted`.

        The recorded k tokens count as they are; elsewhere min(p, q) is at least 0, and in sum at most what either distribution has left.
        """
        tokens, probs = self.tokens[index], self.probs[index].astype(np.float64)
        rest = max(1.0 - float(probs.sum()), 0.0)
        if q is None:
            known = probs[tokens == drafted]
            return (float(known[0]), float(known[0])) if len(known) else (0.0, min(rest, float(probs[-1])))
        there = q[torch.from_numpy(tokens.astype(np.int64)).to(q.device)].double().cpu().numpy()
        lower = float(np.minimum(probs, there).sum())
        return lower, min(lower + min(rest, max(1.0 - float(there.sum()), 0.0)), 1.0)

    def ratio(self, index: int, drafted: int, q: Tensor | None) -> float:
        """min(1, q / p) of the recorded token: the chance that it was the draft's own, given that a draft was judged there."""
        token, chosen = int(self.answer[index]), float(self.chosen[index])
        if q is None:
            return float(token == drafted)
        return min(1.0, float(q[token]) / chosen) if chosen else 1.0


@torch.inference_mode()
def score(target: CausalLM, sampler: Sampler, text: RecordedText, top_k: int) -> TextDistributions:
    """One forward over prompt and answer; the distributions are the sampler's. Raises ValueError for a text that the context cannot hold."""
    row, start, count = [*text.prompt, *text.tokens], len(text.prompt), len(text.tokens)
    if len(row) > target.context:
        raise ValueError(f"text {text.id} has {len(row)} tokens with its prompt, the target's context is {target.context}; leave it out")
    ids = torch.tensor([row[:-1]], device=target.device)
    logits = target.model(input_ids=ids, use_cache=False).logits[:, start - 1 :]
    distribution = sampler.distribution(logits, lambda _, slot: row[: start + slot])[0]
    best = distribution.topk(min(top_k, distribution.shape[1]), dim=-1)
    chosen = distribution.gather(1, torch.tensor(text.tokens, device=distribution.device)[:, None])[:, 0]
    assert len(distribution) == count
    answer = np.array(text.tokens, dtype=np.int32)
    return TextDistributions(answer, chosen.float().cpu().numpy(), best.indices.int().cpu().numpy(), best.values.float().cpu().numpy())


def save(path: Path, distributions: dict[str, TextDistributions], about: dict[str, Any]) -> None:
    """Writes all distributions into one .npz file; either the old file or the whole new one is there. `about` says what made them."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(text, name) for text in distributions.values()]) for name in ("answer", "chosen", "tokens", "probs")
    }
    ends = np.cumsum([len(text.answer) for text in distributions.values()])
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, ids=np.array(list(distributions)), ends=ends, about=np.array(json.dumps(about)), **arrays)
    partial.replace(path)


def load(path: Path, texts: Sequence[RecordedText], sampling: dict[str, Any]) -> dict[str, TextDistributions]:
    """The distributions of the texts, by id. Raises ValueError where the file lacks one, or was made for other answers or another sampler."""
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            held = {name: file[name] for name in file.files}
        about, bounds = json.loads(str(held["about"])), [0, *held["ends"].tolist()]
        made_for, sizes = about["sampling"], {len(held[name]) for name in ("answer", "chosen", "tokens", "probs")}
        if sizes != {bounds[-1]} or len(held["ids"]) != len(bounds) - 1:
            raise ValueError("its parts are not of one length")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: is not a file of distributions ({reason(error)}); remove it, or make it again with python -m experiments.replay.distributions"
        ) from error
    if made_for != lasting(sampling):
        raise ValueError(f"{path} holds distributions of {made_for}, the texts are replayed with {lasting(sampling)}; make them again for that")
    found = {}
    for index, name in enumerate(held["ids"].tolist()):
        part = slice(bounds[index], bounds[index + 1])
        found[name] = TextDistributions(held["answer"][part], held["chosen"][part], held["tokens"][part], held["probs"][part])
    for text in texts:
        if text.id not in found or found[text.id].answer.tolist() != text.tokens:
            raise ValueError(
                f"{path} holds no distributions of the answer {text.id} as it is recorded; make them again (experiments.replay.distributions)"
            )
    return found


def lasting(sampling: Any) -> dict[str, Any]:
    """The settings of a sampler that make its distributions: without its class and its seed."""
    return {str(key): value for key, value in sampling.items() if key not in ("_target_", "seed")}


def execute(config: DictConfig | Mapping[str, Any]) -> Path:
    """Scores every text once and writes the file, whose path is returned. Raises ValueError for wrong input before any forward."""
    plain = resolved(config)
    source, top_k = Source.of(plain), plain["top_k"]
    if not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k={top_k}: give a whole number of at least 1")
    plain |= as_recorded(plain, source.recorded)
    output = Path(plain["output"] or source.recorded / "distributions.npz")
    sampler: Sampler = make(plain, "sampling")
    if sampler.greedy:
        raise ValueError("at temperature 0 every distribution is certain of its token and replay needs none; record a run with sampling=sample")
    torch.set_num_threads(plain["threads"])
    target: Target = make(plain, "target")
    texts = open_recording(source, target.tokenizer).texts
    distributions = {text.id: score(target.model, sampler, text, top_k) for text in texts}
    about = {"target": plain["target"]["name"], "sampling": lasting(plain["sampling"]), "top_k": top_k, "recorded": str(source.recorded)}
    save(output, distributions, about | circumstances(target.model.device, target.model.dtype))
    left = 1 - sum(float(part.probs.sum()) for part in distributions.values()) / sum(len(part.answer) for part in distributions.values())
    print(f"distributions of {len(distributions)} texts in {output}; the {top_k} likeliest tokens leave out {left:.2g} of a distribution")
    return output


def as_recorded(plain: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Target and sampling, those of the run where none were given. Raises ValueError for plain texts without them, or without an output."""
    recorded = read_run(path).config if path.is_dir() else None
    for group in ("target", "sampling"):
        if plain.get(group) is None and recorded is None:
            raise ValueError(f"{group} must be given for plain texts, such as {group}={'hub target.name=...' if group == 'target' else 'sample'}")
    if plain["output"] is None and recorded is None:
        raise ValueError("output must be given for plain texts: a .npz file")
    return {group: plain.get(group) or (recorded or {})[group] for group in ("target", "sampling")}


main = entry("replay_distributions", lambda config, *_: execute(config))

if __name__ == "__main__":
    main()
