"""What a summary says of its proof: the battery's verdict for exactly this drafter, verifier, sampling and code, or why there is none.

Only a pass on the same terms makes a result `exact`. A verifier's own word (`claims_exact`) never does.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.recording.proofs.lookup import Asked, Found, candidates, why_none
from experiments.recording.proofs.verdict import FAIL, PASS, Recorded, name_of

NOT_JUDGED, LOSSY, REFERENCE, PEER = "not judged", "lossy", "reference", "peer"
PLAIN = ("drafters.none.NoDraft", "verifiers.recursive.Recursive")  # plain decoding, the baseline of every run


@dataclass(frozen=True)
class Proof:
    """`verdict`: pass, fail, incomplete, or one of the words above. `mark` is what tables show, `reason` one sentence that explains it."""

    verdict: str
    mark: str
    reason: str
    claims_exact: bool = True
    found: Found | None = None
    file: str | None = None  # of the verdict, relative to the run's folder where it lies in the same sweep
    asked: bool = False  # certify=true
    settled: bool = False  # the battery would only repeat itself: this was judged on all of the present terms, or there is nothing to judge

    @property
    def exact(self) -> bool | None:
        """True only with a pass on the same terms; False where the distribution is changed by design or the proof failed; None where nobody knows."""
        if self.verdict == LOSSY or self.disproved:
            return False
        return True if self.verdict == PASS and self.found and not self.found.differences else None

    @property
    def disproved(self) -> bool:
        """Whether these very settings, code and models were judged and failed."""
        return self.verdict == FAIL and self.found is not None and self.found.same_models

    def to_json(self) -> dict[str, Any]:
        """The entry `proof` of a summary, with the whole record in it, so that a summary alone says what was judged."""
        record = self.found.recorded.record if self.found else None
        differs = [item.long for item in self.found.differences] if self.found else []
        told = {"verdict": self.verdict, "mark": self.mark, "reason": self.reason, "differs": differs, "disproved": self.disproved}
        return told | {"asked": self.asked, "file": self.file, "record": record}


def without_verdict(reason: str, claims_exact: bool = True) -> Proof:
    """The proof of a run without a verdict."""
    word = NOT_JUDGED if claims_exact else LOSSY
    return Proof(word, word, reason, claims_exact, settled=not claims_exact)


def prove(asked: Asked, held: Sequence[Recorded], claims_exact: bool, folder: Path) -> Proof:
    """The proof of a run that is recorded in `folder`; `held` are the verdicts among which it is looked for."""
    settings = asked.case.settings
    if not claims_exact:
        return without_verdict("the verifier changes the target's distribution by design and says so", claims_exact=False)
    if (settings["drafter"].get("_target_"), settings["verifier"].get("_target_")) == PLAIN:
        return Proof(REFERENCE, "the reference itself", "plain decoding, with which every method is compared", settled=True)
    if asked.codes - {asked.case.code}:
        reason = "more than one version of the code made the records (allow_code_change=true), so no verdict holds for all of them"
        return replace(without_verdict(reason), settled=True)
    found = candidates(asked, held)
    if not found:
        return without_verdict(why_none(asked, held))
    return replace(proof_of(found[0], folder), settled=any(item.same_terms and item.enough for item in found))


def proof_of(found: Found, folder: Path) -> Proof:
    """The proof by a verdict that was found."""
    record = found.recorded.record
    verdict, differ = found.recorded.verdict, [item.short for item in found.differences]
    shown = f"{verdict.upper() if verdict == FAIL else verdict} {name_of(record)}"
    mark = f"{shown} ({', '.join(differ)})" if differ else shown
    return Proof(verdict, mark, _reason(found), True, found, _place(found.recorded.file, folder))


def _reason(found: Found) -> str:
    record = found.recorded.record
    told = [f"the battery's verdict of {str(record['provenance']['date'])[:10]} is {found.recorded.verdict}"]
    if found.recorded.failed:
        told.append(f"failed: {', '.join(found.recorded.failed)}")
    return "; ".join([*told, *(item.long for item in found.differences)])


def _place(file: Path, folder: Path) -> str:
    """Relative inside the run's folder, its sweep or the package, so that a folder can be moved; absolute elsewhere."""
    file, folder, package = file.resolve(), folder.resolve(), Path(__file__).resolve().parents[3]
    for root, start in ((folder.parent, folder), (package / "experiments" / "records", package)):
        if file.is_relative_to(root):
            return Path(os.path.relpath(file, start)).as_posix()
    return file.as_posix()


def mark_of(summary: Mapping[str, Any]) -> str:
    """What a table shows of a run; summaries made before there were proofs have no verdict."""
    return (summary.get("proof") or {}).get("mark") or NOT_JUDGED


def reason_of(summary: Mapping[str, Any]) -> str:
    return (summary.get("proof") or {}).get("reason") or "the run was recorded before verdicts were; the same command again looks for one"


def unproved(summary: Mapping[str, Any]) -> bool:
    """Whether a run must end with exit code 1: its proof failed, or one was asked for (certify=true) and there is none that holds."""
    proof = summary.get("proof") or {}
    lacking = proof.get("asked") and proof["verdict"] not in (PASS, LOSSY, REFERENCE)
    return bool(proof.get("disproved") or lacking)
