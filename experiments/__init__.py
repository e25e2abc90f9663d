"""Everything around the core: commands that run, check, time and report. One folder per task, in the order that `tests/test_architecture.py` holds.

Imports `spec`, `drafters` and `verifiers`; may be imported by nobody but itself, the tests and the notebooks.
"""
