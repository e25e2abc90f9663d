"""Proofs in a report: which results have one, and what was judged, by which code, how hard, and where the verdict lies."""

import re
from typing import Any

from experiments.analysis.frames import Runs
from experiments.analysis.terminal import Row
from experiments.recording.proofs.proof import LOSSY, REFERENCE, mark_of, reason_of
from experiments.recording.proofs.verdict import name_of
from experiments.report.blocks import Block, Heading, Items, Rows, Text

NAMED = re.compile(r"\b[0-9a-f]{8}\b")  # the name of a verdict in a mark


def proved(runs: Runs) -> list[Block]:
    """How many of the runs are proved exact, and which of them are not meant to be, a sentence each."""
    lossy = [name for name, document in zip(runs.methods, runs.documents, strict=False) if (document.get("proof") or {}).get("verdict") == LOSSY]
    changed = f"The output of these runs does not have the target's distribution, by design: {', '.join(lossy)}."
    return [*_judged(runs), *([Text(changed, "warn")] if lossy else [])]


def _judged(runs: Runs) -> list[Block]:
    told = [document for document in runs.documents if (document.get("proof") or {}).get("verdict") not in (LOSSY, REFERENCE)]
    num_exact = sum(document.get("proof") is not None and document.get("exact") is True for document in told)
    if not told:
        return []
    if num_exact == len(told):
        return [Text("The battery has judged and passed " + ("this combination." if num_exact == 1 else f"all {num_exact} combinations."), "good")]
    return [Text(f"{num_exact} of {len(told)} runs are proved exact on these terms; of the others see the column proof.", "warn")]


def proofs(runs: Runs) -> list[Block]:
    """A row per verdict, and a sentence per run."""
    held = {}
    for document in runs.documents:
        proof = document.get("proof") or {}
        if proof.get("record"):
            held.setdefault(name_of(proof["record"]), (proof["record"], proof["file"]))
    lines = [f"{name}: {mark_of(document)}: {reason_of(document)}" for name, document in zip(runs.methods, runs.documents, strict=False)]
    if not lines:
        return []
    table: list[Block] = [Rows([row_of(*item) for item in held.values()], "Verdicts of the battery.", anchors=True)] if held else []
    return [Heading("Proofs"), *table, Items(lines, folded="Run by run")]


def row_of(record: dict[str, Any], file: str | None) -> Row:
    """One verdict."""
    named, origin, mutants = record["labels"], record["provenance"], record["mutants"]
    told = [f"{check['name']}: {check['verdict']}" for check in record["checks"]]
    caught = f"; {mutants['run'] - len(mutants['surviving'])} of {mutants['run']} mutants rejected" if mutants["run"] else ""
    return {
        "name": name_of(record),
        "verdict": record["verdict"].upper() if record["verdict"] == "fail" else record["verdict"],
        "of": f"{named['drafter']}, {named['verifier']}, {named['sampling']}",
        "on": f"{record['models']['target']['name']}, {origin['dtype']} on {origin['device']}",
        "date": str(origin["date"])[:10],
        "code": f"{record['code']} ({origin['git_commit'] or 'no commit'})",
        "versions": ", ".join(f"{name} {origin['versions'].get(name)}" for name in ("torch", "transformers")),
        "file": file or "-",
        "checks": "; ".join(told) + caught,
    }
