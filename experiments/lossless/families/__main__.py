"""`python -m experiments.lossless.families` tries every type and writes docs/models.md; with names of types it tries those and writes nothing.

Takes some minutes on one core. The exit code is 1 where anything is wrong or crashes.
"""

import sys
import warnings
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import torch
import transformers

from experiments.lossless.families.judge import CRASH, WRONG, find
from experiments.lossless.families.page import PAGE, Trial, page, totals
from experiments.lossless.families.tiny import model_types
from experiments.lossless.families.variants import VARIANTS


def trials(names: Sequence[str] = ()) -> Iterator[Trial]:
    """One after another; `names` of types, none: all. Raises ValueError for a type that transformers does not know as a causal LM."""
    known = model_types()
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, 3)) or "llama, qwen3, phi3 and others"
            raise ValueError(f"{name!r} is no causal LM of transformers {transformers.__version__}; there are {near}; give none for all {len(known)}")
    for name in names or known:
        yield Trial(name, find(name))
    for variant in VARIANTS:
        if not names or variant.model_type in names:
            yield Trial(variant.model_type, find(variant.model_type, variant.settings, variant.context), variant)


def main(names: Sequence[str]) -> int:
    torch.set_num_threads(1)  # tiny products
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")  # of classes that are tried in ways they were not made for
    found = []
    for trial in trials(names):
        found.append(trial)
        print(trial.row(), "" if trial.finding.gap is None else f"{trial.finding.gap:.0e}", flush=True)
    print(totals([trial for trial in found if trial.variant is None]))
    if not names:
        PAGE.write_text(page(found), encoding="utf-8")
        print(f"written: {PAGE}")
    return int(any(trial.finding.verdict in (WRONG, CRASH) for trial in found))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(str(error))
