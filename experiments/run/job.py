"""The main job from a configuration to a summary: settings -> prompts -> parts -> plan -> decode -> record -> summary -> table."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.analysis.summary import labels, summarise, to_json, with_proof
from experiments.analysis.tables import print_run
from experiments.parts.build import Parts, build, checkpoints_of, prompts_of
from experiments.parts.data.prompts import Prompt, fingerprint
from experiments.parts.plan import Plan
from experiments.parts.roles import served_by
from experiments.parts.settings import Settings, resolved
from experiments.parts.tracking.interface import Tracker
from experiments.parts.tracking.rows import prompt_figures
from experiments.parts.versions import models
from experiments.recording.code import code_version, decoding_packages, foreign_packages
from experiments.recording.files import read_json, unwritable, write_atomically, writing
from experiments.recording.folder import RunFolder, read_summary, with_books
from experiments.recording.identity import Identity, config_hash
from experiments.recording.machine import circumstances, load_average
from experiments.recording.proofs.code_hash import code_hash
from experiments.recording.proofs.proof import Proof
from experiments.recording.record import unbalanced
from experiments.recording.recorder import Recorder
from experiments.recording.typed import TRUTH, misfit
from experiments.run import costs, self_test
from experiments.run.certify import Prover
from experiments.run.progress import progress
from experiments.run.side_by_side import SideBySide

log = logging.getLogger(__name__)
CHECKS = "checks.json"


def execute(config: DictConfig | Mapping[str, Any], folder: Path, group: str | None = None) -> dict[str, Any]:
    """Runs a configuration into a folder, or goes on where the folder stopped; returns the summary.

    `group` is the sweep it belongs to. A finished folder is only read, and its proof is looked up anew. Raises ValueError for wrong input before any
    work, OSError if the disk takes no more, KeyboardInterrupt after the summary has been written.
    """
    plain = resolved(config)
    settings = Settings.of(plain)
    prover = Prover(plain, settings, folder, group)
    prompts = prompts_of(plain, settings)
    identify = cache(lambda: Identity(plain, origin(plain, prompts), settings.allow_code_change))
    summary = finished(folder, identify)
    if summary is not None and not prover.lacks(proof := prover.of_summary(summary)):
        log.info("%s is finished; nothing to do", folder)
        return concluded(summary, proof, folder)
    known_check(folder)
    torch.set_num_threads(settings.threads)
    parts = build(plain, settings, prompts)
    plan = Plan.of(identify(), settings, parts)
    with closing(Recorder(folder, identify())) as recorder, writing(folder):
        proof = prover.certified(parts)
        if summary is not None:
            return concluded(summary, proof, folder)
        return carry_out(plan, parts, recorder, proof, group)


def origin(config: Mapping[str, Any], prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Code, models and data of a resolved configuration, as they are now. Loads no weights; what cannot be found out is None."""
    code = code_version(foreign_packages(config)) | {"decoding": code_hash(decoding_packages(config))}
    return {"code": code, "models": models(config, checkpoints_of(config)), "data": fingerprint(prompts)[:12]}


def finished(folder: Path, identify: Callable[[], Identity]) -> dict[str, Any] | None:
    """The summary of a folder in which this very run is complete, without loading a model; None if it is not. Raises ForeignFolderError.

    `identify` may have to ask a hub for versions, so it is called only where there is something to compare with.
    """
    if not (folder / "manifest.json").exists() or not (folder / "summary.json").exists():
        return None
    summary = read_summary(folder / "summary.json", as_recorded=True)
    identify().check(folder)
    gone_on = RunFolder(folder).summary is None  # lines were removed or added since
    return None if gone_on or summary["interrupted"] else summary


def concluded(summary: dict[str, Any], proof: Proof, folder: Path) -> dict[str, Any]:
    """The summary of a finished run with the proof that is known now, written if it is new; an earlier proof stays if none is found any more."""
    known = (summary.get("proof") or {}).get("record") is not None
    told = summary if known and proof.found is None else with_proof(summary, proof)
    told = with_books(told, RunFolder(folder).unbalanced)
    if told != summary:
        try:
            write_atomically(folder / "summary.json", to_json(told))
        except OSError as error:
            log.warning("%s; its summary.json stays as it was", unwritable(folder, error))
    print_run(told, folder)
    return told


