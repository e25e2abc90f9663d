"""From parts to a summary: decodes what is not on record yet, asks whether the drafter carries state, sums up, and tells the tracker."""

import json
import logging
from typing import Any

from experiments.build import Parts
from experiments.exactness import in_a_run
from experiments.jsonl import write_atomically
from experiments.measure import Bench
from experiments.progress import progress
from experiments.proofs.proof import Proof
from experiments.provenance import circumstances, config_hash, load_average
from experiments.records import Recorder
from experiments.summary import labels, summarise, to_json
from experiments.table import print_run
from experiments.tasks import Task, make_batches
from experiments.tracking import prompt_figures

log = logging.getLogger(__name__)


def carry_out(
    config: dict[str, Any],
    parts: Parts,
    bench: Bench,
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
                keeps_state=parts.drafter.keeps_state,
                proof=proof,
                bets=in_a_run.figures(bench.witness),
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


def decode_all(bench: Bench, tasks: list[Task], recorder: Recorder, parts: Parts, config: dict[str, Any]) -> None:
    """Decodes every batch that is not on record yet."""
    batches = batches_of(tasks, config)
    bet_on = [] if bench.witness is None else in_a_run.restore(bench.witness, recorder.folder, recorder.pairs)
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
                in_a_run.save(bench.witness, recorder.folder, bet_on)
            parts.tracker.log_prompts(pairs, steps)
            advance([prompt_figures(pair) for pair in pairs if pair.method.turn == 1])


def check_state(bench: Bench, tasks: list[Task], recorder: Recorder, config: dict[str, Any]) -> bool | None:
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
