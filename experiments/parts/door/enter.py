"""From a command line to a job: questions are answered and mistakes refused here, and only then is the job, and torch with it, imported.

Hydra is imported where it is needed: until signals are handled, one that comes would end in a traceback.
"""

import os
import sys
from typing import NoReturn

from experiments.parts.door.jobs import JOBS, Job
from experiments.parts.door.plain import main_of, plain, stopped, terminable

COMPLETION = ("-sc", "--shell-completion")


def door(arguments: list[str]) -> None:
    """`draftproof ...` and `python -m experiments ...`: the first argument names the job."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        from experiments.parts.door.help import overview

        print(overview())
    elif arguments[0] in ("--version", "-V"):
        print(version())
    elif arguments[0].split("=")[0] in COMPLETION:
        complete(arguments)
    elif arguments[0] not in JOBS:
        from experiments.parts.door.command_line import nearest, refuse

        hint = nearest(arguments[0], list(JOBS))
        settings = " Settings come after the job: draftproof run drafter=lookahead." if "=" in arguments[0] else ""
        refuse(f"unknown job {arguments[0]!r}{hint} Jobs: {', '.join(JOBS)}.{settings}")
    else:
        sys.argv = [f"draftproof {arguments[0]}", *arguments[1:]]
        enter(arguments[0])


def enter(name: str) -> NoReturn:
    """Runs a job by the arguments in `sys.argv`, and ends the process with its exit code, whenever a signal comes."""
    try:
        with terminable():
            sys.exit(_run(name, sys.argv[1:]))
    except KeyboardInterrupt as stop:
        sys.exit(stopped(stop))


def _run(name: str, arguments: list[str]) -> int:
    job = JOBS[name]
    if "--version" in arguments:
        print(version())
        return 0
    if job.config is None:
        return plain(name, arguments)
    try:
        _look_at(name, job, arguments)
    except ValueError as error:
        from experiments.parts.door.command_line import refuse

        refuse(str(error))
    main_of(job)()
    return 0


def _look_at(name: str, job: Job, arguments: list[str]) -> None:
    """Everything that can be said before the job is imported. Raises ValueError for what is wrong."""
    if job.other and arguments[:1] == [job.other]:
        return
    assert job.config is not None
    if {"-h", "--help"} & set(arguments):
        from experiments.parts.door.help import help_of

        print(help_of(name, arguments))
        sys.exit(0)
    from experiments.parts.door.check import HANDED_ON, check
    from experiments.parts.door.command_line import CommandLine

    asks = CommandLine.of(arguments).asks
    if not any(item.startswith(COMPLETION) for item in arguments):
        checked = check(job.config, arguments)
        sys.argv[1:] = checked.arguments
        HANDED_ON[(job.config, *checked.arguments)] = checked
    if asks:
        ask_hydra(job.config)
        sys.exit(0)


def ask_hydra(config_name: str) -> None:
    """Lets Hydra answer what needs no job: --cfg, --info, completion."""
    import hydra

    from experiments.parts.door.comments import CONF

    hydra.main(config_path=f"pkg://{CONF}", config_name=config_name, version_base=None)(lambda _: None)()


def complete(arguments: list[str]) -> None:
    """Completion as Hydra gives it: of jobs here, of a job's settings by Hydra with that job's configuration."""
    query = "query=" in " ".join(arguments)
    words = os.environ.get("COMP_LINE", "").split(" ")[1:] if query else []
    if query and len(words) < 2:
        print(" ".join(name for name in JOBS if name.startswith(words[0] if words else "")))
        return
    config = JOBS[words[0]].config if query and words[0] in JOBS else "config"
    if config is None:
        return
    if query:
        os.environ["COMP_LINE"] = " ".join(["draftproof", *words[1:]])
    sys.argv = ["draftproof", *arguments]
    ask_hydra(config)


def version() -> str:
    """Name and version of this package."""
    from draftproof import __version__

    return f"draftproof {__version__}"
