"""A replay from a configuration to its table: the recording, the drafter at every length, totals."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import Progress

from experiments.analysis.terminal import render
from experiments.parts.build import make
from experiments.recording.files import write_atomically
from experiments.recording.machine import circumstances
from experiments.replay.best_lengths import Price
from experiments.replay.evaluate import Evaluation, Outcome
from experiments.replay.recorded_target import Replay
from experiments.replay.setup import DrafterBuilder, check_lengths, check_output, fitting, load_tokenizer, open_laws, settle_sampling, target_of
from experiments.replay.texts import Recording, open_recording
from experiments.replay.totals import footnotes, lines, table_rows, totals


def execute(config: DictConfig) -> list[Outcome]:
    """Replays a recording, prints the table and writes the file. Raises ValueError for wrong input before any work."""
    torch.set_num_threads(config.threads)
    cost, lengths = Price(**config.cost), check_lengths(config)
    check_output(config.output)
    tokenizer = None if Path(config.recorded).is_dir() else load_tokenizer(config.tokenizer)
    recording = open_recording(config, tokenizer)
    sampling = settle_sampling(config, recording)
    target = target_of(config, recording, tokenizer)
    builder = DrafterBuilder(config, target)
    longest = builder(lengths[-1])
    texts = fitting(recording, longest, target, config.skip_too_long)
    laws = open_laws(config, texts, sampling)
    asks = (config.oracle or laws is not None) and not longest.traits.makes_trees  # of a tree's drafts no length can be chosen
    replay = Replay(target, make(config, "sampling"), recording.eos_ids, recording.budget)
    evaluation = Evaluation(replay, cost, builder, lengths, partial(builder, ruled=False) if asks else None, laws)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("texts", total=len(texts) * (len(lengths) + asks))
        outcomes = evaluation.run(texts, lambda: bar.advance(task))
    report(config, recording, sampling, outcomes)
    return outcomes


def report(config: DictConfig, recording: Recording, sampling: dict[str, Any], outcomes: list[Outcome]) -> None:
    """The table and what must be read with it; the file, if one is wanted."""
    found = totals(outcomes, by_category=config.categories)
    name = config.drafter._target_.split(".")[-2]
    render(table_rows(found, Price(**config.cost)), title=f"{name} on {config.recorded}")
    same = recording.config is not None and recording.config["drafter"] == OmegaConf.to_container(config.drafter) and config.num_texts is None
    print("\n".join(footnotes(found, sampling, recording, recording.live if same else None)), flush=True)
    if config.output is not None:
        settings = OmegaConf.to_container(config, resolve=True)
        head = {"config": settings, "provenance": circumstances(torch.device("cpu"), torch.float32)}
        made = [head, *lines(outcomes), *({"total": True} | line for line in lines(totals(outcomes, by_category=True)))]
        write_atomically(Path(config.output), "".join(json.dumps(line) + "\n" for line in made))
        print(f"results in {config.output}")
