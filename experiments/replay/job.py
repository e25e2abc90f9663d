"""A replay from a configuration to its table: the recording, the drafter at every length, totals."""

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import Progress

from experiments.analysis.terminal import render
from experiments.parts.build import make
from experiments.parts.settings import resolved
from experiments.recording.files import write_atomically
from experiments.recording.machine import circumstances
from experiments.replay.evaluate import Evaluation, Outcome
from experiments.replay.recorded_target import Replay
from experiments.replay.settings import Settings, drafter_name
from experiments.replay.setup import DrafterBuilder, check_sampling, fitting, open_distributions, target_of
from experiments.replay.texts import Recording, open_recording
from experiments.replay.totals import footnotes, lines, table_rows, totals
from spec.loading import load_tokenizer


def execute(config: DictConfig | Mapping[str, Any]) -> list[Outcome]:
    """Replays a recording, prints the table and writes the file. Raises ValueError for wrong input before any work."""
    asked = Settings.of(resolved(config))
    torch.set_num_threads(asked.threads)
    tokenizer = None if asked.source.recorded.is_dir() else load_tokenizer(asked.tokenizer)
    recording = open_recording(asked.source, tokenizer)
    plain = asked.with_sampling_of(recording)
    sampling = check_sampling(plain, recording)
    target = target_of(asked, recording, tokenizer)
    builder = DrafterBuilder(plain, target)
    longest = builder(asked.lengths[-1])
    texts = fitting(recording, longest, target, asked.skip_too_long)
    distributions = open_distributions(asked, texts, sampling)
    asks = (asked.oracle or distributions is not None) and not longest.traits.makes_trees  # of a tree's drafts no length can be chosen
    replay = Replay(target, make(plain, "sampling"), recording.eos_ids, recording.budget)
    evaluation = Evaluation(replay, asked.cost, builder, asked.lengths, partial(builder, ruled=False) if asks else None, distributions)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("texts", total=len(texts) * (len(asked.lengths) + asks))
        outcomes = evaluation.run(texts, lambda: bar.advance(task))
    report(asked, plain, recording, sampling, outcomes)
    return outcomes


def report(asked: Settings, plain: Mapping[str, Any], recording: Recording, sampling: dict[str, Any], outcomes: list[Outcome]) -> None:
    """The table and what must be read with it; the file, if one is wanted. `plain` is the configuration with the sampling that was settled."""
    found = totals(outcomes, by_category=asked.categories)
    render(table_rows(found, asked.cost), title=f"{drafter_name(asked.config)} on {asked.source.recorded}")
    same = recording.config is not None and recording.config["drafter"] == plain["drafter"] and asked.source.num_texts is None
    print("\n".join(footnotes(found, sampling, recording, recording.live if same else None)), flush=True)
    if asked.output is not None:
        head = {"config": plain, "provenance": circumstances(torch.device("cpu"), torch.float32)}
        made = [head, *lines(outcomes), *({"total": True} | line for line in lines(totals(outcomes, by_category=True)))]
        write_atomically(asked.output, "".join(json.dumps(line) + "\n" for line in made))
        print(f"results in {asked.output}")
