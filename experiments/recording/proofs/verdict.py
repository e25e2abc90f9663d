"""A recorded verdict: a small JSON that says what was judged, by which code, how hard, and with what result.

`lossless.json`, which the battery writes, holds one under "record"; `experiments/records/verdicts` holds them alone. A file that is damaged, was
edited by hand, or says "pass" of a failed check is refused, so that nothing becomes a proof by accident.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.recording.files import write_atomically
from experiments.recording.proofs.code_hash import battery_hash
from experiments.recording.proofs.settings import Case, key_of, plain

FORMAT = "battery verdict 2"
PASS, FAIL, INCOMPLETE = "pass", "fail", "incomplete"
VERDICTS = (PASS, FAIL, INCOMPLETE)
KEYS = {"format", "settings", "key", "code", "models", "verdict", "checks", "mutants", "effort", "battery", "labels", "provenance", "digest"}
ABOUT = ("date", "versions", "git_commit", "device", "cpu", "dtype")  # what is kept of the circumstances
EFFORT = ("effort", "max_new_tokens", "num_prompts", "prompt_tokens", "table")  # what decides how hard the battery looks
SUFFIX = ".verdict.json"


@dataclass(frozen=True)
class Recorded:
    """A verdict and the file that it was read from."""

    file: Path
    record: dict[str, Any]

    @property
    def verdict(self) -> str:
        return self.record["verdict"]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed, and of the mutants that none of them rejected."""
        return [check["name"] for check in self.record["checks"] if check["verdict"] == FAIL] + self.record["mutants"]["surviving"]


def effort_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """How hard a battery of this configuration looks."""
    return plain({name: config[name] for name in EFFORT if name in config})


def record_of(result: Mapping[str, Any], case: Case) -> dict[str, Any]:
    """The small record of a battery's result, which has its configuration, labels and provenance in it."""
    survivors = [mutant["id"] for mutant in result["mutants"] if not mutant["rejected_by"]]
    found = {
        "format": FORMAT,
        "settings": case.settings,
        "key": case.key,
        "code": case.code,
        "models": case.models,
        "verdict": result["verdict"],
        "checks": [{"name": check["name"], "verdict": check["verdict"]} for check in result["checks"]],
        "mutants": {"run": len(result["mutants"]), "surviving": survivors},
        "effort": effort_of(result["config"]),
        "battery": battery_hash(),
        "labels": {part: label for part, label in result["labels"].items() if part != "data"},
        "provenance": {name: result["provenance"].get(name) for name in ABOUT},
    }
    return found | {"digest": digest(found)}


def digest(record: Mapping[str, Any]) -> str:
    """Changes with every edit of a record."""
    lasting = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


def name_of(record: Mapping[str, Any]) -> str:
    """How tables name this very verdict; 8 hex digits, which stand in its file."""
    return record["digest"][:8]


def read(file: Path) -> Recorded:
    """The verdict in a file. Raises ValueError with one line that names the file and says what is wrong with it."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read as a verdict ({' '.join(str(error).split())}); remove it, or judge again") from error
    if isinstance(held, dict) and {"verdict", "checks"} <= set(held) and "format" not in held:
        held = held.get("record", held)
    if problem := fault(held):
        raise ValueError(f"{file}: {problem}; remove it, or judge again (draftproof lossless)")
    return Recorded(file, held)


def fault(held: Any) -> str | None:
    """What is wrong with a record; None if nothing is."""
    if not isinstance(held, dict) or held.get("format") != FORMAT or set(held) != KEYS:
        return f"is not a verdict of the battery in the form {FORMAT!r}"
    if held["digest"] != digest(held) or held["key"] != key_of(held["settings"], held["models"]):
        return "is damaged or was edited by hand: it does not add up"
    if held["verdict"] not in VERDICTS:
        return f"says {held['verdict']!r}, and a verdict is one of {', '.join(VERDICTS)}"
    told = [check["verdict"] for check in held["checks"]]
    if held["verdict"] == PASS and (PASS not in told or FAIL in told or held["mutants"]["surviving"]):
        return "says pass although its checks do not"
    return None


def file_name(record: Mapping[str, Any]) -> str:
    """One file for each combination of settings and models: a later verdict, on other code, takes its place."""
    named = record["labels"]
    return f"{named['drafter']}-{named['verifier']}-{named['sampling'].replace('=', '')}-{record['key']}{SUFFIX}"


def write(record: Mapping[str, Any], folder: Path) -> Path:
    """Writes a record alone; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / file_name(record), json.dumps(record, indent=2) + "\n")
    return folder / file_name(record)
