"""Reads what runs left on disk: a run's folder, summaries, failures, the folders of a sweep, the newest sweep."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from experiments.recording.files import read_json, reason
from experiments.recording.moved import renamed
from experiments.recording.record import UNBALANCED, Pair, read_pairs, read_records, read_steps, unbalanced
from experiments.recording.typed import COUNT, INTERVAL, LABELS, LIST, NAMED, NUMBER, TEXT, TRUTH, Fields, misfit

Row = dict[str, Any]
WRITTEN_AGAIN = "run the same command again with hydra.run.dir= this folder, which writes it again, or give another folder"
SUMMED_AGAIN = "leave it out, or remove it and run the same command again, which sums up the records anew"
FIGURES: Fields = {
    **dict.fromkeys(("num_prompts", "num_tokens", "num_steps"), COUNT),
    **dict.fromkeys(("tokens_per_step", "accepted_per_step", "tokens_per_second", "baseline_tokens_per_second", "speedup"), NUMBER),
    **dict.fromkeys(("acceptance_rate", "repetition"), NUMBER.or_null),
    "speedup_interval": INTERVAL.or_null,
    "seconds": NAMED,
}
SUMMARY: Fields = {
    **FIGURES,
    **dict.fromkeys(("valid", "interrupted"), TRUTH),
    **dict.fromkeys(("by_category", "provenance", "config"), NAMED),
    "labels": LABELS,
    "greedy_identical": NUMBER.or_null,
    "warnings": LIST,
}
SUMMARY_LATER: Fields = {
    "drafted_per_step": NUMBER,
    "proof": NAMED.or_null,
    "peers": NAMED,
    "by_group": NAMED,
    "errors": LIST,
    "acceptance_by_position": LIST,
    "divergences": LIST,
}
LABELLED: Fields = dict.fromkeys(("target", "data", "drafter", "verifier", "sampling"), TEXT)
CONFIG: Fields = dict.fromkeys(("target", "data", "drafter", "verifier", "sampling"), NAMED)
PROVENANCE: Fields = dict.fromkeys(("device", "dtype", "date"), TEXT)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Every file is read once, when it is asked for; what cannot be read is a ValueError that names file and line."""

    path: Path

    @cached_property
    def raw_config(self) -> dict[str, Any]:
        """The resolved configuration as it was recorded: `_target_`s may have names that have moved since."""
        path = self.need("config.yaml")
        try:
            held: Any = OmegaConf.to_container(OmegaConf.load(path))
            return {str(key): value for key, value in held.items()}
        except (YAMLError, AttributeError, ValueError, OSError) as error:
            raise ValueError(f"{path}: is not the configuration of a run ({reason(error)}); {WRITTEN_AGAIN}") from error

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration under today's names."""
        return renamed(self.raw_config)

    def part(self, name: str, needed: Fields = MappingProxyType({})) -> dict[str, Any]:
        """One part of the configuration under today's names, such as "drafter", which holds at least what is needed. Raises ValueError otherwise."""
        fault = misfit(self.config, {name: NAMED}) or misfit(self.config[name], needed)
        if fault is not None:
            raise ValueError(f"{self.path / 'config.yaml'}: is not the whole configuration of a run ({fault}); {WRITTEN_AGAIN}")
        return self.config[name]

    @cached_property
    def records(self) -> list[Row]:
        """The lines of `records.jsonl`, those of unfinished prompts too."""
        return read_records(self.path / "records.jsonl")

    @cached_property
    def pairs(self) -> list[Pair]:
        """The finished prompts, in order."""
        return read_pairs(self.path / "records.jsonl")

    @cached_property
    def steps(self) -> list[Row]:
        """The lines of `steps.jsonl`."""
        return read_steps(self.path / "steps.jsonl")

    @cached_property
    def steps_of(self) -> dict[tuple[str, str], list[Row]]:
        """(prompt, role) -> its lines of `steps.jsonl`."""
        found: dict[tuple[str, str], list[Row]] = {}
        for step in self.steps:
            found.setdefault((step["prompt"], step["role"]), []).append(step)
        return found

    @cached_property
    def summary(self) -> dict[str, Any] | None:
        """None where there is none, or where the run has gone on since and was not summed up again."""
        path = self.path / "summary.json"
        found = with_books(read_summary(path), self.unbalanced) if path.exists() else None
        return found if found and found["num_tokens"] == sum(len(pair.method.tokens) for pair in self.pairs) else None

    @cached_property
    def unbalanced(self) -> str | None:
        """Why its steps do not add up to its records, in one sentence; None if they do, or if it holds no finished prompt."""
        return unbalanced(self.pairs, self.steps)

    def need(self, name: str) -> Path:
        """The path of one of its files. Raises ValueError where it is missing."""
        if not (self.path / name).exists():
            raise ValueError(f"{self.path} holds no {name}; give a folder that draftproof run has written")
        return self.path / name


