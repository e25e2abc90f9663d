"""What every command does around its job: mistakes end in one line, failures are written into the folder, sweeps are remembered.

Hydra calls `RememberSweep` by its name, so what it remembers must lie in a module that is never run as `__main__`.
"""

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from experiments.parts.door.check import HANDED_ON, check
from experiments.parts.door.command_line import refuse
from experiments.parts.door.comments import CONF
from experiments.parts.door.plain import stopped, terminable
from experiments.recording.files import DISK_FULL, check_folder, unwritable, write_atomically, writing
from experiments.recording.identity import ForeignFolderError
from experiments.recording.resume import note_options, resumed

Job = Callable[[DictConfig, Path, Path | None], Any]  # (configuration, the job's folder, that of the sweep it belongs to)
SWEEPS: list[Path] = []  # folders of the sweeps that this process has started

log = logging.getLogger(__name__)


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
        try:  # Hydra makes a warning of every exception but this exit
            check_folder(folder)
            if self.resumable:
                note_options(folder, config.hydra.overrides.task)
        except ValueError as error:
            refuse(str(error))
        except OSError as error:
            print(f"error: {unwritable(folder, error)}", file=sys.stderr)
            raise SystemExit(1) from error


def entry(
    config_name: str,
    job: Job,
    finish: Callable[[list[Path]], int] = lambda _: 0,
    *,
    before: Callable[[dict[str, Any]], object] = lambda _: None,
    keeps_folder: bool = False,
    resumes: bool = False,
) -> Callable[[], None]:
    """The `main` of a command: the command line is checked, Hydra makes the configuration, and whatever happens ends in an exit code.

    0: done. 1: failed, or what `finish` returns, which is called with the folders of the sweeps that this process has started, however they ended.
    2: the input or configuration is wrong, said in one line. 130: Ctrl-C. 143: SIGTERM, taken as Ctrl-C is. `before` raises ValueError for what is
    wrong with a job's configuration; it sees those of a whole sweep before its first job runs. With `keeps_folder` every failure is also written into
    the job's folder. A sweeper gets what `job` returns. With `resumes`, `resume=true` goes on in the folder that the same options were started in.
    """

    def task(config: DictConfig) -> Any:
        settings = HydraConfig.get()
        folder, sweep = Path(settings.runtime.output_dir), Path(settings.sweep.dir) if settings.mode == RunMode.MULTIRUN else None
        with leaving_word(folder, sweep is not None) if keeps_folder else refusing(), writing(folder):
            return job(config, folder, sweep)

    def main() -> None:
        logging.raiseExceptions = False  # a full disk is said once, not at every line of the log
        with terminable():
            code = 130
            try:
                with refusing():
                    prepare(config_name, before, resumes)
                hydra.main(config_path=f"pkg://{CONF}", config_name=config_name, version_base=None)(task)()
                code = 0
            except KeyboardInterrupt as stop:
                code = stopped(stop)
            finally:
                found = finish(SWEEPS)
            sys.exit(code or found)

    return main


def prepare(config_name: str, before: Callable[[dict[str, Any]], object], resumes: bool) -> None:
    """Checks the command line in `sys.argv` and completes it. Raises ValueError for what is wrong with any job that it starts."""
    checked = HANDED_ON.pop((config_name, *sys.argv[1:]), None) or check(config_name, sys.argv[1:])
    sys.argv[1:] = checked.arguments
    for number, config in enumerate(checked.jobs):
        try:
            before(config)
        except ValueError as error:
            raise ValueError(f"job {number}: {error}" if len(checked.jobs) > 1 else str(error)) from error
    if folders := resumed(sys.argv[1:]) if resumes else []:
        print(f"going on: {' '.join(folders)}", file=sys.stderr)
        sys.argv += folders


@contextmanager
def refusing() -> Iterator[None]:
    """A user's mistake ends the process with one line."""
    try:
        yield
    except (ValueError, HydraException) as error:
        refuse(str(error))


@contextmanager
def leaving_word(folder: Path, swept: bool) -> Iterator[None]:
    """Writes into the folder why a job failed; a user's mistake ends a single job with exit code 2, a full disk with 1."""
    try:
        yield
    except (ValueError, HydraException) as error:
        write_error(folder, error)
        if not swept:
            refuse(str(error))
        log.error("%s", error)
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
    """Writes `error.json`: why a job failed. A folder that holds another run's results, or a finished run, is not touched."""
    if not isinstance(error, ForeignFolderError) and not (folder / "summary.json").exists():
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        with suppress(OSError):  # on a full disk there is no room for this either
            write_atomically(folder / "error.json", json.dumps(found, indent=2) + "\n")
