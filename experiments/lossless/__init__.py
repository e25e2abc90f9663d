"""The battery that asks whether an output's distribution is the target's own: `draftproof lossless`.

Beside it `.peers` (others' decoding), `.proofs` (verdicts that are kept), `.slots`, `.families` and `.power`.
Imports `recording`, `analysis` and `parts`.
"""
