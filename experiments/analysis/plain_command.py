"""What commands without Hydra have in common: wrong arguments and wrong input end in one line, signals in their exit codes."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from experiments.recording.files import DISK_FULL

WRONG, STOPPED, TERMINATED = 2, 130, 143


class Arguments(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; {self.prog} --help says what it takes", file=sys.stderr)
        raise SystemExit(WRONG)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def answered(work: Callable[[], int]) -> int:
    """The exit code of a command: what `work` returns, 2 with one line for wrong input, 1 with one line for a full disk, 130 and 143 by signals."""
    try:
        with terminable():
            return work()
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1 if isinstance(error, OSError) and error.errno in DISK_FULL else WRONG
    except KeyboardInterrupt as stop:
        return TERMINATED if isinstance(stop, Terminated) else STOPPED


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM raises `Terminated`. Elsewhere than in the main thread signals cannot be handled, and nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: Any) -> NoReturn:
    raise Terminated
