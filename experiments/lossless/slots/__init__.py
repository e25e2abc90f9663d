"""How far a distribution depends on the shape of the forward that it comes from, by dtype: `draftproof slots`.

Imports what `lossless` may import.
"""
