"""Every sampled run is a test of itself: a witness stands between loop and verifier, and the summary says what bets on the texts have won."""

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.lossless.betting.bets import Bets
from experiments.lossless.betting.sets import NAMES
from experiments.lossless.betting.witness import EMITTED, Witness, sees_drafts
from experiments.recording.files import write_atomically
from spec.interfaces import Drafter, Verifier
from spec.sampling import Sampler
from spec.state import Limits

FILE = "bets.json"
MOST = (
    64_000_000  # numbers of distributions that may wait for the end of an answer: 256 MB in float32. The steps of an answer after that are not bet on
)
LEVEL, POWER = 1e-3, 0.95  # at which a run says how small a bias it would have seen


def witness_of(drafter: Drafter, verifier: Verifier, sampler: Sampler, limits: Limits) -> Witness | None:
    """The witness of a run; None at temperature 0, where nothing is drawn. It judges between answers: timed steps only hand it their
    distributions."""
    if sampler.greedy:
        return None
    return Witness(verifier, limits.eos_ids, sees_drafts(drafter, verifier), judge_drafts=False, most=MOST, in_steps=False)


def save(witness: Witness, folder: Path, prompts: Sequence[str]) -> None:
    """Writes the capital of all bets, and on which prompts it was won, into a run's folder: after the records, so that no answer counts twice."""
    bets = witness.texts
    held = {"sets": NAMES, "contexts": EMITTED, "taken": bets.taken, "impossible": bets.impossible, "highest": bets.highest}
    held |= {"prompts": list(prompts), "log_capital": bets.log_capital.round(decimals=9).tolist()}
    write_atomically(folder / FILE, json.dumps(held | {"digest": digest(held)}) + "\n")


def digest(held: dict[str, Any]) -> str:
    """A hash of everything in `held` but the digest itself."""
    lasting = {name: value for name, value in held.items() if name != "digest"}
    return hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()[:16]


def restore(witness: Witness, folder: Path, recorded: Collection[str]) -> list[str]:
    """Goes on with the bets of a run that was stopped; the prompts that they were won on. Begins anew where there are none, where other sets were bet
    on, or where one of those prompts is not among the recorded ones and so will be decoded again.

    Raises ValueError for a file that is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return []
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["digest"] != digest(held):
            raise ValueError("it is damaged or was edited: it does not add up")
        if (tuple(held["sets"]), tuple(held["contexts"])) != (NAMES, EMITTED) or not set(held["prompts"]) <= set(recorded):
            return []
        bets = Bets(NAMES, EMITTED, int(held["taken"]), int(held["impossible"]), float(held["highest"]))
        capital = torch.tensor(held["log_capital"], dtype=torch.float64)
        if capital.shape != bets.log_capital.shape:
            raise ValueError(f"log_capital has the shape {list(capital.shape)} instead of {list(bets.log_capital.shape)}")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({' '.join(str(error).split())}); remove it, and the bets begin anew") from error
    bets.log_capital = capital
    witness.texts = bets
    return held["prompts"]


def figures(witness: Witness | None) -> dict[str, Any] | None:
    """What a summary says: `e_value` of the capital as it stands, `p_value` valid whenever the run stopped, the bias that would have shown."""
    if witness is None or not witness.texts.taken:
        return None
    bets = witness.texts
    told = {"tokens": bets.taken, "e_value": math.exp(min(bets.log_e_value, 700.0)), "p_value": bets.p_value, "impossible": bets.impossible}
    told |= {"steps_not_bet_on": witness.num_passed}
    return told | {"detectable_tv": bets.detectable(LEVEL, POWER), "won_most_by": " / ".join(part for part in bets.best()[:2] if part)}
