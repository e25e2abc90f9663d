"""Measures time and memory: our ways to decode and others' on the same prompts, forwards, verifiers. `draftproof bench`.

Imports `recording`, `analysis` and `parts`, not the other jobs.
"""
