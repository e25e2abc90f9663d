"""Where a run's curves go besides its own folder: nowhere, or to Weights & Biases. A tracker may fail; the run may not.

The folder is the truth; a tracker gets a copy: the configuration, a curve per step and per prompt, the summary, and a table of the prompts.
"""

import logging
import netrc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from experiments.records import Pair

log = logging.getLogger(__name__)
MODES = ("auto", "online", "offline", "disabled")
COLUMNS = ("prompt", "category", "tokens", "steps", "tokens_per_step", "speedup", "repetition", "loops", "text", "baseline_text")


class Tracker(Protocol):
    """Told of a run as it goes; none of the calls may raise once `start` has been passed a valid configuration."""

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None) -> None:
        """`labels` name the parts of the run: target, drafter, verifier, sampling, data, device. `group` joins the runs of a sweep."""
        ...

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        """Finished prompts and their steps, in order."""
        ...

    def finish(self, summary: dict[str, Any] | None) -> None:
        """The end; None where the run failed before it could be summed up."""
        ...


class NoTracking:
    """Does nothing, completely."""

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None) -> None: ...

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None: ...

    def finish(self, summary: dict[str, Any] | None) -> None: ...


class WandbTracking:
    """One W&B run for one run of ours, also inside a sweep.

    mode: auto is online where an API key is configured and offline otherwise; a server that cannot be reached means offline too.
    """

    def __init__(
        self,
        mode: str = "auto",
        project: str = "foretoken",
        entity: str | None = None,
        group: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        *,
        init_timeout: float = 30.0,
    ):
        if mode not in MODES:
            raise ValueError(f"mode={mode!r}: give one of {', '.join(MODES)}")
        self.mode, self.project, self.entity = mode, project, entity
        self.group, self.name, self.tags, self.init_timeout = group, name, list(tags), init_timeout
        self.run: Any = None
        self.rows: list[Any] = []
        self.totals = {"tokens": 0, "steps": 0, "prompts": 0}

    def start(self, config: dict[str, Any], folder: Path, *, labels: dict[str, str], group: str | None = None) -> None:
        try:
            import wandb
        except ImportError:
            log.warning("W&B is not installed (pip install wandb); the results are kept in %s only", folder)
            return
        settings = {
            "project": self.project,
            "entity": self.entity,
            "group": self.group or group,
            "name": self.name or "-".join(labels[part] for part in ("drafter", "sampling", "target") if part in labels),
            "job_type": "bench",
            "tags": [*self.tags, *(f"{part}:{label}"[:64] for part, label in labels.items())],
            "dir": str(folder),
            "config": config,
            "reinit": "create_new",
            "settings": wandb.Settings(init_timeout=self.init_timeout, silent=True),
        }
        self.run = self._open(wandb.init, settings, folder)
        self._safely(self._define_metrics)

    def _open(self, init: Callable[..., Any], settings: dict[str, Any], folder: Path) -> Any:
        mode = self.mode
        if mode == "auto":
            mode = "online" if has_key() else "offline"
            if mode == "offline":
                log.info("W&B: no API key is configured, so this run is tracked offline in %s (send it later with: wandb sync)", folder / "wandb")
        try:
            return init(mode=mode, **settings)
        except Exception as error:  # whatever the tracker dies of, the run goes on
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            if mode != "online":
                log.warning("W&B could not be started (%s); the results are kept in %s only", reason, folder)
                return None
        log.warning("W&B could not go online (%s); this run is tracked offline in %s (send it later with: wandb sync)", reason, folder / "wandb")
        self.mode = "offline"
        return self._open(init, settings, folder)

    def _define_metrics(self) -> None:
        for family in ("step", "prompt"):
            self.run.define_metric(f"{family}/index", hidden=True)
            self.run.define_metric(f"{family}/*", step_metric=f"{family}/index")

    def log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        self._safely(self._log_prompts, pairs, steps)

    def _log_prompts(self, pairs: Sequence[Pair], steps: Sequence[dict[str, Any]]) -> None:
        for step in steps:
            if step["role"] == "method":
                self.totals["tokens"] += step["emitted"]
                self.totals["steps"] += 1
                counts = {name: step[name] for name in ("drafted", "accepted", "emitted")}
                clocks = {f"{phase}_ms": 1000 * seconds for phase, seconds in step["seconds"].items()}
                total = {"index": self.totals["steps"], "tokens_so_far": self.totals["tokens"]}
                self.run.log({f"step/{name}": value for name, value in {**total, **counts, **clocks}.items()})
        for pair in pairs:
            self.totals["prompts"] += 1
            figures = prompt_figures(pair)
            curve = {name: value for name, value in figures.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
            self.run.log({"prompt/index": self.totals["prompts"], **{f"prompt/{name}": value for name, value in curve.items()}})
            self.rows.append([figures[column] for column in COLUMNS])

    def finish(self, summary: dict[str, Any] | None) -> None:
        self._safely(self._finish, summary)
        self.run = None

    def _finish(self, summary: dict[str, Any] | None) -> None:
        import wandb

        self.run.log({"prompts": wandb.Table(columns=list(COLUMNS), data=self.rows)})
        self.run.summary.update(_flat(summary or {}))
        self.run.finish(exit_code=1 if summary is None else 130 if summary["interrupted"] else 0)

    def _safely(self, call: Callable[..., None], *arguments: Any) -> None:
        if self.run is None:
            return
        try:
            call(*arguments)
        except Exception as error:  # whatever the tracker dies of, the run goes on
            log.warning("W&B failed (%s: %s); tracking stops here, the run goes on", type(error).__name__, str(error).split("\n")[0])
            self.run = None


def prompt_figures(pair: Pair) -> dict[str, Any]:
    """What the table and the curves show of one prompt."""
    method, baseline = pair
    return {
        "prompt": method.prompt,
        "category": method.category,
        "tokens": len(method.tokens),
        "steps": method.num_steps,
        "tokens_per_step": len(method.tokens) / max(method.num_steps, 1),
        "speedup": (baseline.decode_seconds / max(len(baseline.tokens), 1)) / (method.decode_seconds / max(len(method.tokens), 1)),
        "repetition": method.repetition,
        "loops": method.loops,
        "text": method.text,
        "baseline_text": baseline.text,
    }


def has_key() -> bool:
    """Whether an API key for W&B's server is configured, in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    for path in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc"):
        try:
            if path and netrc.netrc(os.path.expanduser(path)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries with their keys joined by dots, the way W&B shows them side by side."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
