"""Recorded verdicts of the battery, and which of them holds for a run's settings and code.

Imports no other room, as `recording` does not; the battery that makes verdicts is in `lossless`.
"""
