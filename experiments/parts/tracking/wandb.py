"""A run's curves in Weights & Biases. A tracker may fail; the run may not.

The folder is the truth; a tracker gets a copy, which `draftproof track` makes again from the folder at any time: the same calls with
the same data. What is shown is made in `experiments/parts/tracking/rows.py`.
"""

import logging
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.parts.tracking.identity import Identity, checked_project, checked_tags, has_key, wait_for_own_folder
from experiments.parts.tracking.media import artifact, end_service, histogram, html, limits, staging, without_hints
from experiments.parts.tracking.rows import AGGREGATES, COLUMNS, History, flat
from experiments.recording.record import Pair

log = logging.getLogger(__name__)
MODES = ("auto", "online", "offline", "disabled")


class WandbTracking:
    """One W&B run for one run of ours, also inside a sweep.

    mode: auto is online where an API key is configured and offline otherwise; a server that cannot be reached means offline too. The timeouts are
    seconds: how long to wait for the server at the start before going offline, and at the end for what is still on its way to it.
    A string in the place of `tags` is one tag. Raises ValueError for a mode, project or tag that W&B does not take.
    """

    def __init__(
        self,
        mode: str = "auto",
        project: str = "draftproof",
        entity: str | None = None,
        group: str | None = None,
        name: str | None = None,
        tags: str | Sequence[Any] | None = (),
        job_type: str = "bench",
        *,
        notes: str | None = None,
        init_timeout: float = 30.0,
        finish_timeout: float = 120.0,
    ):
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: give one of {', '.join(MODES)}")
        self.mode, self.project, self.entity, self.group = mode, checked_project(project), entity, group
        self.name, self.tags, self.job_type, self.notes = name, checked_tags(tags), job_type, notes
        self.init_timeout, self.finish_timeout = init_timeout, finish_timeout
        self.run: Any = None
        self.folder = Path()
        self.history = History()
        self.failed = False  # whether W&B did not take all of this run
        self.place = ""  # where W&B has it: an address, or a folder to send later

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None, tokenizer: Any = None) -> None:
        self.folder, self.history, self.failed = folder, History(tokenizer), True
        try:
            import wandb
        except ImportError:
            log.warning("W&B is not installed (pip install wandb); the results are kept in %s only", folder)
            return
        identity = Identity.of(folder, labels, project=self.project, entity=self.entity, group=self.group or group, name=self.name)
        settings = {
            "id": identity.id,
            "project": identity.project,
            "entity": identity.entity,
            "group": identity.group,
            "name": identity.name,
            "job_type": self.job_type,
            "notes": self.notes,
            "tags": [*self.tags, *(f"{part}:{label}"[:64] for part, label in identity.labels.items())],
            "dir": str(folder),
            "config": {part: value for part, value in config.items() if part != "tracking"},
            "reinit": "create_new",
            "settings": wandb.Settings(silent=True, init_timeout=self.init_timeout, **limits(wandb.Settings, self.finish_timeout)),
        }
        self.run = self._open(wandb.init, settings)
        self.failed = self.run is None
        self._safely(self._begin, identity)

    def _open(self, init: Callable[..., Any], settings: dict[str, Any]) -> Any:
        mode = self.mode
        if mode == "auto":
            mode = "online" if has_key() else "offline"
            if mode == "offline":
                log.info("W&B: no API key is configured, so this run is tracked offline in %s", self.folder / "wandb")
        wait_for_own_folder(self.folder, settings["id"])
        try:
            with without_hints():
                return init(mode=mode, **settings)
        except Exception as error:  # whatever the tracker dies of, the run goes on
            reason = _first_line(error)
            if mode != "online":
                log.warning("W&B could not be started (%s); the results are kept in %s only", reason, self.folder)
                return None
        log.warning("W&B could not go online (%s); this run is tracked offline in %s", reason, self.folder / "wandb")
        self.mode = "offline"
        end_service()
        return self._open(init, settings)

    def _begin(self, identity: Identity) -> None:
        if self.mode != "disabled":
            identity.remember(self.folder)
            self.place = str(Path(self.run.dir).parent) if self.run.offline else self.run.url
        for family in ("step", "prompt"):
            self.run.define_metric(f"{family}/index", hidden=True, summary="none")
            self.run.define_metric(f"{family}/*", step_metric=f"{family}/index", summary="none")
        for name, kinds in AGGREGATES.items():
            self.run.define_metric(name, step_metric=f"{name.split('/')[0]}/index", summary=kinds)

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        self._safely(self._log_prompts, pairs, steps)

    def _log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        for row in self.history.rows(pairs, steps):
            self._log(row)

    def _log(self, row: dict[str, Any]) -> None:
        self.run.log({name: histogram(value) if isinstance(value, Counter) else value for name, value in row.items()})

    def finish(self, summary: dict[str, Any] | None) -> None:
        offline = self.run is not None and self.run.offline and self.mode != "disabled"
        self._safely(self._finish, summary)
        if offline and self.run is not None:
            log.info("W&B: this run lies in %s; send it with: wandb sync %s", self.place, shlex.quote(self.place))
        self.run = None

    def _finish(self, summary: dict[str, Any] | None) -> None:
        import wandb

        self.run.summary.update(flat({name: value for name, value in (summary or {}).items() if name != "config"}))
        self._log(self.history.last(summary))
        rows: list[Any] = [[html(line[name]) if name == "coloured" else line[name] for name in COLUMNS] for line in self.history.table]
        with staging(self.folder / "wandb"):  # last, because these talk to the server at once
            self.run.log({"prompts": wandb.Table(columns=list(COLUMNS), data=rows)})
            self.run.log_artifact(artifact(self.folder, self.run.id))
        self.run.finish(exit_code=1 if summary is None else 130 if summary["interrupted"] else 0)

    def _safely(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.run is None:
            return
        try:
            call(*arguments)
        except Exception as error:  # whatever the tracker dies of, the run goes on
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.warning(
            "W&B failed (%s: %s); tracking stops here, the run goes on, and draftproof track %s sends all of it once W&B works again",
            *(type(error).__name__, _first_line(error), self.folder),
        )
        run, self.run, self.failed = self.run, None, True
        try:
            run.finish(exit_code=1)
        except Exception:
            log.debug("W&B could not end its run either", exc_info=True)
            end_service()  # a dead process would break the next run of a sweep, too


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
