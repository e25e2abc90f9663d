"""Seconds: our ways to decode and others' on the same prompts, forwards, memory, verifiers. `python -m experiments.bench`.

Imports `recording`, `analysis` and `parts`, not the other jobs.
"""
