"""The main job. `python -m experiments.run`: every prompt decoded by the method and by plain decoding, side by side, recorded as it goes.

Exit codes: 0 done; 1 a job of a sweep failed, a run failed its proof (or `certify=true` got none), or the disk is full; 2 the input or configuration
is wrong; 130 stopped by Ctrl-C. What was finished is kept, and the same command with `resume=true` goes on from there.
"""

import errno
import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.build import Parts, build, check_choices, make, refuse
from experiments.compare import print_sweeps, swept_summaries
from experiments.exactness.in_a_run import witness_of
from experiments.jsonl import write_atomically
from experiments.manifest import ForeignFolderError, check_claim
from experiments.measure import Bench
from experiments.proofs.certify import Prover
from experiments.proofs.proof import Proof, unproved
from experiments.records import Recorder
from experiments.resume import resumed
from experiments.revisions import origin
from experiments.session import carry_out
from experiments.splits import check_split, side
from experiments.summary import check_objective, to_json, with_proof
from experiments.table import print_run
from experiments.tasks import Task, check_numbers, eos_ids, make_tasks, task_settings
from spec.state import Limits

log = logging.getLogger(__name__)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def execute(config: DictConfig, folder: Path, group: str | None = None) -> dict[str, Any]:
    """Runs a configuration into a folder, or goes on where the folder stopped; returns the summary.

    `group` is the sweep it belongs to. A finished folder is only read, and its proof is looked up anew. Raises ValueError for wrong input before any
    work, OSError if the disk takes no more, KeyboardInterrupt after the summary has been written.
    """
    check_numbers(config)
    check_split(config.split, config.dev_share)
    check_objective(config.objective)
    plain = resolved(config)
    prover = Prover(config, plain, folder, group)
    held = finished(config, plain, folder)
    if held is not None and not prover.lacks(proof := prover.of_summary(held)):
        log.info("%s is finished; nothing to do", folder)
        return concluded(held, proof, folder)
    torch.set_num_threads(config.threads)
    parts = build(config)
    limits = Limits(config.max_new_tokens, eos_ids(parts) if config.stop_at_eos else None)
    tasks = make_tasks(config, parts)
    check_peers(parts, tasks, limits)
    recorder = Recorder(folder, plain, origin(plain, parts.prompts))
    try:
        proof = prover.certified(parts)
        if held is not None:
            return concluded(held, proof, folder)
        witness = witness_of(parts.drafter, parts.verifier, parts.sampler, limits)
        bench = Bench(parts, limits, config.seed, config.allow_lossy, task_settings(config, parts), witness)
        return carry_out(plain, parts, bench, tasks, recorder, group, proof=proof)
    finally:
        recorder.close()


def finished(config: DictConfig, plain: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """The summary of a folder in which this very run is complete, without loading a model; None if it is not. Raises ForeignFolderError."""
    if not (folder / "manifest.json").exists() or not (folder / "summary.json").exists():
        return None
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    check_claim(folder, plain, origin(plain, side(make(config, "data"), config.split, config.dev_share)))
    return None if summary["interrupted"] else summary


def concluded(summary: dict[str, Any], proof: Proof, folder: Path) -> dict[str, Any]:
    """A finished run with the proof that is known now, written if that is news; one that was known keeps its place if none is found any more."""
    known = (summary.get("proof") or {}).get("record") is not None
    told = summary if known and proof.found is None else with_proof(summary, proof)
    if told != summary:
        write_atomically(folder / "summary.json", to_json(told))
    print_run(told, folder)
    return told


def check_peers(parts: Parts, tasks: list[Task], limits: Limits) -> None:
    """Raises ValueError for prompts or settings that a peer cannot take, before anything is decoded."""
    for name, peer in parts.peers.items():
        try:
            peer.check([task.tokens for task in tasks], parts.sampler, limits)
        except ValueError as error:
            raise ValueError(f"peers.{name}: {error}") from error


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain data. Raises ValueError naming what is missing in it."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # pyright: ignore[reportReturnType]
    except OmegaConfBaseException as error:
        raise ValueError(f"{getattr(error, 'full_key', None) or 'configuration'} must be given: {' '.join(str(error).split())}") from error


@hydra.main(config_path="pkg://conf", config_name="config", version_base=None)
def job(config: DictConfig) -> float:
    """One run; returns its objective, which a sweeper may look at."""
    settings = HydraConfig.get()
    folder, swept = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
    with leaving_word(folder, swept):
        summary = execute(config, folder, Path(settings.sweep.dir).as_posix() if swept else None)
        if not swept and unproved(summary):
            raise SystemExit(1)
        return summary[config.objective]
    raise AssertionError("leaving_word lets every error pass on")


@contextmanager
def leaving_word(folder: Path, swept: bool) -> Iterator[None]:
    """Writes into the folder why a job failed; a user's mistake ends a single job with exit code 2, a full disk with 1."""
    try:
        yield
    except (ValueError, HydraException) as error:
        log.error("%s", error)
        write_error(folder, error)
        if not swept:
            raise SystemExit(2) from error
        raise  # Hydra goes on with the other jobs and ends with exit code 1
    except OSError as error:
        write_error(folder, error)
        if error.errno not in DISK_FULL:
            raise
        log.error("%s: %s; what was recorded is whole. Make room, and the same command with resume=true goes on", folder, error.strerror)
        if not swept:
            raise SystemExit(1) from error
        raise
    except Exception as error:
        write_error(folder, error)
        raise


def write_error(folder: Path, error: Exception) -> None:
    """Leaves word of why a job failed; a folder that holds another run's results, or a finished run, is not touched."""
    if not isinstance(error, ForeignFolderError) and not (folder / "summary.json").exists():
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        with suppress(OSError):  # on a full disk there is no room for this either
            write_atomically(folder / "error.json", json.dumps(found, indent=2) + "\n")


def main() -> None:
    """Entry point: checks the chosen options, hands over to Hydra, and turns what happens into an exit code."""
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    if folders := resumed(sys.argv[1:]):
        print(f"going on: {' '.join(folders)}", file=sys.stderr)
    sys.argv += folders
    try:
        job()  # pyright: ignore[reportCallIssue]  Hydra fills in the configuration
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        print_sweeps()
    if any(unproved(summary) for summary in swept_summaries()):
        sys.exit(1)


if __name__ == "__main__":
    main()
