"""The battery's answers as tables: of one run, and of several together with Holm's correction for their number."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.analysis.tables import PARTS
from experiments.analysis.terminal import number, render
from experiments.lossless.battery import INCOMPLETE
from experiments.lossless.checks.frequencies import holm
from experiments.lossless.subject import FAIL, NOT_APPLICABLE, NOT_RUN, PASS
from experiments.recording.proofs.verdict import name_of


def report(result: dict[str, Any], folder: Path) -> None:
    """Prints a run: its checks, which check rejects which mutant, the verdict."""
    origin, named = result["provenance"], result["labels"]
    title = ", ".join(f"{part} {named[part]}" for part in PARTS) + f"; {origin['dtype']} on {origin['device']}, {origin['date'][:10]}"
    render([check_row(check) for check in result["checks"]], title=title)
    if result["mutants"]:
        print()
        render(mutant_rows(result["mutants"]))
        survivors = [mutant["id"] for mutant in result["mutants"] if not mutant["rejected_by"]]
        left = f"; NOT rejected: {', '.join(survivors)}" if survivors else ""
        print(f"{len(result['mutants']) - len(survivors)} of {len(result['mutants'])} mutants are rejected{left}")
    print(f"\nverdict: {result['verdict']} ({name_of(result['record'])}, for code {result['record']['code']})\nresults in {folder}", flush=True)


def check_row(check: dict[str, Any]) -> dict[str, str]:
    return {
        "check": check["name"],
        "verdict": check["verdict"].upper() if check["verdict"] in ("fail", NOT_RUN) else check["verdict"],
        "TV": small(check["tv"]),
        "detectable TV": small(check["detectable_tv"]),
        "p": small(check["p_value"]),
        "what was found": check["detail"],
    }


def mutant_rows(mutants: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """A row per check: the mutants that it rejects."""
    names = dict.fromkeys(name for mutant in mutants for name in mutant["rejected_by"])
    return [{"rejected by": name, "mutants": " ".join(mutant["id"] for mutant in mutants if name in mutant["rejected_by"])} for name in names]


def small(value: float | None) -> str:
    """A number of any size in three digits."""
    return number(value) if value is None else f"{value:.3g}"


def holm_report(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every run at or below the folders, its statistical checks judged by Holm's procedure, each p-value in units of its own check's alpha.

    Raises ValueError where there is none or one cannot be read.
    """
    files = [file for folder in folders for file in ([folder] if folder.is_file() else sorted(folder.rglob("lossless.json")))]
    if not files:
        raise ValueError(f"no lossless.json in {', '.join(map(str, folders)) or 'no folder'}; run draftproof lossless first")
    runs = [_read(file) for file in files]
    tests = [check for run in runs for check in run["checks"] if check["p_value"] is not None]
    for check, rejected in zip(tests, holm([check["p_value"] / check["alpha"] for check in tests], 1.0), strict=True):
        check["verdict"] = "fail" if rejected else NOT_RUN if check["verdict"] == NOT_RUN else "pass"
    for run in runs:
        faulty = any(check["verdict"] == "fail" for check in run["checks"]) or any(not mutant["rejected_by"] for mutant in run["mutants"])
        complete = any(check["verdict"] == "pass" for check in run["checks"]) and all(check["verdict"] != NOT_RUN for check in run["checks"])
        unproved = run["verdict"] == FAIL and not run["mutants"] and run["config"]["effort"]["mutants"]  # acquitted now; its mutants were never run
        run["verdict"] = FAIL if faulty else PASS if complete and not unproved else INCOMPLETE
    return runs


def print_holm(runs: Sequence[dict[str, Any]]) -> None:
    """A row per run."""
    num_tests = sum(check["p_value"] is not None for run in runs for check in run["checks"])
    rows = []
    for run in runs:
        p_values = [check["p_value"] for check in run["checks"] if check["p_value"] is not None]
        failed = [check["name"] for check in run["checks"] if check["verdict"] == "fail"]
        row = {part: run["labels"][part] for part in PARTS}
        rows.append(row | {"smallest p": small(min(p_values, default=None)), "failed": ", ".join(failed) or "-", "verdict": run["verdict"]})
    print()
    render(rows, title=f"{len(runs)} runs, {num_tests} statistical checks judged together (Holm)")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        assert {"verdict", "checks", "mutants", "labels", "config"} <= set(found)
        for check in found["checks"]:
            assert check["verdict"] in (PASS, FAIL, NOT_APPLICABLE, NOT_RUN)
            assert isinstance(check["name"], str)
            assert check["p_value"] is None or (0 <= check["p_value"] <= 1 and 0 < check["alpha"] < 1)
        assert all(isinstance(mutant["rejected_by"], list) for mutant in found["mutants"])
        assert all(isinstance(found["labels"][part], str) for part in PARTS)
        assert isinstance(found["config"]["effort"]["mutants"], bool)
    except (OSError, ValueError, AssertionError, TypeError, KeyError) as error:
        raise ValueError(f"{file}: is not the result of a battery; leave it out or run it again") from error
    return found
