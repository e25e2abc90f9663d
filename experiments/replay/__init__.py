"""What a drafter would do on recorded answers, without running the target: `draftproof replay`, `.replay.distributions`.

Imports `recording`, `analysis` and `parts`, not the other jobs.
"""
