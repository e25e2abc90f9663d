"""Everything around the core: commands that run, check, time and report. One folder per task, in the order that `tests/test_architecture.py` holds.

Imports `spec`, `drafters` and `verifiers`; may be imported by nobody but itself, the tests and the notebooks.
"""

import sys

from draftproof import lacking, stranger

if problem := stranger() or lacking():
    if sys.argv[:1] == ["-m"]:  # python -m experiments.run, which would go on to a module that is not there
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(problem)