def read_summary(file: Path, *, as_recorded: bool = False) -> dict[str, Any]:
    """One `summary.json`, under today's names unless it is wanted as it stands.

    Raises ValueError naming the file, the field that is wrong, and what to do.
    """
    found = read_json(file, "the summary of a run", SUMMED_AGAIN)
    fault = misfit(found, SUMMARY, SUMMARY_LATER) or _fault_inside(found)
    if fault is not None:
        raise ValueError(f"{file}: is not the summary of a run ({fault}); {SUMMED_AGAIN}")
    return found if as_recorded else renamed(found)


def _fault_inside(found: dict[str, Any]) -> str | None:
    parts = {"labels": (found["labels"], LABELLED), "config": (found["config"], CONFIG), "provenance": (found["provenance"], PROVENANCE)}
    parts |= {f"by_category.{name}": (part, FIGURES) for name, part in found["by_category"].items()}
    parts |= {f"by_group.{name}": (part, FIGURES) for name, part in (found.get("by_group") or {}).items()}
    faults = ((name, misfit(held, wanted)) for name, (held, wanted) in parts.items())
    return next((f"{name}: {fault}" for name, fault in faults if fault is not None), None)


def read_summaries(paths: list[Path]) -> list[dict[str, Any]]:
    """Every `summary.json` at or below the paths, in the order of their folders. One whose folder does not hold what it sums up is not valid; one
    without records beside it is taken at its word.

    Raises ValueError if there is none or one cannot be read.
    """
    found = []
    for file in summary_files(paths):
        alone = not (file.parent / "records.jsonl").exists()
        found.append(read_summary(file) if alone else with_books(read_summary(file), RunFolder(file.parent).unbalanced))
    return found


def with_books(summary: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """The summary with what `unbalanced` says of its folder: where there is a fault it is not valid. An earlier fault is forgotten."""
    before = summary.get("errors", [])
    errors = [text for text in before if not str(text).startswith(UNBALANCED)] + ([fault] if fault else [])
    if errors == before:
        return summary
    warnings = [text for text in summary["warnings"] if not str(text).startswith(UNBALANCED)]
    return summary | {"valid": not errors, "errors": errors, "warnings": ([fault] if fault else []) + warnings}


def summary_files(paths: list[Path]) -> list[Path]:
    """Where `read_summaries` reads. Raises ValueError if there is nothing."""
    found = [
        file
        for path in paths
        for file in ([path] if path.is_file() or path.name == "summary.json" else sorted(path.rglob("summary.json"), key=natural))
    ]
    if not found:
        raise ValueError(f"no summary.json in {', '.join(map(str, paths))}; run draftproof run first")
    return list(dict.fromkeys(found))


def failures(paths: list[Path]) -> list[str]:
    """Folder and error of every run below the paths that ended in one; of an `error.json` that cannot be read, that it cannot."""
    return [failure(file) for path in paths for file in sorted(path.rglob("error.json"), key=natural)]


def failure(file: Path) -> str:
    """What one `error.json` says."""
    try:
        held = read_json(file, "the error of a run", "remove it, or run the same command again")
    except ValueError as error:
        return str(error)
    return f"{file.parent}: {held.get('error', 'failed, and does not say why')}"


def newest_sweep(root: Path = Path("multirun")) -> Path:
    """The folder of the last sweep, by Hydra's dated names. Raises ValueError if there is none."""
    folders = sorted(path for path in root.glob("*/*") if any(path.rglob("summary.json")))
    if not folders:
        raise ValueError(f"no results in {root}/; name a folder, or run draftproof run -m ... first")
    return folders[-1]


def natural(path: Path) -> list[tuple[int, str]]:
    """Sorts job 10 after job 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in path.parts]


def run_folders(paths: list[Path]) -> list[Path]:
    """Every folder with records at or below the paths, in their order. Raises ValueError for a path that has none."""
    found = []
    for path in paths:
        below = sorted((file.parent for file in path.rglob("records.jsonl")), key=natural)
        if not below:
            raise ValueError(f"{path}: no records.jsonl in it or below; give the folder of a run or of a sweep")
        found += below
    return list(dict.fromkeys(found))
