"""The main job. `python -m experiments.run`: every prompt decoded by the method and by plain decoding, side by side, recorded as it goes.

Exit codes: 0 done, 1 a job of a sweep failed, 2 the input or configuration is wrong, 130 stopped by Ctrl-C; what was finished is kept and summed up.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.build import Parts, build, check_choices, refuse
from experiments.compare import print_sweeps
from experiments.measure import Bench
from experiments.progress import progress
from experiments.provenance import circumstances, config_hash, load_average
from experiments.records import ForeignFolderError, Recorder, write_atomically
from experiments.summary import labels, summarise, to_json
from experiments.table import describe, footnotes, render, run_rows
from experiments.tasks import Task, check_numbers, eos_ids, make_tasks
from experiments.tracking import prompt_figures
from spec.state import Limits

log = logging.getLogger(__name__)


def execute(config: DictConfig, folder: Path, group: str | None = None) -> dict[str, Any]:
    """Runs a configuration into a folder, or goes on where the folder stopped; returns the summary.

    `group` is the sweep it belongs to. Raises ValueError for wrong input before any work, KeyboardInterrupt after the summary has been written.
    """
    check_numbers(config)
    plain = resolved(config)
    torch.set_num_threads(config.threads)
    parts = build(config)
    limits = Limits(config.max_new_tokens, eos_ids(parts) if config.stop_at_eos else None)
    tasks = make_tasks(config, parts)
    recorder = Recorder(folder, plain)
    try:
        return _execute(plain, parts, Bench(parts, limits, config.seed, config.allow_lossy), tasks, recorder, group)
    finally:
        recorder.close()


def _execute(config: dict[str, Any], parts: Parts, bench: Bench, tasks: list[Task], recorder: Recorder, group: str | None) -> dict[str, Any]:
    model = parts.target.model
    provenance = {"config_hash": config_hash(config), "seed": config["seed"]} | circumstances(model.device, model.dtype)
    parts.tracker.start(config, recorder.folder, labels=labels(config) | {"device": model.device.type}, group=group)
    summary, interrupted = None, False
    try:
        if recorder.pairs:
            log.info("%s holds %d of %d prompts already; going on", recorder.folder, len(recorder.pairs), len(tasks))
            parts.tracker.log_prompts(list(recorder.pairs.values()), recorder.steps())
        try:
            decode_all(bench, tasks, recorder, parts, config)
        except KeyboardInterrupt:
            interrupted = True
            recorder.recover()
        if recorder.pairs:
            provenance["load_average_after"] = load_average()
            summary = summarise(list(recorder.pairs.values()), config, provenance, exact=parts.verifier.exact, interrupted=interrupted)
            write_atomically(recorder.folder / "summary.json", to_json(summary))
            (recorder.folder / "error.json").unlink(missing_ok=True)  # of an earlier attempt
            report(summary, recorder.folder)
    finally:
        parts.tracker.finish(summary)
    if interrupted or summary is None:
        log.warning("stopped after %d of %d prompts; hydra.run.dir=%s goes on from there", len(recorder.pairs), len(tasks), recorder.folder)
        raise KeyboardInterrupt
    return summary


def decode_all(bench: Bench, tasks: list[Task], recorder: Recorder, parts: Parts, config: dict[str, Any]) -> None:
    """Decodes every batch that is not on record yet."""
    size = config["batch_size"]
    batches = [(index // size, tasks[index : index + size]) for index in range(0, len(tasks), size)]
    waiting = [(batch, part) for batch, part in batches if any(task.prompt.id not in recorder.pairs for task in part)]
    if waiting:
        bench.warm_up(tasks, config["warmup"])
    with progress(len(tasks), len(recorder.pairs)) as advance:
        for batch, part in waiting:
            pairs, steps = bench.run(batch, part)
            recorder.write(pairs, steps)
            parts.tracker.log_prompts(pairs, steps)
            advance([prompt_figures(pair) for pair in pairs])


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data. Raises ValueError naming what is missing in it."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # pyright: ignore[reportReturnType]
    except OmegaConfBaseException as error:
        raise ValueError(f"{getattr(error, 'full_key', None) or 'configuration'} must be given: {' '.join(str(error).split())}") from error


def report(summary: dict[str, Any], folder: Path) -> None:
    render(run_rows(summary), title=describe(summary))
    print("\n".join([*footnotes(summary), f"results in {folder}"]), flush=True)


@hydra.main(config_path="pkg://conf", config_name="config", version_base=None)
def job(config: DictConfig) -> None:
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        execute(config, folder, Path(settings.sweep.dir).as_posix() if swept else None)


@contextmanager
def leaving_word(folder: Path, swept: bool) -> Iterator[None]:
    """Writes into the folder why a job failed; a user's mistake ends a single job with exit code 2."""
    try:
        yield
    except (ValueError, HydraException) as error:
        log.error("%s", error)
        write_error(folder, error)
        if not swept:
            raise SystemExit(2) from error
        raise  # Hydra goes on with the other jobs and ends with exit code 1
    except Exception as error:
        write_error(folder, error)
        raise


def write_error(folder: Path, error: Exception) -> None:
    """Leaves word of why a job failed; a folder that holds another run's results, or a finished run, is not touched."""
    if not isinstance(error, ForeignFolderError) and not (folder / "summary.json").exists():
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        write_atomically(folder / "error.json", json.dumps(found, indent=2) + "\n")


def main() -> None:
    """Entry point: checks the chosen options, hands over to Hydra, and turns what happens into an exit code."""
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    try:
        job()  # pyright: ignore[reportCallIssue]  Hydra fills in the configuration
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print_sweeps()


if __name__ == "__main__":
    main()
