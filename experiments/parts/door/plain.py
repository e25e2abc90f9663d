"""Jobs without a configuration: their options are read before they are imported, and whatever happens ends in an exit code."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

from experiments.parts.door.jobs import JOBS, Job
from experiments.recording.files import DISK_FULL

WRONG, STOPPED, TERMINATED = 2, 130, 143


class Terminated(KeyboardInterrupt):
    """SIGTERM (Slurm, docker, timeout), which ends a command as Ctrl-C does."""


def plain(name: str, arguments: Sequence[str] | None = None) -> int:
    """Runs a job by its options, those of the command line if none are given; returns the exit code."""
    try:
        options = parser_of(JOBS[name]).parse_args(arguments)
    except SystemExit as end:  # --help, or a mistake that has been said
        return int(end.code or 0)
    return answered(lambda: main_of(JOBS[name])(options) or 0)


def answered(work: Callable[[], int]) -> int:
    """The exit code of a command: what `work` returns, 2 with one line for wrong input, 1 with one line for a full disk, 130 and 143 by signals."""
    try:
        with terminable():
            code = work()
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, OSError) and error.errno in DISK_FULL else WRONG
    except KeyboardInterrupt as stop:
        return stopped(stop)


def stopped(stop: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal has ended."""
    return TERMINATED if isinstance(stop, Terminated) else STOPPED


@contextmanager
def terminable() -> Iterator[None]:
    """Within it the first SIGTERM raises `Terminated`, a second one ends the process. Signals can be handled in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def parser_of(job: Job) -> argparse.ArgumentParser:
    """What reads the options of a job without a configuration."""
    assert job.parser is not None
    return named(job.parser)()


def main_of(job: Job) -> Any:
    """The function that does the work; importing it imports torch."""
    return named(job.main)


def named(name: str) -> Any:
    """What lies under "module:name"."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
