"""Every job that the command `draftproof` knows, with what it prints about each: the one list of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Job:
    """`module` runs it by `python -m` too. `main` is imported only when the command line is right: "module:function".

    `config`: its YAML file in conf/; None: it takes options as `parser`, "module:function", describes them, which must not import torch.
    """

    module: str
    does: str
    examples: tuple[str, ...]
    main: str
    config: str | None = None
    parser: str | None = None
    without: tuple[str, ...] = ()  # groups of the configuration it builds on that do not apply
    unused: tuple[str, ...] = ()  # settings of that configuration which do not apply
    other: str = ""  # a first argument after which the job reads its arguments itself


JOBS = {
    "run": Job(
        "experiments.run",
        "decodes every prompt by a method and by plain decoding, side by side, and says what that gained",
        (
            "draftproof run drafter=lookahead sampling=sample",
            "draftproof run -m drafter=draft_model drafter.num_tokens=2,4,8",
            "draftproof run drafter=draft_model 'peers=[generate,assisted]'",
        ),
        "experiments.run.command:main",
        "config",
    ),
    "report": Job(
        "experiments.report",
        "shows recorded runs as a table, as Markdown or as one HTML page",
        ("draftproof report", "draftproof report --categories", "draftproof report multirun/2026-01-31/12-00-00 --html report.html"),
        "experiments.report.command:execute",
        parser="experiments.report.arguments:parser",
    ),
    "track": Job(
        "experiments.run.track",
        "writes the W&B runs of recorded runs, tracked before or not",
        (
            "draftproof track multirun/2026-01-31/12-00-00",
            "draftproof track outputs --recursive --mode offline",
            "draftproof track outputs/run --project mine",
        ),
        "experiments.run.track:execute",
        parser="experiments.run.arguments:track_parser",
    ),
    "held_out": Job(
        "experiments.run.held_out",
        "decodes the prompts that a search has not seen, with the best settings it found",
        ("draftproof run experiment=tune", "draftproof held_out", "draftproof held_out multirun/2026-01-31/12-00-00"),
        "experiments.run.held_out:decode_held_out",
        parser="experiments.run.arguments:held_out_parser",
    ),
    "lossless": Job(
        "experiments.lossless",
        "judges whether the output's distribution is the target's own: the battery",
        (
            "draftproof lossless drafter=lookahead sampling=greedy",
            "draftproof lossless drafter._target_=my_package.mine.Mine",
            "draftproof lossless -m verifier=block,recursive effort=high",
        ),
        "experiments.lossless.command:main",
        "lossless",
        without=("tracking", "peers", "experiment"),
        unused=("peers", "certify", "battery", "proofs", "objective", "resume", "check_state", "allow_code_change", "warmup"),
        other="--holm",
    ),
    "proofs": Job(
        "experiments.lossless.proofs",
        "keeps the battery's verdicts with the package, or lists those that are kept",
        ("draftproof proofs", "draftproof proofs outputs/2026-01-31/12-00-00-000000", "draftproof proofs multirun --into verdicts"),
        "experiments.lossless.proofs:execute",
        parser="experiments.lossless.arguments:proofs_parser",
    ),
    "peers": Job(
        "experiments.lossless.peers",
        "puts transformers' assisted generation under the battery's tests",
        ("draftproof peers", "draftproof peers num_samples=20000", "draftproof peers model=null 'dtypes=[float32]'"),
        "experiments.lossless.peers.command:main",
        "peers",
    ),
    "slots": Job(
        "experiments.lossless.slots",
        "measures how far a distribution depends on the shape of the forward that it comes from",
        ("draftproof slots", "draftproof slots 'dtypes=[float32,bfloat16]' num_prompts=8", "draftproof slots target=hub target.name=Qwen/Qwen3-0.6B"),
        "experiments.lossless.slots.command:main",
        "slots",
    ),
    "bench": Job(
        "experiments.bench",
        "times our ways to decode and others', interleaved on the same prompts",
        ("draftproof bench", "draftproof bench sampling=sample 'runtimes=[auto,compile]'", "draftproof bench mode=batch 'batch.sizes=[1,4,16]'"),
        "experiments.bench.command:main",
        "bench",
    ),
    "cost": Job(
        "experiments.cost",
        "times forwards and drafter, predicts the speedup and the best draft length, and compares them with runs",
        (
            "draftproof cost drafter=draft_model 'gammas=[1,2,4,8]'",
            "draftproof cost 'runs=[multirun/2026-01-31/12-00-00]'",
            "draftproof cost num_prompts=6 max_new_tokens=32",
        ),
        "experiments.cost.command:main",
        "cost",
    ),
    "replay": Job(
        "experiments.replay",
        "says what a drafter would do on recorded answers, without running the target",
        (
            "draftproof replay recorded=outputs/2026-01-31/12-00-00-000000",
            "draftproof replay recorded=answers.jsonl 'lengths=[2,4,8]'",
            "draftproof replay recorded=answers.jsonl drafter=draft_model tokenizer=Qwen/Qwen3-4B",
        ),
        "experiments.replay.command:main",
        "replay",
    ),
    "train": Job(
        "experiments.training",
        "trains the models that come with the package, or a drafter for a target of the same kind",
        (
            "draftproof train distil_from=embedded/target",
            "draftproof train output=outputs/pair",
            "draftproof train target.steps=100 drafter.steps=100",
        ),
        "experiments.training.command:main",
        "train_pair",
    ),
    "models": Job(
        "experiments.parts.real_models",
        "lists the small real models that have a name and what was converted, or fetches some",
        ("draftproof models", "draftproof models --fetch smollm2", "draftproof models --fetch gemma3_270m --accept gemma"),
        "experiments.parts.real_models.command:execute",
        parser="experiments.parts.real_models.arguments:parser",
    ),
}
