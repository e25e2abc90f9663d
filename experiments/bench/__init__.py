"""Measures time and memory: our ways to decode and others' on the same prompts, forwards, verifiers. `python -m experiments.bench`.

Imports `recording`, `analysis` and `parts`, not the other jobs.
"""
