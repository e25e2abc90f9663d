"""What `--help` prints, from the list of jobs and the comments in `conf/`."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from experiments.parts.door import comments
from experiments.parts.door.check import files_of, shown
from experiments.parts.door.command_line import CommandLine
from experiments.parts.door.groups import defaults_of, file_of, folders_of, options_in
from experiments.parts.door.jobs import JOBS, Job
from experiments.parts.door.signatures import signature

HEAD = "Draftproof: speculative decoding under exact verifiers, measured against plain decoding."
LIKES = "lookahead"


def overview() -> str:
    """Every job in one line with an example."""
    width = max(map(len, JOBS))
    lines = [HEAD, "", "draftproof JOB [setting=value ...]; draftproof JOB --help lists a job's settings", ""]
    for name, job in JOBS.items():
        lines += [f"  {name:{width}}  {job.does}", f"  {'':{width}}    {job.examples[0]}"]
    lines += ["", 'draftproof --version; completion for bash and zsh: eval "$(draftproof -sc install=bash)"']
    return "\n".join(lines)


def help_of(name: str, arguments: Sequence[str] = ()) -> str:
    """Of a job with a configuration: a sentence, examples, its groups with their options, its settings. Raises ValueError as `CommandLine`."""
    job = JOBS[name]
    assert job.config is not None
    line = CommandLine.of([item for item in arguments if item not in ("-h", "--help")])
    folders = folders_of(line)
    parts = [f"draftproof {name}: {job.does}.", "", *(f"  {example}" for example in job.examples)]
    for group, default in groups_of(job):
        parts += ["", f"{group}={default}" if default else f"{group}=", *_options(group, folders, default)]
    parts += ["", f"settings of {name}, with their defaults", *_settings([item for file in files_of(job.config) for item in comments.settings(file)])]
    parts += ["", "An option's own settings: draftproof " + f"{name} drafter={LIKES} --cfg job, and the files in {comments.conf()}."]
    parts += ["Flags: -m a sweep over several values, --cfg job what would run, --config-dir FOLDER options of your own."]
    return "\n".join(parts)


def groups_of(job: Job) -> list[tuple[str, str]]:
    """The groups of a job's own defaults list and of those that it builds on, each with the option that it takes by itself."""
    found: dict[str, str] = {}
    for file in files_of(job.config or ""):
        for entry in defaults_of(file):
            if isinstance(entry, DictConfig):
                for key, option in entry.items():
                    group = str(key).removeprefix("override ").split("@")[0].removeprefix("/")
                    if not group.startswith("hydra"):
                        found[group] = "" if option is None or "@" in str(key) else shown(option)
    for group in [*found]:
        for inner in sorted(path.name for path in (comments.conf() / group).iterdir() if path.is_dir() and path.name[0] not in "_."):
            found.setdefault(f"{group}/{inner}", "")
    return list(found.items())


def _options(group: str, folders: Sequence[Path], default: str) -> Iterator[str]:
    for option in options_in(group, folders):
        file = file_of(group, option, folders)
        yield _row(option, _about(file) if file else "")


def _about(file: Path) -> str:
    """The first sentence at the head of an option's file; without one, what its class says of itself."""
    if text := comments.about(file):
        return text.split(". ")[0].rstrip(".")
    target = next((item.default for item in comments.settings(file) if item.name == "_target_"), None)
    try:
        found = signature(target) if isinstance(target, str) else None
    except ValueError:
        return ""
    return found.about.rstrip(".") if found else ""


def _settings(items: Sequence[comments.Setting]) -> Iterator[str]:
    own = {item.name: item for item in items}  # a later file's default holds
    for name, item in own.items():
        nested = isinstance(item.default, dict) and any(other.startswith(f"{name}.") for other in own)
        yield _row(name if nested else f"{name}={'' if item.default == '???' else shown(item.default)}", item.comment)


def _row(name: str, text: str) -> str:
    """A name and what is said of it, wrapped to the terminal."""
    width = max(shutil.get_terminal_size((140, 24)).columns, 60)
    left = f"  {name}"
    if not text:
        return left
    indent = 34 if width > 90 else 6
    first = f"{left:{indent}}" if len(left) < indent else f"{left}\n{' ' * indent}"
    return first + f"\n{' ' * indent}".join(textwrap.wrap(text, width - indent))
