"""What is done with a printed command: run with small settings, composed only, or left alone, each with a reason."""

from dataclasses import dataclass
from pathlib import Path

from experiments.parts.door.jobs import JOBS
from tests.docs.printed import Command

RUN, COMPOSE, EXISTS, LEAVE = "run", "compose", "exists", "leave"
SMALL_RUN = ("num_prompts=1", "max_new_tokens=4", "warmup=0", "check_state=false")
BATTERY = {"samples": 640, "batch": 640, "tokens": 2, "long_texts": 64, "long_batch": 8, "mutants": "false"}
SMALL = {  # job -> settings that make it small
    "run": SMALL_RUN,
    "lossless": ("num_prompts=1", "max_new_tokens=4", *(f"effort.{name}={value}" for name, value in BATTERY.items())),
    "cost": (
        *SMALL_RUN,
        "measure.repeats=2",
        "measure.rounds=1",
        "measure.tokens=4",
        "measure.resamples=10",
        "measure.slots=[1,2]",
        "measure.contexts=[8]",
    ),
    "bench": (
        *("num_prompts=1", "max_new_tokens=4", "repeats=1", "warmup=0", "prompt_tokens=[8]", "record=false", "against=[bare]", "runtimes=[auto]"),
        *("batch.sizes=[1,2]", "batch.waves=1", "batch.repeats=1", "verify.slots=[1,2]", "verify.context=8", "verify.repeats=1"),
        *("verifiers.vocabularies=[64]", "verifiers.rows=[1]", "verifiers.repeats=1", "memory.num_prompts=4", "memory.warmup=2"),
    ),
    "replay": ("num_texts=1",),
    "slots": ("num_prompts=1", "max_new_tokens=2", "dtypes=[float32]", "chains=[2]", "trees=[]", "rows=[]", "temperatures=[1]"),
    "experiments.replay.distributions": ("num_texts=1",),
    "report": (),
    "proofs": ("--into", "kept"),
    "models": (),
}
CONFIGS = {"experiments.replay.distributions": "replay_distributions"}  # of modules that are no job of the console command
PROGRAMS = {  # programs that are not ours, by name
    "make": "sets up an environment of its own; its targets are looked up in the Makefile",
    "pip": "changes the environment; extras are looked up in pyproject.toml",
    "wandb": "needs an account and a server",
}
MODULES = {  # ours, which fetch something
    "experiments.parts.real_models.assistant": "reads what draftproof models has fetched",
}


@dataclass(frozen=True)
class Rule:
    """`do` is one of RUN, COMPOSE, EXISTS and LEAVE; `job`: its name for the door, or the module; `small`: what is appended; `why` it is not run."""

    do: str
    job: str = ""
    arguments: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    why: str = ""


def rule(command: Command, desk: Path) -> Rule:
    """Raises AssertionError for a command that nothing here speaks of."""
    program, *rest = command.words
    if program in PROGRAMS:
        return Rule(LEAVE, program, tuple(rest), why=PROGRAMS[program])
    if (program, *rest[:1]) == ("python", "-m") and rest[1] in MODULES:
        return Rule(EXISTS, rest[1], tuple(rest[2:]), why=MODULES[rest[1]])
    if (program, *rest[:1]) == ("python", "-m") and rest[1] in CONFIGS:
        return Rule(RUN, rest[1], tuple(rest[2:]), SMALL[rest[1]])
    assert program == "draftproof", f"no rule for {command}"
    if not rest or {"-h", "--help"} & set(rest):
        return Rule(RUN, "", tuple(rest))
    job, *arguments = rest
    assert job in JOBS, f"no such job: {command}"
    if why := beyond(job, arguments, desk):
        return Rule(COMPOSE, job, tuple(arguments), why=why)
    assert job in SMALL, f"no small settings for {command}"
    return Rule(RUN, job, tuple(arguments), (*SMALL[job], *more(job, arguments, desk)))


def beyond(job: str, arguments: list[str], desk: Path) -> str:
    """Why a command cannot run here; empty if it can."""
    named = [item.partition("=")[2] for item in arguments if item.startswith(("target.name=", "drafter.name=", "tokenizer="))]
    if any("/" in name and not name.startswith("embedded/") and not (desk / name).exists() for name in named):
        return "names a model of the hub"
    if "--fetch" in arguments or {"target=smollm2", "target=gemma3_270m"} & set(arguments):
        return "fetches weights from the package index"
    if any(item.endswith(".gguf") for item in arguments):
        return "reads a file of the reader's"
    if "data=gsm8k" in arguments:
        return "names a data set of the hub"
    if "+experiment=gpu" in arguments:
        return "needs a GPU"
    if job == "track" or "tracking=wandb" in arguments:
        return "starts W&B's own process; tests/experiments/run has its tests"
    return ""


def more(job: str, arguments: list[str], desk: Path) -> list[str]:
    """What else makes this command small: tiny models under the battery, and under `certify=true`, where it runs first."""
    found = []
    if job == "bench" and "target=random" in arguments:
        found += ["target.name=tiny"]
    battery = job == "lossless" or "certify=true" in arguments
    if battery and not {"target=hub", "-m"} & set(arguments):  # one name of a draft model does not fit all drafters of a sweep
        found += [f"target.name={desk / 'models' / 'smollm2'}"]
        if "drafter=draft_model" in arguments or (job == "lossless" and not any(item.startswith("drafter") for item in arguments)):
            found += [f"drafter.name={desk / 'models' / 'smollm2-draft'}"]
    if "certify=true" in arguments:
        found += [f"++battery.effort.{name}={value}" for name, value in BATTERY.items()]
    return found
