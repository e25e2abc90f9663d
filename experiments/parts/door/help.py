"""What `--help` prints, from the list of jobs and the comments in `conf/`."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.parts.door import comments
from experiments.parts.door.command_line import CommandLine, options_of
from experiments.parts.door.groups import check_choices, file_of, files_of, folders_of, groups_of, options_in
from experiments.parts.door.jobs import JOBS
from experiments.parts.door.kinds import shown
from experiments.parts.door.signatures import signature

HEAD = "Draftproof: speculative decoding under exact verifiers, measured against plain decoding."
EXAMPLE = "target=hub"


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
    check_choices(line, job.config)
    folders, groups = folders_of(line), groups_of(job.config, job.without)
    parts = [f"draftproof {name}: {job.does}.", "", *(f"  {example}" for example in job.examples)]
    for group, default in groups.items():
        parts += ["", f"{group}={default}", *_options(name, group, folders)]
    chosen = [(override.key_or_group, option) for override in line.overrides if override.key_or_group in groups for option in options_of(override)]
    for group, option in chosen:
        if file := file_of(group, option, folders):
            parts += ["", f"settings of {group}={option}", *_settings(comments.settings(file), f"{group.replace('/', '.')}.")]
    own = [item for file in files_of(job.config) for item in comments.settings(file) if item.name not in job.unused]
    parts += ["", f"settings of {name}, with their defaults", *_settings(own)]
    parts += ["", f"An option's own settings: draftproof {name} {EXAMPLE} --help. All of them are in {comments.conf()}."]
    parts += ["Flags: -m a sweep over several values, --cfg job what would run, --config-dir FOLDER options of your own."]
    return "\n".join(parts)


def _options(job: str, group: str, folders: Sequence[Path]) -> Iterator[str]:
    for option in options_in(group, folders):
        file = file_of(group, option, folders)
        text = _about(file) if file else ""
        named = re.search(r"draftproof (\w+) \+?experiment=", text)
        if named is None or named[1] == job:  # an experiment of another job
            yield _row(option, text)


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


def _settings(items: Sequence[comments.Setting], prefix: str = "") -> Iterator[str]:
    own = {item.name: item for item in items if item.name != "_target_"}  # a later file's default holds
    for name, item in own.items():
        nested = isinstance(item.default, dict) and any(other.startswith(f"{name}.") for other in own)
        yield _row(prefix + name if nested else f"{prefix}{name}={'' if item.default == '???' else shown(item.default)}", item.comment)


def _row(name: str, text: str) -> str:
    """A name and what is said of it, wrapped to the terminal."""
    width = max(shutil.get_terminal_size((140, 24)).columns, 60)
    left = f"  {name}"
    if not text:
        return left
    indent = 34 if width > 90 else 6
    first = f"{left:{indent}}" if len(left) < indent else f"{left}\n{' ' * indent}"
    return first + f"\n{' ' * indent}".join(textwrap.wrap(text, width - indent))
