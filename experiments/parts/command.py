"""What every command does around its job: mistakes end in one line, failures leave word in the folder, sweeps are remembered.

Hydra calls `RememberSweep` by its name, so what it remembers must lie in a module that is never run as `__main__`.
"""

import errno
import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.parts.choices import check_choices
from experiments.recording.files import write_atomically
from experiments.recording.folder import read_summaries
from experiments.recording.identity import ForeignFolderError
from experiments.recording.resume import note_options

SWEEPS: list[Path] = []  # folders of the sweeps that this process has started

log = logging.getLogger(__name__)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class RememberSweep(Callback):
    """Notes where a sweep puts its runs, so that its table can be printed even if one of them fails, and the options it was started with.

    `resumable`: whether `resume=true` of the main job may go on in such a folder; only then are the options left there.
    """

    def __init__(self, resumable: bool = True):
        self.resumable = resumable

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SWEEPS.append(Path(config.hydra.sweep.dir))
        self._note(SWEEPS[-1], config)

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(Path(config.hydra.run.dir), config)

    def _note(self, folder: Path, config: DictConfig) -> None:
        if self.resumable:
            note_options(folder, config.hydra.overrides.task)


def sweeps() -> list[Path]:
    """Folders of the sweeps that this process has started."""
    return SWEEPS


def swept_summaries() -> list[dict[str, Any]]:
    """Of every run that this process has swept, as far as it got."""
    return [summary for folder in SWEEPS if any(folder.rglob("summary.json")) for summary in read_summaries([folder])]


@contextmanager
def refusing() -> Iterator[None]:
    """A user's mistake ends the process with one line."""
    try:
        yield
    except (ValueError, HydraException) as error:
        refuse(" ".join(str(error).split()))


def start(job: Callable[[], Any]) -> None:
    """Checks the options chosen on the command line and hands over to a Hydra job; Ctrl-C ends it with exit code 130."""
    if problem := check_choices(sys.argv[1:]):
        refuse(problem)
    try:
        job()
    except KeyboardInterrupt:
        sys.exit(130)


def refuse(message: str) -> NoReturn:
    """Ends the process with one line and the exit code of a user's mistake."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def leaving_word(folder: Path, swept: bool) -> Iterator[None]:
    """Writes into the folder why a job failed; a user's mistake ends a single job with exit code 2, a full disk with 1."""
    try:
        yield
    except (ValueError, HydraException) as error:
        log.error("%s", error)
        write_error(folder, error)
        if not swept:
            raise SystemExit(2) from error
        raise  # Hydra goes on with the other jobs and ends with exit code 1
    except OSError as error:
        write_error(folder, error)
        if error.errno not in DISK_FULL:
            raise
        log.error("%s: %s; what was recorded is whole. Make room, and the same command with resume=true goes on", folder, error.strerror)
        if not swept:
            raise SystemExit(1) from error
        raise
    except Exception as error:
        write_error(folder, error)
        raise


def write_error(folder: Path, error: Exception) -> None:
    """Leaves word of why a job failed; a folder that holds another run's results, or a finished run, is not touched."""
    if not isinstance(error, ForeignFolderError) and not (folder / "summary.json").exists():
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        with suppress(OSError):  # on a full disk there is no room for this either
            write_atomically(folder / "error.json", json.dumps(found, indent=2) + "\n")
