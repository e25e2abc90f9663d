"""How far a distribution depends on the shape of the forward that it comes from, by dtype: `python -m experiments.lossless.slots`.

Imports what `lossless` may import.
"""
