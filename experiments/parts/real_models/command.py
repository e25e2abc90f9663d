"""`draftproof models`: lists the models that have a name and those that were converted; `--fetch NAME ...` fetches and converts some.

Exit codes: 0 done, 2 a model cannot be fetched, or a name or a folder is wrong.
"""

import sys
from argparse import Namespace
from difflib import get_close_matches

from transformers.utils.logging import disable_progress_bar

from experiments.analysis.terminal import Row, render
from spec.converted import PUBLISHED, State, fetched, states
from spec.converted.published import megabytes


def execute(options: Namespace) -> int:
    """Fetches or lists. Raises ValueError, before anything is fetched, for a name that is not known, and where a model cannot be fetched."""
    for name in options.fetch:
        _check_known(name)
    words = {model.accept for model in PUBLISHED.values() if model.accept}
    if odd := sorted(set(options.accept) - words):
        raise ValueError(f"--accept {odd[0]}: there are no such terms; give {', '.join(sorted(words))}")
    if options.wheels is not None and not options.wheels.is_dir():
        raise ValueError(f"--wheels {options.wheels} is no folder; give the folder that the wheels lie in")
    if not sys.stderr.isatty():
        disable_progress_bar()
    for name in options.fetch:
        print(f"{name}: {fetched(name, frozenset(options.accept), options.wheels)}")
    if not options.fetch:
        render([row_of(state) for state in states()])
        print("use one by target=smollm2, drafter.name=smollm2 or target.name=FILE.gguf; remove one by removing its folder")
    return 0


def row_of(state: State) -> Row:
    license = " ".join((state.license, state.terms)).strip()
    return {"name": state.name, "state": state.state, "size": megabytes(state.size), "license": license, "folder": str(state.path)}


def _check_known(name: str) -> None:
    if name not in PUBLISHED:
        near = get_close_matches(name, PUBLISHED, 1)
        raise ValueError(f"unknown model {name!r}{f'; did you mean {near[0]!r}?' if near else ';'} Known: {', '.join(PUBLISHED)}")
