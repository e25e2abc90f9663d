"""Training of the models that come with the package: `python -m experiments.training` makes the embedded pair.

Imports `parts`.
"""
