"""`python -m experiments.lossless.real_size.table [VOCABULARY] [VERIFIER ...]`: the distribution of the next token, of all exact verifiers or those
named.

One line for each kind of draft: TV from plain decoding's own row, float32; "-" where the verifier refuses the draft. Default: 262,144 tokens.
"""

import sys

import torch

from experiments.analysis.terminal import render
from experiments.lossless.checks.real_vocabulary import look
from experiments.lossless.real_size.rows import VOCABULARY, cases
from experiments.parts.build import exact_verifiers
from spec.sampling import Sampler


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    every = exact_verifiers()
    sizes = [int(word) for word in sys.argv[1:2] if word.isdigit()]
    vocabulary = sizes[0] if sizes else VOCABULARY
    chosen = sys.argv[1 + len(sizes) :] or list(every)
    if unknown := [name for name in chosen if name not in every]:
        sys.exit(f"error: no exact verifier {', '.join(unknown)}; there are {', '.join(every)}")
    table: dict[str, dict[str, str]] = {}
    for name in chosen:
        for case in cases(every[name], greedy=False, thorough=True, vocabulary=vocabulary):
            tv = look(case, every[name], Sampler()).tv
            table.setdefault(case.name, {})[name] = "-" if tv is None else f"{tv:.1e}"
    render(
        [{"draft": draft, **{name: row.get(name, "") for name in chosen}} for draft, row in table.items()],
        title=f"TV from plain decoding, {vocabulary} words",
    )


if __name__ == "__main__":
    main()
