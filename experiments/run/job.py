"""The main job from a configuration to a summary: builds the parts, decodes what is not on record yet, sums up, and tells the tracker."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.analysis.summary import check_objective, labels, summarise, to_json, with_proof
from experiments.analysis.tables import print_run
from experiments.parts.build import Parts, build, make
from experiments.parts.command import resolved
from experiments.parts.data.prompts import Prompt, fingerprint
from experiments.parts.data.split import check_split, side
from experiments.parts.tasks import Task, check_numbers, eos_ids, make_batches, make_tasks, task_settings
from experiments.parts.tracking.rows import prompt_figures
from experiments.parts.versions import models
from experiments.recording.code import code_version, foreign_packages, law_packages
from experiments.recording.files import write_atomically
from experiments.recording.identity import check_claim, config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.proofs.law import law_hash
from experiments.recording.proofs.proof import Proof
from experiments.recording.recorder import Recorder
from experiments.run import self_test
from experiments.run.certify import Prover
from experiments.run.progress import progress
from experiments.run.self_test import witness_of
from experiments.run.side_by_side import SideBySide
from spec.state import Limits

log = logging.getLogger(__name__)


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
        bench = SideBySide(parts, limits, config.seed, config.allow_lossy, task_settings(config, parts), witness)
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


def origin(config: Mapping[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Code, models and data of a resolved configuration, as they are now. Loads no weights; what cannot be found out is None."""
    code = code_version(foreign_packages(config)) | {"law": law_hash(law_packages(config))}
    return {"code": code, "models": models(config), "data": fingerprint(prompts)[:12]}


def carry_out(
    config: dict[str, Any],
    parts: Parts,
    bench: SideBySide,
    tasks: list[Task],
    recorder: Recorder,
    group: str | None = None,
    *,
    proof: Proof | None = None,
) -> dict[str, Any]:
    """The whole run and its summary, which names `proof`. Raises KeyboardInterrupt, after the summary has been written, if it was stopped."""
    model = parts.target.model
    provenance = {"config_hash": config_hash(config), "seed": config["seed"]} | circumstances(model.device, model.dtype)
    parts.tracker.start(config, recorder.folder, labels=labels(config) | {"device": model.device.type}, group=group, tokenizer=parts.target.tokenizer)
    summary, interrupted = None, False
    try:
        if recorder.pairs:
            held = sum(task.id in recorder.pairs for task in tasks)
            log.info("%s holds %d of %d prompts already; going on", recorder.folder, held, len(tasks))
            parts.tracker.log_prompts(list(recorder.pairs.values()), recorder.steps())
        drafts_repeat = None
        try:
            decode_all(bench, tasks, recorder, parts, config)
            drafts_repeat = check_state(bench, tasks, recorder, config)
        except KeyboardInterrupt:
            interrupted = True
            recorder.recover()
        if recorder.pairs:
            provenance["load_average_after"] = load_average()
            summary = summarise(
                list(recorder.pairs.values()),
                config,
                provenance,
                exact=parts.verifier.exact,
                interrupted=interrupted,
                drafts_repeat=drafts_repeat,
                keeps_state=parts.drafter.traits.keeps_state,
                proof=proof,
                bets=self_test.figures(bench.witness),
            )
            write_atomically(recorder.folder / "summary.json", to_json(summary))
            (recorder.folder / "error.json").unlink(missing_ok=True)  # of an earlier attempt
            print_run(summary, recorder.folder)
    finally:
        parts.tracker.finish(summary)
    if interrupted or summary is None:
        held = sum(task.id in recorder.pairs for task in tasks)
        log.warning("stopped after %d of %d prompts; the same command and resume=true, or hydra.run.dir=%s, go on", held, len(tasks), recorder.folder)
        raise KeyboardInterrupt
    return summary


def decode_all(bench: SideBySide, tasks: list[Task], recorder: Recorder, parts: Parts, config: dict[str, Any]) -> None:
    """Decodes every batch that is not on record yet."""
    batches = batches_of(tasks, config)
    bet_on = [] if bench.witness is None else self_test.restore(bench.witness, recorder.folder, recorder.pairs)
    waiting = [(batch, part) for batch, part in enumerate(batches) if any(task.id not in recorder.pairs for task in part)]
    if waiting:
        bench.warm_up(tasks, config["warmup"])
    with progress(len(tasks), len(tasks) - sum(len(part) for _, part in waiting)) as advance:
        for batch, part in waiting:
            found, lines = bench.run(batch, part)
            pairs = [pair for pair in found if pair.method.prompt not in recorder.pairs]  # a torn write may have saved a part of a batch
            steps = [line for line in lines if line["prompt"] not in recorder.pairs]
            recorder.write(pairs, steps)
            if bench.witness is not None:
                bet_on = [*bet_on, *(pair.method.prompt for pair in found)]
                self_test.save(bench.witness, recorder.folder, bet_on)
            parts.tracker.log_prompts(pairs, steps)
            advance([prompt_figures(pair) for pair in pairs if pair.method.turn == 1])


def check_state(bench: SideBySide, tasks: list[Task], recorder: Recorder, config: dict[str, Any]) -> bool | None:
    """Whether the first batch, decoded once more now, is drafted as it was; None where that was not or cannot be asked. Asked once for a folder."""
    batches, path = batches_of(tasks, config), recorder.folder / "checks.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))["drafts_repeat"]
    if not config.get("check_state", True) or len(batches) < 2:
        return None
    found = bench.repeats(batches[0], recorder.pairs, recorder.steps())
    write_atomically(path, json.dumps({"drafts_repeat": found, "prompts": [task.id for task in batches[0]]}, indent=2) + "\n")
    return found


def batches_of(tasks: list[Task], config: dict[str, Any]) -> list[list[Task]]:
    """The batches of a run, the same whatever is on record."""
    return make_batches(tasks, config["batch_size"], config.get("batching", "order"))
