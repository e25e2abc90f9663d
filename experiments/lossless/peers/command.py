"""`draftproof peers`: other people's decoding under the tests that ours stands under, as tables and as one JSON file.

Exit codes: 0 done, whatever the peers' verdicts; 1 a control came out wrong, so the verdicts mean nothing; 2 the configuration is wrong.
"""

import io
import json
import logging
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from transformers.utils import logging as hf_logging

from experiments.analysis.terminal import render
from experiments.lossless.peers.distribution_check import DistributionCheck
from experiments.lossless.peers.suite import broken, distribution_rows, greedy_rows, to_json, toy_greedy_rows
from experiments.lossless.peers.toys import toy_pair
from experiments.parts.command import entry
from experiments.recording.files import check_folder, write_atomically
from experiments.recording.machine import circumstances, load_average
from experiments.recording.moved import recorded
from experiments.recording.published import refuse_changed_code
from spec.loading import load_config

log = logging.getLogger(__name__)
Rows = list[tuple[Any, str | None]]


def tables(config: DictConfig) -> tuple[Rows, Rows]:
    """Rows of the two tables; each is logged as it comes."""
    check = DistributionCheck(
        toy_pair(config.seed).prompt,
        config.num_tokens + 1,
        {"temperature": config.temperature},
        num_samples=config.num_samples,
        alpha=config.alpha,
        seed=config.seed,
    )
    distributions, greedy = [], []
    for row in distribution_rows(check, config.num_tokens, config.seed):
        distributions.append(logged(row))
    for row in toy_greedy_rows(config.num_tokens, config.seed, config.max_new_tokens):
        greedy.append(logged(row))
    for dtype in config.dtypes if config.model else []:
        for row in greedy_rows((config.model, config.assistant), dtype, config.num_prompts, config.max_new_tokens):
            greedy.append(logged(row))
    return distributions, greedy


def logged(row: tuple[Any, str | None]) -> tuple[Any, str | None]:
    log.info("%s, %s: %s", row[0].peer, row[0].setting, row[0].verdict)
    return row


def distribution_line(row: dict[str, Any]) -> dict[str, str]:
    return {
        "peer": row["peer"],
        "setting": row["setting"],
        "verdict": verdict(row),
        "TV": "-" if row["tv"] is None else f"{row['tv']:.3f}",
        "first token TV": f"{row['first_token_tv']:.3f}",
        "p": f"{row['p_value']:.2g}",
        "finds TV from": f"{row['detectable_tv']:.3f}",
        "samples x tokens": f"{row['num_samples']} x {row['num_tokens']}",
        "batch": str(row["batch_size"]),
        "tokens/step": f"{row['tokens_per_step']:.2f}",
    }


def greedy_line(row: dict[str, Any]) -> dict[str, str]:
    return {
        "peer": row["peer"],
        "setting": row["setting"],
        "verdict": verdict(row),
        "identical": f"{row['identical']} of {row['num_prompts']}",
        "ties": str(row["ties"]),
        "bugs": str(row["bugs"]),
        "widest margin": "-" if row["widest_margin"] is None else f"{row['widest_margin']:.3g}",
        "tokens": str(row["num_tokens"]),
        "tokens/step": f"{row['tokens_per_step']:.2f}",
    }


def verdict(row: dict[str, Any]) -> str:
    return row["verdict"] if row["must"] is None else f"{row['verdict']} (must {row['must']})"


def report(found: dict[str, Any]) -> str:
    """The record of a run as Markdown."""
    origin = found["provenance"]
    versions = ", ".join(f"{name} {origin['versions'][name]}" for name in ("transformers", "torch"))
    text = io.StringIO()
    with redirect_stdout(text):
        print(
            f"{versions}, {origin['cpu']}, {origin['date'][:10]}; temperature {found['config']['temperature']:g}, alpha {found['config']['alpha']:g}"
        )
        for lines in ([distribution_line(row) for row in found["distributions"]], [greedy_line(row) for row in found["greedy"]]):
            print()
            render(lines, markdown=True)
    return text.getvalue()


def plain(config: DictConfig) -> dict[Any, Any]:
    container = recorded(OmegaConf.to_container(config, resolve=False))
    assert isinstance(container, dict)
    return container


def execute(config: DictConfig) -> list[str]:
    """Judges everybody, prints the tables and writes the record; returns what is wrong with the controls. Raises ValueError for wrong input."""
    torch.set_num_threads(config.threads)
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    for name in (config.model, config.assistant) if config.model else ():
        load_config(name)  # said before anything is judged
    refuse_changed_code(Path(config.output))
    check_folder(Path(config.output).parent)
    provenance: dict[str, Any] = circumstances(torch.device("cpu"), torch.float32)
    try:
        distributions, greedy = tables(config)
    except OSError as error:
        raise ValueError(str(error)) from error
    provenance["load_average_after"] = load_average()
    settings = {str(key): value for key, value in plain(config).items() if key != "output"}  # where it goes is no part of what it is
    found = {"provenance": provenance, "config": settings, "distributions": to_json(distributions), "greedy": to_json(greedy)}
    path = Path(config.output)
    write_atomically(path, json.dumps(found, indent=1) + "\n")
    write_atomically(path.with_suffix(".md"), report(found))
    print(report(found))
    print(f"results in {path} and {path.with_suffix('.md').name}", flush=True)
    return broken([*distributions, *greedy])


def job(config: DictConfig, *_: Any) -> None:
    problems = execute(config)
    for problem in problems:
        log.error("%s", problem)
    if problems:
        raise SystemExit(1)


main = entry("peers", job)
