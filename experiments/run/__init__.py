"""The main job: `draftproof run`, and what works on its folders: `.run.held_out`, `.run.track`.

Imports `recording`, `analysis`, `parts`, and `lossless`, since a run may ask for its own proof and bets on its own texts.
"""
