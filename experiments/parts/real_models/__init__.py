"""The models that `spec.converted` knows: listed and fetched by `draftproof models`, and noisy copies of models as their draft models.

Imports what `parts` may import.
"""