def carry_out(plan: Plan, parts: Parts, recorder: Recorder, proof: Proof, group: str | None = None) -> dict[str, Any]:
    """The whole run and its summary, which names `proof`. Raises KeyboardInterrupt, after the summary has been written, if it was stopped."""
    model, tracker, folder = parts.target.model, parts.tracker, recorder.folder
    provenance = {"config_hash": config_hash(plan.config), "seed": plan.settings.seed} | circumstances(model.device, model.dtype)
    bench = SideBySide(parts, plan, self_test.witness_of(parts.drafter, parts.verifier, parts.sampler, plan.limits))
    about = labels(plan.config) | {"device": model.device.type}
    tracker.start(plan.config, folder, labels=about, group=group, tokenizer=parts.target.tokenizer)
    costs.forget(parts.drafter)
    costs.restore(parts.drafter, folder, begun=bool(recorder.pairs))
    summary, stop, drafts_repeat = None, None, None
    try:
        if recorder.pairs:
            log.info("%s holds %d of %d prompts already; going on", folder, held(plan, recorder), len(plan.tasks))
            tracker.log_prompts(list(recorder.pairs.values()), recorder.steps())
        try:
            decode_all(plan, bench, recorder, tracker)
            drafts_repeat = check_state(plan, bench, recorder)
        except KeyboardInterrupt as signalled:
            stop = signalled
            recorder.recover()
        if recorder.pairs:
            provenance["load_average_after"] = load_average()
            provenance["served"] = served_by({"target": model, **parts.drafter.models})
            summary = summarise(
                list(recorder.pairs.values()),
                plan.config,
                provenance,
                exact=parts.verifier.exact,
                interrupted=stop is not None,
                drafts_repeat=drafts_repeat,
                keeps_state=parts.drafter.traits.keeps_state,
                proof=proof,
                bets=self_test.figures(bench.witness),
            )
            summary = with_books(summary, unbalanced(recorder.pairs.values(), recorder.steps()))
            write_atomically(folder / "summary.json", to_json(summary))
            (folder / "error.json").unlink(missing_ok=True)  # of an earlier attempt
            print_run(summary, folder)
    finally:
        tracker.finish(summary)
    if stop is not None or summary is None:
        there, count = held(plan, recorder), len(plan.tasks)
        log.warning("stopped after %d of %d prompts; the same command and resume=true, or hydra.run.dir=%s, go on", there, count, folder)
        raise stop or KeyboardInterrupt
    return summary


def held(plan: Plan, recorder: Recorder) -> int:
    """How many of the prompts are on record."""
    return sum(task.id in recorder.pairs for task in plan.tasks)


def decode_all(plan: Plan, bench: SideBySide, recorder: Recorder, tracker: Tracker) -> None:
    """Decodes every batch that is not on record yet."""
    bet_on = [] if bench.witness is None else self_test.restore(bench.witness, recorder.folder, recorder.pairs)
    waiting = [(batch, tasks) for batch, tasks in enumerate(plan.batches) if any(task.id not in recorder.pairs for task in tasks)]
    if waiting:
        bench.warm_up()
        costs.settle(bench.parts.drafter, recorder.folder)
    with progress(len(plan.tasks), len(plan.tasks) - sum(len(tasks) for _, tasks in waiting)) as advance:
        for batch, tasks in waiting:
            found, lines = bench.run(batch, tasks)
            pairs = [pair for pair in found if pair.method.prompt not in recorder.pairs]  # a torn write may have saved a part of a batch
            steps = [line for line in lines if line["prompt"] not in recorder.pairs]
            recorder.write(pairs, steps)
            if bench.witness is not None:
                bet_on = [*bet_on, *(pair.method.prompt for pair in found)]
                self_test.save(bench.witness, recorder.folder, bet_on)
            tracker.log_prompts(pairs, steps)
            advance([prompt_figures(pair) for pair in pairs if pair.method.turn == 1])


def check_state(plan: Plan, bench: SideBySide, recorder: Recorder) -> bool | None:
    """Decodes the first batch again: whether it is drafted as before; None where this is not or cannot be checked. Checked once for a folder."""
    path = recorder.folder / CHECKS
    if path.exists():
        return known_check(recorder.folder)
    if not plan.settings.check_state or len(plan.batches) < 2 or unbalanced(recorder.pairs.values(), recorder.steps()):
        return None
    found = bench.repeats(plan.batches[0], recorder.pairs, recorder.steps())
    write_atomically(path, json.dumps({"drafts_repeat": found, "prompts": [task.id for task in plan.batches[0]]}, indent=2) + "\n")
    return found


def known_check(folder: Path) -> bool | None:
    """What an earlier run found; None if nothing. Raises ValueError for a file that is damaged."""
    path, advice = folder / CHECKS, "remove it, and the same command checks again"
    if not path.exists():
        return None
    held = read_json(path, "what a run found out about its drafter", advice)
    if fault := misfit(held, {"drafts_repeat": TRUTH.or_null}):
        raise ValueError(f"{path}: is not what a run found out about its drafter ({fault}); {advice}")
    return held["drafts_repeat"]
